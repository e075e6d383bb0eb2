//! Whether the runs of a plan can be believed: the control was clean, each busted form was caught.

use super::plan::Role;
use super::runs::{DoneRun, Runs, unsound};

/// What became of each run, and whether that is enough.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Validity {
    /// Each run's name and what the checks said of it, in the order of the plan.
    pub checks: Vec<(&'static str, String)>,
    /// Why the experiment says nothing; empty where it is valid.
    pub problems: Vec<String>,
}

impl Validity {
    /// Looks at every run.
    #[must_use]
    pub fn of(runs: &Runs) -> Self {
        let mut validity = Self::default();
        for run in &runs.0 {
            let (check, passed) = check(run);
            if !passed {
                let problem = format!("{} {}", run.planned.name, check);
                validity.problems.push(problem);
            }
            validity.checks.push((run.planned.name, check));
        }
        validity
    }

    /// Whether the answer can be believed.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        self.problems.is_empty()
    }
}

/// What the checks said of `run`, and whether that is what must be.
fn check(run: &DoneRun) -> (String, bool) {
    match run.planned.role {
        Role::Control => match unsound(&run.record) {
            None => ("clean".to_owned(), true),
            Some(why) => (format!("not clean: {why}"), false),
        },
        // An unsound run of the right form is for the judge: it may be the answer.
        Role::Good => match unsound(&run.record) {
            None => ("sound".to_owned(), true),
            Some(why) => (format!("not sound: {why}"), true),
        },
        Role::Busted(..) => match caught(run) {
            Some(finding) => (format!("caught: {finding}"), true),
            None => (not_caught(run), false),
        },
    }
}

/// What the checker meant for the busted form `run` said; `None` if it did not speak up.
#[must_use]
pub fn caught(run: &DoneRun) -> Option<String> {
    match run.planned.role {
        Role::Busted(checkers, _) => checkers
            .iter()
            .find_map(|checker| checker.finding(&run.record)),
        Role::Control | Role::Good => None,
    }
}

fn not_caught(run: &DoneRun) -> String {
    let attempts = match run.attempts {
        1 => "1 attempt".to_owned(),
        attempts => format!("{attempts} attempts"),
    };
    let ended = unsound(&run.record).unwrap_or_else(|| "nothing was found wrong".to_owned());
    format!("not caught by the check meant for it in {attempts}, at last {ended}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::claims::plan::{Checker, PlannedRun};
    use crate::record::{Ending, RunRecord};
    use crate::test_record::{test_record, test_report};
    use underfoot_abi::ReportKind;

    const CHECKERS: &[Checker] = &[
        Checker::Report(ReportKind::LockCycle),
        Checker::Integrity("audit"),
    ];

    fn done(planned: PlannedRun, change: impl FnOnce(&mut RunRecord)) -> DoneRun {
        let mut record = test_record();
        change(&mut record);
        DoneRun {
            planned,
            record,
            attempts: 1,
        }
    }

    fn clean(_: &mut RunRecord) {}

    fn lost(record: &mut RunRecord) {
        record.integrity.errors = 1;
        record.integrity.details = vec!["audit: 1 update lost".into()];
    }

    fn stale(record: &mut RunRecord) {
        record.integrity.errors = 1;
        record.integrity.details = vec!["limbo: 1 stale write".into()];
    }

    fn hung(record: &mut RunRecord) {
        record.outcome.ending = Ending::Watchdog;
        record.outcome.message = Some("vCPU 1 got nowhere for 5 s".into());
    }

    fn hung_after_report(record: &mut RunRecord) {
        hung(record);
        record.guest.reports = vec![test_report(0, ReportKind::LockCycle)];
        record.guest.reports_before_end = 1;
    }

    fn hung_before_report(record: &mut RunRecord) {
        hung_after_report(record);
        record.guest.reports_before_end = 0;
    }

    #[test]
    fn each_role_has_its_own_idea_of_right() {
        type Change = fn(&mut RunRecord);
        let control = PlannedRun::control("run", &[]);
        let good = PlannedRun::good("run", &[]);
        let busted = PlannedRun::busted("run", &[], CHECKERS, 1);
        let cases: [(PlannedRun, Change, bool, &str); 11] = [
            (control, clean, true, "clean"),
            (control, lost, false, "not clean: done: audit"),
            (control, hung, false, "not clean: watchdog: vCPU 1"),
            (good, clean, true, "sound"),
            (good, lost, true, "not sound: done: audit"),
            (busted, clean, false, "nothing was found wrong"),
            (busted, lost, true, "caught: audit: 1 update lost"),
            (busted, stale, false, "not caught by the check meant for it"),
            (
                busted,
                hung,
                false,
                "in 1 attempt, at last watchdog: vCPU 1",
            ),
            (
                busted,
                hung_after_report,
                true,
                "caught: lock-cycle on CPU 1",
            ),
            (busted, hung_before_report, false, "not caught"),
        ];
        for (planned, change, valid, part) in cases {
            let validity = Validity::of(&Runs(vec![done(planned, change)]));
            let (_, said) = &validity.checks[0];
            assert_eq!(validity.is_valid(), valid, "{:?}: {said}", planned.role);
            assert!(said.contains(part), "{part} not in {said}");
            assert_eq!(validity.problems.len(), usize::from(!valid));
        }
    }

    #[test]
    fn one_bad_run_is_enough() {
        let runs = Runs(vec![
            done(PlannedRun::control("a", &[]), clean),
            done(PlannedRun::busted("b", &[], CHECKERS, 1), clean),
        ]);
        let validity = Validity::of(&runs);
        assert!(!validity.is_valid());
        assert_eq!(validity.checks.len(), 2);
        assert!(validity.problems[0].starts_with("b not caught"));
    }
}
