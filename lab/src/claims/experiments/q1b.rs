//! Q1b: bounded spinning. Each wait policy in turn, and the guest's own mover; under `spin` a stall should end with its
//! window.

use crate::claims::plan::{Answer, Checker, Flags, Plan, PlannedRun, Verdict};
use crate::claims::runs::{Measured, Missing, Runs};
use crate::human;
use crate::record::{AFTER_WINDOW, OWN_WINDOW};
use crate::settings::Key;
use underfoot_abi::RecordedPhase::Moving;

/// One vCPU, so that a mover has a CPU of its own where there are two: what becomes of windows whose
/// mover loses its CPU is another question.
const COMMON: Flags = &[
    (Key::Cpus, "1"),
    (Key::Target, "slab,data,stack,text"),
    (Key::Duration, "4s"),
    (Key::Control, "10%"),
];

const RUNS: &[PlannedRun] = &[
    PlannedRun::control("none", &[(Key::Strategy, "none")]),
    PlannedRun::good("spin", &[(Key::Wait, "spin")]),
    PlannedRun::good("block", &[(Key::Wait, "block")]),
    PlannedRun::good("halt", &[(Key::Wait, "halt")]),
    // Where mover and reader share a CPU no reader runs in a window.
    PlannedRun::good(GUEST, &[(Key::Mover, "guest"), (Key::Cpus, "2")]),
    PlannedRun::busted(
        "busted-no-unmap",
        &[(Key::Wait, "spin"), (Key::Variant, "busted-no-unmap")],
        &[
            Checker::Integrity("audit"),
            Checker::Integrity("check words"),
        ],
        8,
    ),
];

/// The guest moves its own pages, and its readers spin in their fault handler.
const GUEST: &str = "guest-mover";
/// Stalls of which a 99th percentile says something.
const LEAST_STALLS: u64 = 100;
/// What a vCPU takes to be in the guest again, with room for a busy host.
const MOST_AFTER_NS: u64 = 100_000;

/// The experiment.
pub const PLAN: Plan = Plan {
    id: "Q1b",
    criterion: "yes if, under spin, 99 % of the stalls that met a window of their own page ended \
                within 100 us of that window's closing; inconclusive below 100 such stalls, and if none met \
                one of the guest's own mover, whose figures are noted and not judged",
    common: COMMON,
    runs: RUNS,
    judge,
};

fn judge(runs: &Runs, measured: &mut Measured) -> Result<Verdict, Missing> {
    for run in ["spin", "block", "halt", GUEST] {
        for metric in ["window", OWN_WINDOW, AFTER_WINDOW] {
            let histogram = runs.histogram(run, Moving, metric)?;
            measured.latencies(format!("{run}.{metric}"), histogram);
        }
    }
    let stalls = runs.histogram("spin", Moving, AFTER_WINDOW)?.count();
    if stalls < LEAST_STALLS {
        let reason = format!("only {stalls} stalls met a window of their own page");
        return Ok(Verdict::new(Answer::Inconclusive, reason));
    }
    let [after, guest_after] = percentiles(runs, AFTER_WINDOW)?;
    let [stall, guest_stall] = percentiles(runs, OWN_WINDOW)?;
    let reason = format!(
        "of {stalls} such stalls 99 % ended within {} of the window's closing and lasted at most {}; \
         with the guest's own mover within {}, and lasted at most {}",
        human::time(after),
        human::time(stall),
        human::time(guest_after),
        human::time(guest_stall),
    );
    Ok(Verdict::yes_if(after <= MOST_AFTER_NS, reason))
}

/// What 99 % are at most, with the host's mover under `spin` and with the guest's own.
fn percentiles(runs: &Runs, metric: &str) -> Result<[u64; 2], Missing> {
    let of = |run| runs.percentile(run, Moving, metric, 9_900);
    Ok([of("spin")?, of(GUEST)?])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::claims::runs::test_runs;
    use crate::histogram::Histogram;

    /// Runs in which `stalls` ended `after_ns` after their window, and one in fifty a second after.
    fn runs(stalls: u64, after_ns: u64, late: bool) -> Runs {
        test_runs(RUNS, |run, record| {
            let mut after = Histogram::new();
            // The guest's own mover is not judged.
            let (stalls, after_ns) = if run == GUEST {
                (1, 9_000_000)
            } else {
                (stalls, after_ns)
            };
            for index in 0..stalls {
                let is_late = late && run != GUEST && index % 50 == 0;
                after.record(if is_late { 1_000_000_000 } else { after_ns });
            }
            record.moving.insert(OWN_WINDOW.into(), after.clone());
            record.moving.insert(AFTER_WINDOW.into(), after);
        })
    }

    #[test]
    fn the_criterion_is_what_it_says() {
        for (stalls, after_ns, late, answer) in [
            (100, 0, false, Answer::Yes),
            (5_000, 90_000, false, Answer::Yes),
            (5_000, 110_000, false, Answer::No),
            (5_000, 0, true, Answer::No),
            (99, 0, false, Answer::Inconclusive),
        ] {
            let mut measured = Measured::default();
            let verdict =
                judge(&runs(stalls, after_ns, late), &mut measured).expect("all is there");
            assert_eq!(
                verdict.answer, answer,
                "{stalls} {after_ns} {late}: {verdict:?}"
            );
            assert_eq!(measured.figures().len(), 12);
            assert!(verdict.answer == Answer::Inconclusive || verdict.reason.contains("9.00 ms"));
        }
        let empty = test_runs(RUNS, |run, record| {
            let mut after = Histogram::new();
            (0..5_000)
                .filter(|_| run != GUEST)
                .for_each(|_| after.record(1));
            record.moving.insert(OWN_WINDOW.into(), after.clone());
            record.moving.insert(AFTER_WINDOW.into(), after);
        });
        let missing =
            judge(&empty, &mut Measured::default()).expect_err("no stall of the guest's own mover");
        assert!(missing.0.contains(GUEST), "{missing}");
        assert!(judge(&runs(0, 0, false), &mut Measured::default()).is_err());
    }
}
