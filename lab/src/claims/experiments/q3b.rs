//! Q3b: registrations in the midst of an invalidation.

use super::invalidation::{LOST, device, note};
use crate::claims::plan::{Answer, Checker, Flags, Plan, PlannedRun, Verdict};
use crate::claims::runs::{Measured, Missing, Runs, unsound};
use crate::settings::Key;

/// Three movers, so that invalidations of a range overlap. They sleep at random with a window open, and the
/// device registers its one range anew whenever it finds a page being moved.
const COMMON: Flags = &[
    (Key::Workload, "dma"),
    (Key::Cpus, "2"),
    (Key::Strategy, "protect-copy"),
    (Key::Backend, "remap"),
    (Key::Target, "data"),
    (Key::Movers, "3"),
    (Key::Rate, "60000"),
    (Key::Batch, "8"),
    (Key::Torment, "true"),
    (Key::Duration, "3s"),
    (Key::Control, "10%"),
    (Key::Parameters, POOL),
];

const POOL: &str = "renew-busy=on,ranges=1,cache=1,tracking=pool";
const STACK: &str = "renew-busy=on,ranges=1,cache=1,tracking=stack";
const SPACE: &str = "renew-busy=on,ranges=1,cache=1,tracking=space";

/// A counter below zero.
const NEGATIVE: &[Checker] = &[
    Checker::Integrity("saw more invalidations end than start"),
    Checker::Integrity("while nothing is being invalidated"),
];

const RUNS: &[PlannedRun] = &[
    PlannedRun::control("none", &[(Key::Strategy, "none"), (Key::Torment, "false")]),
    PlannedRun::good("pool", &[]),
    PlannedRun::good("stack", &[(Key::Parameters, STACK)]),
    PlannedRun::good("space", &[(Key::Parameters, SPACE)]),
    PlannedRun::busted(
        "busted-unmatched-pool",
        &[(Key::Variant, "busted-invalidate-unmatched")],
        NEGATIVE,
        3,
    ),
    PlannedRun::busted(
        "busted-unmatched-stack",
        &[
            (Key::Parameters, STACK),
            (Key::Variant, "busted-invalidate-unmatched"),
        ],
        NEGATIVE,
        3,
    ),
    PlannedRun::busted(
        "busted-clamp",
        &[(Key::Variant, "busted-invalidate-clamp")],
        LOST,
        10,
    ),
];

/// Right forms; the busted ones differ from them in one thing.
const GOOD: [&str; 3] = ["pool", "stack", "space"];
/// Registrations in the midst of an invalidation that each must have seen.
const LEAST: u64 = 100;

/// The experiment.
pub const PLAN: Plan = Plan {
    id: "Q3b",
    criterion: "yes if, with each way of keeping track, 100 registrations or more found an invalidation of \
                their range open, every byte arrived, no old frame was written and every counter was 0 in \
                the end; no if one of those was wrong; inconclusive below 100",
    common: COMMON,
    runs: RUNS,
    judge,
};

fn judge(runs: &Runs, measured: &mut Measured) -> Result<Verdict, Missing> {
    let (mut least, mut wrong) = (u64::MAX, None);
    for name in GOOD {
        note(runs, name, measured)?;
        let dma = device(runs, name)?;
        least = least.min(dma.in_midst);
        let record = runs.record(name)?;
        wrong = wrong.or_else(|| unsound(record).map(|why| format!("{name}: {why}")));
    }
    for name in ["busted-unmatched-pool", "busted-unmatched-stack"] {
        note(runs, name, measured)?;
        measured.set(format!("{name}.negative"), device(runs, name)?.negative);
    }
    note(runs, "busted-clamp", measured)?;
    Ok(match wrong {
        Some(why) => Verdict::new(Answer::No, why),
        None if least < LEAST => Verdict::inconclusive(format!(
            "with one way of keeping track only {least} registrations met an open invalidation"
        )),
        None => Verdict::yes_if(
            true,
            format!(
                "{least} registrations or more in the midst of an invalidation with each way of keeping \
                 track, and nothing was wrong"
            ),
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::claims::experiments::invalidation::with_device;
    use crate::claims::runs::test_runs;

    #[test]
    fn the_criterion_is_what_it_says() {
        for (in_midst, errors, answer) in [
            ([100, 100, 100], 0, Answer::Yes),
            ([5_000, 99, 5_000], 0, Answer::Inconclusive),
            ([5_000, 5_000, 5_000], 1, Answer::No),
            ([5_000, 99, 5_000], 1, Answer::No),
        ] {
            let runs = test_runs(RUNS, |name, record| {
                let nth = GOOD.iter().position(|good| *good == name);
                with_device(record, |dma| {
                    dma.in_midst = nth.map_or(0, |nth| in_midst[nth])
                });
                if name == "space" {
                    record.integrity.errors = errors;
                }
            });
            let verdict = judge(&runs, &mut Measured::default()).expect("all is there");
            assert_eq!(verdict.answer, answer, "{verdict:?}");
        }
    }
}
