//! Q3d: faults under steady invalidation, counted by range and by space.

use super::invalidation::{device, note};
use crate::claims::plan::{Answer, Checker, Flags, Plan, PlannedRun, Verdict};
use crate::claims::runs::{Measured, Missing, Runs, unsound};
use crate::record::DmaRecord;
use crate::settings::Key;

/// What moves is the kernel's image, which the device never touches; its buffers lie in another range. Its
/// cache holds one translation, so that it faults at nearly every access.
const COMMON: Flags = &[
    (Key::Workload, "dma"),
    (Key::Cpus, "1"),
    (Key::Strategy, "protect-copy"),
    (Key::Backend, "remap"),
    (Key::Target, "text,rodata"),
    (Key::Duration, "2s"),
    (Key::Control, "10%"),
    (Key::Parameters, BY_RANGE),
];

const BY_RANGE: &str = "renew=0,cache=1,tracking=pool,ranges=16";
const BY_SPACE: &str = "renew=0,cache=1,tracking=space,ranges=16";

const SPACE: (Key, &str) = (Key::Parameters, BY_SPACE);

/// Pages per second and movers of each load, by its name.
const LOADS: [&str; 6] = ["2k", "8k", "32k", "max", "max-2", "max-4"];

const RUNS: &[PlannedRun] = &[
    PlannedRun::control("none", &[(Key::Strategy, "none")]),
    PlannedRun::good("range-2k", &[(Key::Rate, "2000")]),
    PlannedRun::good("range-8k", &[(Key::Rate, "8000")]),
    PlannedRun::good("range-32k", &[(Key::Rate, "32000")]),
    PlannedRun::good("range-max", &[]),
    PlannedRun::good("range-max-2", &[(Key::Movers, "2")]),
    PlannedRun::good("range-max-4", &[(Key::Movers, "4")]),
    PlannedRun::good("space-2k", &[SPACE, (Key::Rate, "2000")]),
    PlannedRun::good("space-8k", &[SPACE, (Key::Rate, "8000")]),
    PlannedRun::good("space-32k", &[SPACE, (Key::Rate, "32000")]),
    PlannedRun::good("space-max", &[SPACE]),
    PlannedRun::good("space-max-2", &[SPACE, (Key::Movers, "2")]),
    PlannedRun::good("space-max-4", &[SPACE, (Key::Movers, "4")]),
    // The device's own range.
    PlannedRun::good("own-max-4", &[(Key::Target, "data"), (Key::Movers, "4")]),
    // A counter below zero never is 0 again, so that every fault waits for ever.
    PlannedRun::busted(
        "busted-unmatched",
        &[
            (Key::Target, "data"),
            (Key::Movers, "2"),
            (Key::Parameters, "renew=1,cache=1,tracking=pool,ranges=16"),
            (Key::Variant, "busted-invalidate-unmatched"),
        ],
        &[
            Checker::Integrity("saw more invalidations end than start"),
            Checker::Integrity("while nothing is being invalidated"),
        ],
        4,
    ),
];

/// A fault that was put off so often in a row has starved.
const STARVED: u64 = 10_000;
/// Where so many of a hundred faults are put off, it is for another range's sake.
const PERCENT: f64 = 1.0;

/// The experiment.
pub const PLAN: Plan = Plan {
    id: "Q3d",
    criterion: "yes if, counted by space, a fault was put off 10,000 times in a row under one load at least, \
                and counted by range, under each load, fewer than 1 of 100 faults were put off and none so \
                often; no if by range more were put off or one starved; inconclusive if by space none starved",
    common: COMMON,
    runs: RUNS,
    judge,
};

/// Faults that were put off, of a hundred. One that still waited at the end has missed nothing yet.
fn put_off_percent(dma: &DmaRecord) -> f64 {
    100.0 * dma.put_off as f64 / dma.misses.max(dma.put_off).max(1) as f64
}

fn judge(runs: &Runs, measured: &mut Measured) -> Result<Verdict, Missing> {
    let mut of = |name: &str| -> Result<(u64, f64), Missing> {
        note(runs, name, measured)?;
        let dma = device(runs, name)?;
        let percent = put_off_percent(dma);
        measured.set(format!("{name}.put_off_percent"), percent);
        if let Some(waited) = runs.record(name)?.moving.get("dma.put_off") {
            measured.latencies(format!("{name}.waited"), waited);
        }
        Ok((dma.retries_in_a_row, percent))
    };
    let (mut by_space, mut by_range, mut wrong) = ((0, 0.0_f64), (0, 0.0_f64), None);
    for load in LOADS {
        for (form, worst) in [("range", &mut by_range), ("space", &mut by_space)] {
            let name = format!("{form}-{load}");
            let (in_a_row, percent) = of(&name)?;
            *worst = (worst.0.max(in_a_row), worst.1.max(percent));
        }
        let name = format!("range-{load}");
        let why = unsound(runs.record(&name)?);
        wrong = wrong.or_else(|| why.map(|why| format!("{name}: {why}")));
    }
    for name in ["own-max-4", "busted-unmatched"] {
        of(name)?;
    }
    let reason = format!(
        "put off at worst {} times in a row by space and {} by range, {:.2} and {:.2} of 100 faults",
        by_space.0, by_range.0, by_space.1, by_range.1
    );
    Ok(match wrong {
        Some(why) => Verdict::new(Answer::No, why),
        None if by_range.0 >= STARVED || by_range.1 >= PERCENT => Verdict::new(Answer::No, reason),
        None if by_space.0 < STARVED => Verdict::inconclusive(reason),
        None => Verdict::yes_if(true, reason),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::claims::experiments::invalidation::with_device;
    use crate::claims::runs::test_runs;

    #[test]
    fn the_criterion_is_what_it_says() {
        // Most in a row by space and by range, and faults put off by range, of 10,000.
        for (by_space, by_range, put_off, errors, answer) in [
            (10_000, 9_999, 99, 0, Answer::Yes),
            (9_999, 0, 0, 0, Answer::Inconclusive),
            (10_000, 10_000, 0, 0, Answer::No),
            (10_000, 100, 100, 0, Answer::No),
            (10_000, 0, 0, 1, Answer::No),
        ] {
            let runs = test_runs(RUNS, |name, record| {
                with_device(record, |dma| {
                    (dma.retries_in_a_row, dma.put_off) = match name {
                        "space-max-4" => (by_space, 5_000),
                        "range-8k" => (by_range, put_off),
                        // Its own range is no concern of the criterion.
                        "own-max-4" => (1 << 20, 9_000),
                        _ => (0, 0),
                    };
                });
                if name == "range-32k" {
                    record.integrity.errors = errors;
                }
            });
            let verdict = judge(&runs, &mut Measured::default()).expect("all is there");
            assert_eq!(verdict.answer, answer, "{verdict:?}");
        }
    }
}
