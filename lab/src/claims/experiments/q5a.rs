//! Q5a: page tables of half a page, freed by RCU, whose halves share one callback head.

use super::fragments;
use crate::claims::plan::{Flags, Plan, PlannedRun, Verdict};
use crate::claims::runs::{Measured, Missing, Runs};
use crate::human;
use crate::settings::Key;
use underfoot_abi::RecordedPhase::Moving;

const COMMON: Flags = &[
    (Key::Workload, "mmap1"),
    (Key::Parameters, "tables=fragments"),
    (Key::Cpus, "2"),
    (Key::Duration, "4s"),
];

const RUNS: &[PlannedRun] = &[
    PlannedRun::control("none", &[(Key::Strategy, "none")]),
    PlannedRun::good("mmap1", &[]),
    PlannedRun::good("exit", &[(Key::Workload, "exit")]),
    PlannedRun::busted(
        "busted-no-pending-check",
        &[(Key::Variant, "busted-no-pending-check")],
        fragments::CAUGHT,
        1,
    ),
    PlannedRun::busted(
        "busted-freed-listed",
        &[(Key::Variant, "busted-freed-listed")],
        fragments::CAUGHT,
        3,
    ),
];

/// Halves reused beside a pending one that must have gone well.
const LEAST_BESIDE_PENDING: u64 = 1_000;

/// The experiment.
pub const PLAN: Plan = Plan {
    id: "Q5a",
    criterion: "yes if, while pages moved, no check of a page table failed in mmap1 and exit, and at \
                least 1,000 halves of pages were reused while the other half waited for its grace \
                period; inconclusive below that",
    common: COMMON,
    runs: RUNS,
    judge,
};

fn judge(runs: &Runs, measured: &mut Measured) -> Result<Verdict, Missing> {
    let mut beside_pending = 0;
    for run in ["mmap1", "exit"] {
        if let Some(verdict) = fragments::told_otherwise(runs, run)? {
            return Ok(verdict);
        }
        for counter in ["changes", "tables-reused", "reused-beside-pending"] {
            let value = runs.counter(run, Moving, counter)?;
            measured.set(format!("{run}.{counter}"), value);
        }
        beside_pending += runs.counter(run, Moving, "reused-beside-pending")?;
    }
    let reason = format!(
        "{} halves were reused while the other half was pending, and nothing was found wrong",
        human::count(beside_pending)
    );
    if beside_pending < LEAST_BESIDE_PENDING {
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
    fn reuse_beside_pending_halves_must_go_well() {
        for (each, wrong, answer) in [
            (500, "", Answer::Yes),
            (499, "", Answer::Inconclusive),
            (500, "exit", Answer::No),
            (500, "mmap1", Answer::No),
        ] {
            let runs = test_runs(RUNS, |run, record| {
                for counter in ["changes", "tables-reused", "reused-beside-pending"] {
                    record.guest.moving.insert(counter, each);
                }
                if run == wrong {
                    fragments::test_finding(record);
                }
            });
            let verdict = judge(&runs, &mut Measured::default());
            assert_eq!(verdict.expect("all is there").answer, answer);
        }
    }
}
