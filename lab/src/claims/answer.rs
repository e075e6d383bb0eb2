//! A question, its plan and its runs, put together.

use super::conduct::Stop;
use super::plan::{Answer, Plan, Verdict};
use super::question::Question;
use super::runs::{Measured, Runs};
use super::validity::Validity;
use crate::error::{Error, chain};
use std::path::PathBuf;

/// What is said where nobody has built the experiment yet.
const NO_EXPERIMENT: &str = "there is no experiment for this question yet";

/// What the project says to one question.
#[derive(Debug)]
pub struct Claim {
    /// The question.
    pub question: &'static Question,
    /// The criterion; `None` where there is no experiment.
    pub criterion: Option<&'static str>,
    /// The answer and why.
    pub verdict: Verdict,
    /// What became of each run, and whether that is enough; `None` where not all were done.
    pub validity: Option<Validity>,
    /// What was measured.
    pub measured: Measured,
    /// The directory with the run directories; `None` where nothing was run.
    pub directory: Option<PathBuf>,
    /// What the host lacks for it.
    pub lacking: Option<Error>,
}

impl Claim {
    /// A question without an experiment.
    #[must_use]
    pub fn without_experiment(question: &'static Question) -> Self {
        Self {
            question,
            criterion: None,
            verdict: Verdict::new(Answer::Unmeasurable, NO_EXPERIMENT),
            validity: None,
            measured: Measured::default(),
            directory: None,
            lacking: None,
        }
    }

    /// Holds the runs against the criterion. Where they cannot be believed, there is no answer,
    /// whatever they say.
    #[must_use]
    pub fn of_runs(
        question: &'static Question,
        plan: &Plan,
        runs: &Runs,
        directory: PathBuf,
    ) -> Self {
        let validity = Validity::of(runs);
        let mut measured = Measured::default();
        let judged = (plan.judge)(runs, &mut measured);
        let verdict = if validity.is_valid() {
            judged.unwrap_or_else(|missing| Verdict::inconclusive(missing.to_string()))
        } else {
            Verdict::inconclusive(format!("not valid: {}", validity.problems.join("; ")))
        };
        Self {
            question,
            criterion: Some(plan.criterion),
            verdict,
            validity: Some(validity),
            measured,
            directory: Some(directory),
            lacking: None,
        }
    }

    /// A plan whose runs were not all done.
    #[must_use]
    pub fn stopped(
        question: &'static Question,
        plan: &Plan,
        stop: Stop,
        directory: PathBuf,
    ) -> Self {
        let (verdict, lacking) = match stop {
            Stop::Lacking(error) => {
                let reason = format!("this host lacks something: {}", chain(&error));
                (Verdict::new(Answer::Unmeasurable, reason), Some(error))
            }
            Stop::Failed(error) => (Verdict::inconclusive(chain(&error)), None),
            Stop::Interrupted => (Verdict::inconclusive("interrupted by a signal"), None),
        };
        Self {
            question,
            criterion: Some(plan.criterion),
            verdict,
            validity: None,
            measured: Measured::default(),
            directory: Some(directory),
            lacking,
        }
    }

    /// Whether the control was clean and every busted form was caught.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        self.validity.as_ref().is_some_and(Validity::is_valid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::claims::plan::{Checker, PlannedRun};
    use crate::claims::question::QUESTIONS;
    use crate::claims::runs::{DoneRun, Missing};
    use crate::test_record::test_record;

    const RUNS: &[PlannedRun] = &[
        PlannedRun::control("still", &[]),
        PlannedRun::good("moving", &[]),
        PlannedRun::busted("busted", &[], &[Checker::Integrity("audit")], 1),
    ];

    fn judge(runs: &Runs, measured: &mut Measured) -> Result<Verdict, Missing> {
        measured.set("moving.checked", runs.record("moving")?.integrity.checked);
        let errors = runs.record("moving")?.integrity.errors;
        if errors == 0 {
            runs.sound("moving")?;
        }
        Ok(Verdict::yes_if(errors == 0, format!("{errors} errors")))
    }

    const PLAN: Plan = Plan {
        id: "Q1a",
        criterion: "yes without errors",
        common: &[],
        runs: RUNS,
        judge,
    };

    /// The claim where each run has so many errors, found by the audit.
    fn claim(errors: [u64; 3]) -> Claim {
        let done = RUNS.iter().zip(errors).map(|(planned, errors)| {
            let mut record = test_record();
            record.integrity.errors = errors;
            if errors > 0 {
                record.integrity.details = vec![format!("audit: {errors} lost")];
            }
            DoneRun {
                planned: *planned,
                record,
                attempts: 1,
            }
        });
        Claim::of_runs(&QUESTIONS[0], &PLAN, &Runs(done.collect()), "runs/x".into())
    }

    #[test]
    fn only_runs_that_can_be_believed_answer() {
        for (errors, valid, answer, reason) in [
            ([0, 0, 1], true, Answer::Yes, "0 errors"),
            ([0, 2, 1], true, Answer::No, "2 errors"),
            ([0, 0, 0], false, Answer::Inconclusive, "busted not caught"),
            ([1, 0, 1], false, Answer::Inconclusive, "still not clean"),
        ] {
            let claim = claim(errors);
            assert_eq!(claim.is_valid(), valid, "{errors:?}");
            assert_eq!(claim.verdict.answer, answer, "{errors:?}");
            assert!(claim.verdict.reason.contains(reason), "{:?}", claim.verdict);
            assert_eq!(claim.measured.to_json()["moving.checked"], 1_234_567);
        }
    }

    #[test]
    fn a_judge_that_misses_something_does_not_decide() {
        let missing = |_: &Runs, _: &mut Measured| Err(Missing("no figures".into()));
        let plan = Plan {
            judge: missing,
            ..PLAN
        };
        let runs = Runs(vec![]);
        let claim = Claim::of_runs(&QUESTIONS[0], &plan, &runs, "runs/x".into());
        let expected = Verdict::inconclusive("no figures");
        assert_eq!(claim.verdict, expected);
    }

    #[test]
    fn what_was_not_run_is_not_valid() {
        let none = Claim::without_experiment(&QUESTIONS[0]);
        let lacking = Stop::Lacking(Error::Unsupported("no KVM".into()));
        let lacking = Claim::stopped(&QUESTIONS[0], &PLAN, lacking, "runs/x".into());
        let ended = Claim::stopped(&QUESTIONS[0], &PLAN, Stop::Interrupted, "runs/x".into());
        for (claim, answer) in [
            (none, Answer::Unmeasurable),
            (lacking, Answer::Unmeasurable),
            (ended, Answer::Inconclusive),
        ] {
            assert!(!claim.is_valid());
            assert_eq!(claim.verdict.answer, answer, "{claim:?}");
        }
    }
}
