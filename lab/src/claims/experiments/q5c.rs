//! Q5c: the lock of a page-table list, taken by callbacks after the address space is gone.

use super::fragments;
use crate::claims::plan::{Flags, Plan, PlannedRun, Verdict};
use crate::claims::runs::{Measured, Missing, Runs};
use crate::human;
use crate::settings::Key;
use underfoot_abi::RecordedPhase::Moving;

const COMMON: Flags = &[
    (Key::Workload, "exit"),
    (Key::Parameters, "free=deferred"),
    (Key::Cpus, "2"),
    (Key::Duration, "4s"),
];

const RUNS: &[PlannedRun] = &[
    PlannedRun::control("none", &[(Key::Strategy, "none")]),
    PlannedRun::good("type-stable", &[]),
    PlannedRun::busted(
        "busted-owner-gone",
        &[(Key::Variant, "busted-owner-gone")],
        fragments::CAUGHT,
        1,
    ),
];

/// Address spaces that must have gone well.
const LEAST_SPACES: u64 = 100;

/// The experiment.
pub const PLAN: Plan = Plan {
    id: "Q5c",
    criterion: "yes if, while pages moved, at least 100 address spaces exited whose page tables were \
                freed by callbacks after them, and no check failed; inconclusive below that",
    common: COMMON,
    runs: RUNS,
    judge,
};

fn judge(runs: &Runs, measured: &mut Measured) -> Result<Verdict, Missing> {
    if let Some(verdict) = fragments::told_otherwise(runs, "type-stable")? {
        return Ok(verdict);
    }
    let spaces = runs.counter("type-stable", Moving, "operations")?;
    let pending = fragments::mean(runs, "type-stable", Moving, "pending-tables")?;
    measured.set("type-stable.spaces", spaces);
    measured.set("type-stable.mean_pending_tables", pending);
    let reason = format!(
        "{} address spaces exited, {pending:.0} tables of earlier ones pending at a time, and \
         nothing was found wrong",
        human::count(spaces)
    );
    if spaces < LEAST_SPACES || pending < 1.0 {
        return Ok(Verdict::inconclusive(reason));
    }
    Ok(Verdict::yes_if(true, reason))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::claims::plan::Answer;
    use crate::claims::runs::test_runs;

    #[test]
    fn callbacks_must_outlive_spaces_and_find_nothing_wrong() {
        for (spaces, pending, wrong, answer) in [
            (100, 100, "", Answer::Yes),
            (99, 100, "", Answer::Inconclusive),
            (100, 9, "", Answer::Inconclusive),
            (100, 100, "type-stable", Answer::No),
        ] {
            let runs = test_runs(RUNS, |run, record| {
                record.guest.moving.insert("operations", spaces);
                record.guest.moving.insert("table-samples", 10);
                record.guest.moving.insert("pending-tables", pending);
                if run == wrong {
                    fragments::test_finding(record);
                }
            });
            let verdict = judge(&runs, &mut Measured::default());
            assert_eq!(verdict.expect("all is there").answer, answer);
        }
    }
}
