//! Q2d: the race that RCU does not cover: a table lands in one that is about to be freed.

use super::fault_paths::{CAUGHT, NO_VMA_LOCK};
use crate::claims::plan::{Answer, Flags, Plan, PlannedRun, Verdict};
use crate::claims::runs::{Measured, Missing, Runs, unsound};
use crate::human;
use crate::settings::Key;
use underfoot_abi::RecordedPhase::Moving;

const COMMON: Flags = &[
    (Key::Workload, "mmap1"),
    (Key::Cpus, "2"),
    (Key::Duration, "4s"),
    (Key::Parameters, "path=vma-lock"),
];

const RUNS: &[PlannedRun] = &[
    PlannedRun::control("none", &[(Key::Strategy, "none")]),
    PlannedRun::good("fragments", &[]),
    PlannedRun::good("whole", &[(Key::Parameters, "path=vma-lock,tables=whole")]),
    PlannedRun::busted("busted-no-vma-lock", NO_VMA_LOCK, CAUGHT, 3),
];

/// Regions torn down beside a neighbour, below which a clean run says little.
const LEAST_CHANGES: u64 = 1_000;

/// The experiment.
pub const PLAN: Plan = Plan {
    id: "Q2d",
    criterion: "yes if, with the VMA locked in fault and teardown, no entry was found in a freed \
                table and nothing else was wrong; no if there was; inconclusive below 1,000 \
                regions torn down or 1,000 faults under a VMA's lock in a run",
    common: COMMON,
    runs: RUNS,
    judge,
};

fn judge(runs: &Runs, measured: &mut Measured) -> Result<Verdict, Missing> {
    let mut fewest = [u64::MAX; 2];
    for run in ["fragments", "whole"] {
        if let Some(why) = unsound(runs.record(run)?) {
            return Ok(Verdict::new(Answer::No, format!("{run}: {why}")));
        }
        for (fewest, counter) in fewest.iter_mut().zip(["changes", "vma-lock"]) {
            let value = runs.counter(run, Moving, counter)?;
            measured.set(format!("{run}.{counter}"), value);
            *fewest = value.min(*fewest);
        }
        let checked = runs.record(run)?.integrity.checked;
        measured.set(format!("{run}.checked"), checked);
    }
    let [changes, faults] = fewest;
    if changes < LEAST_CHANGES || faults < LEAST_CHANGES {
        let reason = format!("only {changes} regions torn down and {faults} faults in a run");
        return Ok(Verdict::inconclusive(reason));
    }
    let reason = format!(
        "nothing was wrong with at least {} regions torn down beside a neighbour and {} faults \
         under a VMA's lock in each run; without the lock an entry landed in a freed table",
        human::count(changes),
        human::count(faults),
    );
    Ok(Verdict::new(Answer::Yes, reason))
}

#[cfg(test)]
mod tests {
    use super::super::fault_paths::test;
    use super::*;

    fn answer(changes: u64, faults: u64, errors: u64) -> Answer {
        let mut runs = test::runs(&PLAN, |_| 1);
        for done in &mut runs.0 {
            done.record.guest.moving.insert("changes", changes);
            done.record.guest.moving.insert("vma-lock", faults);
            if done.planned.name == "whole" {
                done.record.integrity.errors = errors;
            }
        }
        let verdict = judge(&runs, &mut Measured::default());
        verdict.expect("all is there").answer
    }

    #[test]
    fn enough_must_be_torn_down_and_nothing_wrong() {
        for (changes, faults, errors, expected) in [
            (1_000, 1_000, 0, Answer::Yes),
            (999, 1_000, 0, Answer::Inconclusive),
            (1_000, 999, 0, Answer::Inconclusive),
            (1_000, 1_000, 1, Answer::No),
        ] {
            assert_eq!(answer(changes, faults, errors), expected);
        }
    }
}
