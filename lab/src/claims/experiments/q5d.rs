//! Q5d: what an address space's exit costs that waits for a grace period.

use super::fragments;
use crate::claims::plan::{Flags, Plan, PlannedRun, Verdict};
use crate::claims::runs::{Measured, Missing, Runs};
use crate::settings::Key;
use underfoot_abi::RecordedPhase::{Control, Moving};

const COMMON: Flags = &[
    (Key::Workload, "exit"),
    (Key::Cpus, "2"),
    (Key::Duration, "4s"),
    (Key::Control, "50%"),
    // What is pending must not fill the memory: both forms would wait for that then.
    (Key::Memory, "256MiB"),
];

const DEFERRED: Flags = &[(Key::Parameters, "regions=1,pages=1,free=deferred")];
const WAIT: Flags = &[(Key::Parameters, "regions=1,pages=1,free=wait")];

/// Each form twice, by turns: the host's load changes.
const RUNS: &[PlannedRun] = &[
    PlannedRun::control("none", &[(Key::Strategy, "none")]),
    PlannedRun::good("deferred-1", DEFERRED),
    PlannedRun::good("wait-1", WAIT),
    PlannedRun::good("deferred-2", DEFERRED),
    PlannedRun::good("wait-2", WAIT),
    PlannedRun::busted(
        "busted-owner-gone",
        &[
            (Key::Parameters, "regions=1,pages=1,free=deferred"),
            (Key::Variant, "busted-owner-gone"),
        ],
        fragments::CAUGHT,
        1,
    ),
];

/// So many times faster without the wait, or it costs nothing to speak of.
const LEAST_RATIO: f64 = 1.1;

/// The experiment.
pub const PLAN: Plan = Plan {
    id: "Q5d",
    criterion: "yes if address spaces come and go more than 1.1 times as fast with deferred freeing \
                as with a wait, both while nothing moves and while pages move; no if in neither; \
                inconclusive otherwise",
    common: COMMON,
    runs: RUNS,
    judge,
};

fn judge(runs: &Runs, measured: &mut Measured) -> Result<Verdict, Missing> {
    let mut ratios = [0.0; 2];
    for (ratio, (phase, name)) in ratios
        .iter_mut()
        .zip([(Control, "control"), (Moving, "moving")])
    {
        let mut rates = [0.0; 2];
        for (rate, form) in rates.iter_mut().zip(["deferred", "wait"]) {
            for run in [format!("{form}-1"), format!("{form}-2")] {
                let one = runs.operations_per_s(&run, phase)?;
                measured.set(format!("{run}.{name}.exits_per_s"), one);
                let pending = fragments::mean(runs, &run, phase, "pending-tables")?;
                measured.set(format!("{run}.{name}.mean_pending_tables"), pending);
                *rate += one / 2.0;
            }
        }
        *ratio = rates[0] / rates[1];
        measured.set(format!("{name}.deferred_by_wait"), *ratio);
    }
    let [control, moving] = ratios;
    let reason = format!(
        "deferred freeing made address spaces come and go {control:.2} times as fast as waiting \
         while nothing moved, {moving:.2} times while pages moved"
    );
    let costs = ratios.map(|ratio| ratio > LEAST_RATIO);
    if costs[0] != costs[1] {
        return Ok(Verdict::inconclusive(reason));
    }
    Ok(Verdict::yes_if(costs[0], reason))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::claims::plan::Answer;
    use crate::claims::runs::test_runs;

    #[test]
    fn waiting_must_cost_in_both_phases() {
        for (control, moving, answer) in [
            (1.2, 1.2, Answer::Yes),
            (1.0, 1.1, Answer::No),
            (0.5, 1.0, Answer::No),
            (1.0, 3.0, Answer::Inconclusive),
            (3.0, 1.0, Answer::Inconclusive),
        ] {
            let runs = test_runs(RUNS, |run, record| {
                let (mut at_rest, mut on_the_move) = (10_000.0, 10_000.0);
                if run.starts_with("deferred") {
                    at_rest *= control;
                    on_the_move *= moving;
                }
                for (counters, operations) in [
                    (&mut record.guest.control, at_rest),
                    (&mut record.guest.moving, on_the_move),
                ] {
                    counters.insert("operations", operations as u64);
                    counters.insert("table-samples", 10);
                    counters.insert("pending-tables", 100);
                }
            });
            let verdict = judge(&runs, &mut Measured::default());
            assert_eq!(verdict.expect("all is there").answer, answer);
        }
    }
}
