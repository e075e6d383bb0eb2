//! Q2b.engine: whom the engine's fast path starves.

use super::frames::{TAKING, pool, user};
use crate::claims::plan::{Answer, Checker, Flags, Plan, PlannedRun, Verdict};
use crate::claims::runs::{Measured, Missing, Runs};
use crate::settings::Key;
use underfoot_abi::RecordedPhase::Moving;

const COMMON: Flags = TAKING;
const BATCH: (Key, &str) = (Key::Batch, "64");

/// An ordinary allocation looks once, and pays: that is what the others are held against.
const ORDINARY: (Key, &str) = (Key::Frames, "4096,reserve=8,min=96,low=97,high=98");

const RUNS: &[PlannedRun] = &[
    PlannedRun::control("none", &[(Key::Strategy, "none"), ORDINARY]),
    PlannedRun::good("ordinary", &[ORDINARY, BATCH]),
    PlannedRun::good(
        "tries-4",
        &[
            (Key::Frames, "4096,reserve=8,min=96,low=97,high=98,tries=4"),
            BATCH,
        ],
    ),
    PlannedRun::good(
        "tries-16",
        &[
            (Key::Frames, "4096,reserve=8,min=96,low=97,high=98,tries=16"),
            BATCH,
        ],
    ),
    PlannedRun::busted(
        "busted-frames-unpaid",
        &[ORDINARY, BATCH, (Key::Variant, "busted-frames-unpaid")],
        &[Checker::Integrity("fell back and refilled nothing")],
        3,
    ),
];

/// Faults that each run must have served from the pool.
const LEAST_FAULTS: u64 = 100;
/// How many more of a hundred faults may find the pool below min than among ordinary allocations.
const MARGIN: f64 = 5.0;

/// The experiment.
pub const PLAN: Plan = Plan {
    id: "Q2b.engine",
    criterion: "yes if, of a hundred faults, at most 5 more find the pool below min and must pay where movers try \
                the fast path 4 and 16 times before they pay than where they pay at the first refusal, as ordinary \
                allocations do; no if more with both; inconclusive if more with one, if a run served fewer than 100 \
                faults, or if it was no more than that where movers never pay",
    common: COMMON,
    runs: RUNS,
    judge,
};

fn judge(runs: &Runs, measured: &mut Measured) -> Result<Verdict, Missing> {
    let mut enough = true;
    let mut said = Vec::new();
    let mut share = |run: &str, measured: &mut Measured| -> Result<f64, Missing> {
        let faults = user(pool(runs.record(run)?, run, measured)?, "fault");
        let all = faults.fast + faults.refused;
        enough &= all >= LEAST_FAULTS;
        let share = 100.0 * faults.refused as f64 / all.max(1) as f64;
        measured.set(format!("{run}.refused_of_100_faults"), share);
        said.push(format!("{share:.1} with {run}"));
        Ok(share)
    };
    let bound = share("ordinary", measured)? + MARGIN;
    let over = ["tries-4", "tries-16"]
        .map(|run| share(run, measured).map(|share| share > bound))
        .into_iter()
        .collect::<Result<Vec<_>, _>>()?;
    let tells = share("busted-frames-unpaid", measured)? > bound;
    for run in ["ordinary", "tries-4", "tries-16"] {
        measured.latencies(
            format!("{run}.fault"),
            runs.histogram(run, Moving, "fault")?,
        );
    }
    let reason = format!(
        "of 100 faults found the pool below min: {}",
        said.join(", ")
    );
    Ok(if !enough {
        Verdict::inconclusive(format!("too few faults: {reason}"))
    } else if !tells {
        Verdict::inconclusive(format!(
            "never to pay starved nobody, so that this shows nothing: {reason}"
        ))
    } else if over.iter().all(|over| *over) {
        Verdict::new(Answer::No, reason)
    } else if over.contains(&true) {
        Verdict::inconclusive(format!("one is beyond the bound: {reason}"))
    } else {
        Verdict::yes_if(true, reason)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::claims::runs::test_runs;
    use crate::histogram::Histogram;
    use crate::record::{FrameUserRecord, FramesRecord};

    #[test]
    fn what_faults_must_pay_among_ordinary_allocations_is_the_bound() {
        // Faults, and those that were refused: ordinary, tried 4 and 16 times, where nobody pays.
        for (faults, [ordinary, four, sixteen, busted], answer) in [
            (1000, [10, 60, 60, 200], Answer::Yes),
            (100, [0, 0, 0, 10], Answer::Yes),
            (1000, [10, 61, 60, 200], Answer::Inconclusive),
            (1000, [10, 61, 61, 200], Answer::No),
            (1000, [10, 10, 10, 60], Answer::Inconclusive),
            (99, [0, 0, 0, 20], Answer::Inconclusive),
        ] {
            let runs = test_runs(RUNS, |run, record| {
                let refused = match run {
                    "tries-4" => four,
                    "tries-16" => sixteen,
                    "busted-frames-unpaid" => busted,
                    _ => ordinary,
                };
                let fault = FrameUserRecord {
                    fast: faults - refused,
                    refused,
                    ..FrameUserRecord::default()
                };
                record.frames = Some(FramesRecord {
                    users: [("fault", fault)].into_iter().collect(),
                    ..FramesRecord::default()
                });
                let mut histogram = Histogram::new();
                histogram.record(1_000);
                record.moving.insert("fault".into(), histogram);
            });
            let verdict = judge(&runs, &mut Measured::default()).expect("all is there");
            assert_eq!(verdict.answer, answer, "{}", verdict.reason);
        }
    }
}
