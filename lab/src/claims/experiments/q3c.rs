//! Q3c: keeping track of open invalidations without allocating.

use super::invalidation::{device, note};
use crate::claims::plan::{Answer, Checker, Flags, Plan, PlannedRun, Verdict};
use crate::claims::runs::{Measured, Missing, Runs, unsound};
use crate::record::Histograms;
use crate::settings::Key;
use underfoot_abi::RecordedPhase::Moving;

const COMMON: Flags = &[
    (Key::Workload, "dma"),
    (Key::Cpus, "2"),
    (Key::Strategy, "protect-copy"),
    (Key::Backend, "remap"),
    (Key::Target, "text,rodata,data"),
    (Key::Rate, "30000"),
    (Key::Duration, "3s"),
    (Key::Control, "10%"),
];

const FOUR: (Key, &str) = (Key::Movers, "4");

const RUNS: &[PlannedRun] = &[
    PlannedRun::control("none", &[(Key::Strategy, "none")]),
    PlannedRun::good("pool-1", &[(Key::Parameters, "tracking=pool")]),
    PlannedRun::good("stack-1", &[(Key::Parameters, "tracking=stack")]),
    PlannedRun::good("space-1", &[(Key::Parameters, "tracking=space")]),
    PlannedRun::good("pool-4", &[FOUR, (Key::Parameters, "tracking=pool")]),
    PlannedRun::good("stack-4", &[FOUR, (Key::Parameters, "tracking=stack")]),
    PlannedRun::good("space-4", &[FOUR, (Key::Parameters, "tracking=space")]),
    PlannedRun::good(
        "small-falls-back",
        &[
            FOUR,
            (Key::Parameters, "tracking=pool,slots=1,exhausted=space"),
        ],
    ),
    PlannedRun::good(
        "small-waits",
        &[
            FOUR,
            (Key::Parameters, "tracking=pool,slots=1,exhausted=wait"),
        ],
    ),
    // Nothing says which starts counted.
    PlannedRun::busted(
        "busted-unmatched",
        &[
            FOUR,
            (
                Key::Parameters,
                "renew-busy=on,ranges=1,cache=1,tracking=pool",
            ),
            (Key::Torment, "true"),
            (Key::Target, "data"),
            (Key::Variant, "busted-invalidate-unmatched"),
        ],
        &[
            Checker::Integrity("saw more invalidations end than start"),
            Checker::Integrity("while nothing is being invalidated"),
        ],
        4,
    ),
];

/// Each way, with one mover and with four.
const WAYS: [&str; 6] = [
    "pool-1", "stack-1", "space-1", "pool-4", "stack-4", "space-4",
];
/// Pools of one slot for four movers.
const SMALL: [&str; 2] = ["small-falls-back", "small-waits"];
/// Names of what it takes to start an invalidation, and of the window that it is for.
const START: &str = "invalidation.start";
const WINDOW: &str = "window";
/// The median start is to cost at most one part in so many of the median window.
const PARTS: u64 = 10;
/// Starts that each pool of one slot must have turned away.
const LEAST: u64 = 100;

/// The experiment.
pub const PLAN: Plan = Plan {
    id: "Q3c",
    criterion: "yes if with each way of keeping track, with one mover and with four, nothing was wrong and \
                half of the starts took at most a tenth of the median window, and if a pool of one slot for \
                four movers fell back, or made wait, 100 times or more and nothing was wrong; no if \
                something was wrong or a start took longer; inconclusive if a small pool turned fewer away",
    common: COMMON,
    runs: RUNS,
    judge,
};

/// Half of the starts and half of the windows took at most so many ns.
fn medians(histograms: &Histograms, run: &str) -> Result<[u64; 2], Missing> {
    let median = |name: &str| histograms.get(name).and_then(|of| of.percentile(5_000));
    match (median(START), median(WINDOW)) {
        (Some(start), Some(window)) => Ok([start, window]),
        _ => Err(Missing(format!("run {run} has no {START} or no {WINDOW}"))),
    }
}

fn judge(runs: &Runs, measured: &mut Measured) -> Result<Verdict, Missing> {
    let (mut slow, mut wrong, mut said) = (None, None, Vec::new());
    for name in WAYS.iter().chain(&SMALL) {
        let record = runs.record(name)?;
        let why = unsound(record);
        wrong = wrong.or_else(|| why.map(|why| format!("{name}: {why}")));
        note(runs, name, measured)?;
        let dma = device(runs, name)?;
        for (what, count) in [
            ("slot_waited_for", dma.pool_waited),
            ("fell_back", dma.pool_fell_back),
        ] {
            measured.set(format!("{name}.{what}"), count);
        }
        measured.set(format!("{name}.aborted"), record.migration.counts.aborted);
        for metric in [START, "invalidation.quiet", WINDOW] {
            if let Some(histogram) = record.moving.get(metric) {
                measured.latencies(format!("{name}.{metric}"), histogram);
            }
        }
    }
    for name in WAYS {
        let [start, window] = medians(&runs.record(name)?.moving, name)?;
        said.push(format!("{name} {start} ns"));
        if start * PARTS > window {
            slow.get_or_insert_with(|| format!("{name}: {start} ns of a window of {window} ns"));
        }
    }
    let fell_back = device(runs, SMALL[0])?.pool_fell_back;
    let waited = device(runs, SMALL[1])?.pool_waited;
    for name in SMALL {
        // Tells the ways of turning away apart.
        if let Ok(p99) = runs.percentile(name, Moving, START, 9_900) {
            said.push(format!("{name} 99 % within {p99} ns"));
        }
    }
    let reason = format!(
        "half of the starts took at most: {}; a pool of one slot fell back {fell_back} times, made wait \
         {waited} times",
        said.join(", ")
    );
    Ok(match wrong.or(slow) {
        Some(why) => Verdict::new(Answer::No, why),
        None if fell_back.min(waited) < LEAST => Verdict::inconclusive(reason),
        None => Verdict::yes_if(true, reason),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::claims::experiments::invalidation::with_device;
    use crate::claims::runs::test_runs;
    use crate::histogram::Histogram;

    #[test]
    fn the_criterion_is_what_it_says() {
        for (start, turned_away, errors, answer) in [
            (100, 100, 0, Answer::Yes),
            (100, 99, 0, Answer::Inconclusive),
            (5_000, 100, 0, Answer::No),
            (100, 100, 1, Answer::No),
        ] {
            let runs = test_runs(RUNS, |name, record| {
                let one = |ns| {
                    let mut histogram = Histogram::new();
                    histogram.record(ns);
                    histogram
                };
                record.moving.insert(WINDOW.into(), one(5_000));
                let start = if name == "stack-4" { start } else { 50 };
                record.moving.insert(START.into(), one(start));
                with_device(record, |dma| {
                    (dma.pool_waited, dma.pool_fell_back) = (turned_away, turned_away);
                });
                if name == "small-waits" {
                    record.integrity.errors = errors;
                }
            });
            let verdict = judge(&runs, &mut Measured::default()).expect("all is there");
            assert_eq!(verdict.answer, answer, "{verdict:?}");
        }
    }
}
