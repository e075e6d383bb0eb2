//! Q2a.engine: the rules of frames on the engine's fast path.

use super::frames::{TAKING, pool, user};
use crate::claims::plan::{Answer, Checker, Flags, Plan, PlannedRun, Verdict};
use crate::claims::runs::{Measured, Missing, Runs};
use crate::settings::Key;
use underfoot_abi::RecordedPhase::Moving;

const COMMON: Flags = TAKING;

/// Scarce: whoever takes a window's frames leaves few above min, and the refiller comes late.
const REFILL: (Key, &str) = (Key::Frames, "2048,reserve=8,min=96,low=97,high=98");
const KERNEL: (Key, &str) = (
    Key::Frames,
    "2048,reserve=8,min=96,low=97,high=98,fallback=kernel",
);
const BATCH: (Key, &str) = (Key::Batch, "32");

const RUNS: &[PlannedRun] = &[
    PlannedRun::control("none", &[(Key::Strategy, "none"), REFILL]),
    PlannedRun::good("refill", &[REFILL, BATCH]),
    PlannedRun::good("kernel", &[KERNEL, BATCH]),
    PlannedRun::busted(
        "busted-frames-reserve",
        &[REFILL, BATCH, (Key::Variant, "busted-frames-reserve")],
        &[Checker::Integrity("the fast path took what it must leave")],
        3,
    ),
    PlannedRun::busted(
        "busted-frames-reclaims",
        &[REFILL, BATCH, (Key::Variant, "busted-frames-reclaims")],
        &[Checker::Integrity("the fast path refilled the pool")],
        3,
    ),
    PlannedRun::busted(
        "busted-frames-twice",
        &[REFILL, BATCH, (Key::Variant, "busted-frames-twice")],
        &[Checker::Integrity("handed out while they were another's")],
        3,
    ),
];

/// Refusals that each good run must have seen: of movers, and of faults.
const LEAST_REFUSED: [(&str, u64); 2] = [("mover", 100), ("fault", 5)];

/// The experiment.
pub const PLAN: Plan = Plan {
    id: "Q2a.engine",
    criterion: "yes if, with both fallbacks of a fault (it refills the pool, or takes the kernel's classic path), the \
                fast path was refused at least 100 times for movers and 5 times for faults, each refusal was \
                followed by its fallback, movers took nothing of the reserve, every fault was served, and the \
                ledger found no rule broken; no if a rule was broken; inconclusive if there were fewer refusals",
    common: COMMON,
    runs: RUNS,
    judge,
};

fn judge(runs: &Runs, measured: &mut Measured) -> Result<Verdict, Missing> {
    let mut refusals = 0;
    let mut enough = true;
    for run in ["refill", "kernel"] {
        let record = runs.record(run)?;
        if let Some(detail) = record.integrity.details.first() {
            return Ok(Verdict::new(Answer::No, format!("in {run}: {detail}")));
        }
        let frames = pool(runs.sound(run)?, run, measured)?;
        for (name, least) in LEAST_REFUSED {
            let counts = user(frames, name);
            enough &= counts.refused >= least;
            refusals += counts.refused;
            let kernel = run == "kernel" && name == "fault";
            let followed = if kernel {
                frames.without
            } else {
                counts.refills
            };
            if counts.fell_back != counts.refused || followed < counts.fell_back {
                let reason = format!(
                    "in {run}: {} refusals of the {name}'s fast path, {} fallbacks, {followed} of them paid",
                    counts.refused, counts.fell_back
                );
                return Ok(Verdict::new(Answer::No, reason));
            }
        }
        let reserve = user(frames, "mover").reserve;
        if reserve > 0 {
            let reason = format!("in {run} movers took {reserve} frames of the reserve");
            return Ok(Verdict::new(Answer::No, reason));
        }
        measured.latencies(
            format!("{run}.fault"),
            runs.histogram(run, Moving, "fault")?,
        );
    }
    Ok(if enough {
        let reason =
            format!("{refusals} refusals fell back and were paid for, and no rule was broken");
        Verdict::yes_if(true, reason)
    } else {
        Verdict::inconclusive("the fast path was refused too seldom: there were too many frames")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::claims::runs::test_runs;
    use crate::histogram::Histogram;
    use crate::record::{FrameUserRecord, FramesRecord};

    /// Refusals of movers and of faults, fallbacks of faults that nobody paid for, frames of the reserve that movers
    /// took.
    fn runs(mover: u64, fault: u64, unpaid: u64, reserve: u64) -> Runs {
        test_runs(RUNS, |run, record| {
            let refused = |refused| FrameUserRecord {
                refused,
                fell_back: refused,
                refills: refused,
                ..FrameUserRecord::default()
            };
            let kernel = run == "kernel";
            let mut users = [("mover", refused(mover)), ("fault", refused(fault))];
            users[0].1.reserve = reserve;
            users[1].1.refills = if kernel { 0 } else { fault - unpaid };
            record.frames = Some(FramesRecord {
                without: if kernel { fault } else { 0 },
                users: users.into_iter().collect(),
                ..FramesRecord::default()
            });
            let mut histogram = Histogram::new();
            histogram.record(1_000);
            record.moving.insert("fault".into(), histogram);
        })
    }

    #[test]
    fn rules_and_fallbacks_decide() {
        for (mover, fault, unpaid, reserve, answer) in [
            (100, 5, 0, 0, Answer::Yes),
            (99, 5, 0, 0, Answer::Inconclusive),
            (100, 4, 0, 0, Answer::Inconclusive),
            (100, 5, 1, 0, Answer::No),
            (100, 5, 0, 1, Answer::No),
        ] {
            let runs = runs(mover, fault, unpaid, reserve);
            let verdict = judge(&runs, &mut Measured::default()).expect("all is there");
            assert_eq!(verdict.answer, answer, "{}", verdict.reason);
        }
        let mut broken = runs(100, 5, 0, 0);
        let kernel = broken.0.iter_mut().find(|run| run.planned.name == "kernel");
        let details = &mut kernel.expect("planned").record.integrity.details;
        details.push("frames: 1 times the fast path refilled the pool".into());
        let verdict = judge(&broken, &mut Measured::default()).expect("all is there");
        assert_eq!(verdict.answer, Answer::No);
    }
}
