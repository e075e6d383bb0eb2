//! Q4b: the lock cycle of speculative page faults. The checker must name it before anything hangs;
//! whether it can hang depends on what a reader does that meets an odd sequence count.

use crate::claims::plan::{Answer, Checker, Flags, Plan, PlannedRun, Verdict};
use crate::claims::runs::{Measured, Missing, Runs};
use crate::record::Ending;
use crate::settings::Key;
use underfoot_abi::RecordedPhase::Moving;
use underfoot_abi::ReportKind;

const COMMON: Flags = &[
    (Key::Workload, "lock-order"),
    (Key::Cpus, "2"),
    (Key::Duration, "3s"),
];

const CAUGHT: &[Checker] = &[Checker::Report(ReportKind::LockCycle)];

const RUNS: &[PlannedRun] = &[
    PlannedRun::control("none", &[(Key::Strategy, "none")]),
    PlannedRun::good("abort", &[(Key::Parameters, "reader=abort")]),
    PlannedRun::good("wait", &[(Key::Parameters, "reader=wait")]),
    PlannedRun::busted(
        "busted-abort",
        &[
            (Key::Parameters, "reader=abort,reclaim-every=1"),
            (Key::Variant, "busted-lock-order"),
        ],
        CAUGHT,
        1,
    ),
    PlannedRun::busted(
        "busted-wait",
        &[
            (Key::Parameters, "reader=wait,reclaim-every=1"),
            (Key::Variant, "busted-lock-order"),
        ],
        CAUGHT,
        1,
    ),
];

/// Moves with reclaim inside the sections that must have gone well for "does not hang".
const LEAST_RECLAIMS: u64 = 1_000;

/// The experiment.
pub const PLAN: Plan = Plan {
    id: "Q4b",
    criterion: "yes if, with reclaim inside the write sections, the guest hangs where readers wait \
                for an odd count, after the checker has named the cycle, and goes on where they give \
                up (at least 1,000 reclaims); inconclusive if it did not hang in this time",
    common: COMMON,
    runs: RUNS,
    judge,
};

fn judge(runs: &Runs, measured: &mut Measured) -> Result<Verdict, Missing> {
    for run in ["abort", "wait"] {
        let rate = runs.operations_per_s(run, Moving)?;
        measured.set(format!("{run}.operations_per_s"), rate);
    }
    let giving_up = runs.record("busted-abort")?;
    let waiting = runs.record("busted-wait")?;
    let reclaims = giving_up.guest.moving.get("reclaims").copied().unwrap_or(0);
    measured.set("busted-abort.reclaims", reclaims);
    if giving_up.outcome.ending != Ending::Done || reclaims < LEAST_RECLAIMS {
        let reason = format!(
            "readers gave up, and the guest got no further than {reclaims} reclaims: {}",
            giving_up.outcome.ending.name()
        );
        return Ok(Verdict::new(Answer::No, reason));
    }
    if waiting.outcome.ending != Ending::Watchdog {
        return Ok(Verdict::inconclusive(
            "where readers wait the guest did not hang in this time",
        ));
    }
    let reason = format!(
        "where readers wait it hung, after the cycle was named; where they give up it went through \
         {reclaims} reclaims inside write sections"
    );
    Ok(Verdict::new(Answer::Yes, reason))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::claims::runs::test_runs;

    fn runs(giving_up: Ending, waiting: Ending, reclaims: u64) -> Runs {
        test_runs(RUNS, |run, record| {
            record.outcome.ending = match run {
                "busted-abort" => giving_up,
                "busted-wait" => waiting,
                _ => Ending::Done,
            };
            record.guest.moving.insert("reclaims", reclaims);
        })
    }

    #[test]
    fn it_can_hang_only_where_a_reader_waits() {
        use Ending::{Done, Watchdog};
        for (giving_up, waiting, reclaims, answer) in [
            (Done, Watchdog, 1_000, Answer::Yes),
            (Done, Watchdog, 999, Answer::No),
            (Watchdog, Watchdog, 1_000, Answer::No),
            (Done, Done, 1_000, Answer::Inconclusive),
        ] {
            let verdict = judge(
                &runs(giving_up, waiting, reclaims),
                &mut Measured::default(),
            );
            assert_eq!(verdict.expect("all is there").answer, answer);
        }
    }
}
