//! Q5b: the lock of page-table lists, which threads and the RCU callback take.

use crate::claims::plan::{Answer, Checker, Flags, Plan, PlannedRun, Verdict};
use crate::claims::runs::{Measured, Missing, Runs};
use crate::guest_record;
use crate::record::Ending;
use crate::settings::Key;
use underfoot_abi::RecordedPhase::Moving;
use underfoot_abi::ReportKind;

const COMMON: Flags = &[
    (Key::Workload, "mmap1"),
    (Key::Parameters, "lockdep=on"),
    (Key::Cpus, "2"),
    (Key::Duration, "4s"),
];

const RUNS: &[PlannedRun] = &[
    PlannedRun::control("none", &[(Key::Strategy, "none")]),
    PlannedRun::good("mmap1", &[]),
    PlannedRun::good("exit", &[(Key::Workload, "exit")]),
    PlannedRun::busted(
        "busted-watched",
        &[(Key::Variant, "busted-plain-lock"), (Key::Duration, "6s")],
        &[
            Checker::Report(ReportKind::LockContext),
            Checker::Report(ReportKind::LockCycle),
        ],
        1,
    ),
    PlannedRun::busted(
        "busted-hang",
        &[
            (Key::Variant, "busted-plain-lock"),
            (Key::Parameters, "lockdep=off,pages=1"),
            (Key::Duration, "6s"),
        ],
        &[Checker::Report(ReportKind::RcuStall)],
        5,
    ),
];

/// Changes of mappings that must have gone well for "does not deadlock", by run.
const LEAST_CHANGES: [(&str, u64); 2] = [("mmap1", 1_000), ("exit", 100)];

/// What the checkers of locks and of RCU say of the deadlock.
const ACCUSATIONS: [Result<ReportKind, u32>; 3] = [
    Ok(ReportKind::LockContext),
    Ok(ReportKind::LockCycle),
    Ok(ReportKind::RcuStall),
];

/// The experiment.
pub const PLAN: Plan = Plan {
    id: "Q5b",
    criterion: "yes if, with bottom halves on, the lock-order checker names the lock before anything \
                hangs, and without it the guest hangs and its own stall detector names a CPU that holds \
                RCU up before the host gives the guest up, and with them off both are silent and mmap1 \
                goes on for at least 1,000 changes of mappings and exit for 100; inconclusive if \
                nothing hung, no stall was told, or there were fewer changes",
    common: COMMON,
    runs: RUNS,
    judge,
};

fn judge(runs: &Runs, measured: &mut Measured) -> Result<Verdict, Missing> {
    let mut enough = true;
    for (run, least) in LEAST_CHANGES {
        let record = runs.record(run)?;
        if record.outcome.ending == Ending::Watchdog {
            let reason = format!("{run} hung with bottom halves off");
            return Ok(Verdict::new(Answer::No, reason));
        }
        let reports = &mut record.guest.reports.iter();
        if let Some(report) = reports.find(|report| ACCUSATIONS.contains(&report.kind)) {
            let reason = format!("in {run}: {}", guest_record::line(report));
            return Ok(Verdict::new(Answer::No, reason));
        }
        let changes = runs.counter(run, Moving, "changes")?;
        measured.set(format!("{run}.changes"), changes);
        enough &= changes >= least;
    }
    for run in ["busted-watched", "busted-hang"] {
        let ending = runs.record(run)?.outcome.ending.name();
        measured.set(format!("{run}.ending"), ending);
    }
    let hang = runs.record("busted-hang")?;
    if hang.outcome.ending != Ending::Watchdog {
        let reason = "with bottom halves on the guest did not hang in this time";
        return Ok(Verdict::inconclusive(reason));
    }
    let Some(stall) = hang.guest.report_in_time(ReportKind::RcuStall) else {
        let reason = "the guest hung, and its stall detector said nothing before the host ended it";
        return Ok(Verdict::inconclusive(reason));
    };
    let [_, age_ns, waiting, _] = stall.words;
    measured.set("busted-hang.stall_age_ns", age_ns);
    measured.set("busted-hang.stalled_cpus", waiting);
    measured.set("busted-hang.stall_told_by", stall.cpu);
    if !enough {
        let reason = "too few changes of mappings with bottom halves off";
        return Ok(Verdict::inconclusive(reason));
    }
    let reason = "with bottom halves on the checker named the lock, and without it the guest hung and its \
                  stall detector told of it; with them off it went on and both were silent";
    Ok(Verdict::yes_if(true, reason))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::claims::runs::test_runs;
    use crate::test_record::test_report;

    #[test]
    fn only_the_plain_lock_may_hang() {
        use Ending::{Done, Watchdog};
        const NONE: &[ReportKind] = &[];
        const STALL: &[ReportKind] = &[ReportKind::RcuStall];
        const LOCK: &[ReportKind] = &[ReportKind::LockContext];
        for (good, busted, changes, told, accused, answer) in [
            (Done, Watchdog, 1_000, STALL, NONE, Answer::Yes),
            (Done, Watchdog, 999, STALL, NONE, Answer::Inconclusive),
            (Done, Watchdog, 1_000, NONE, NONE, Answer::Inconclusive),
            (Done, Watchdog, 1_000, LOCK, NONE, Answer::Inconclusive),
            (Done, Done, 1_000, STALL, NONE, Answer::Inconclusive),
            (Watchdog, Watchdog, 1_000, STALL, NONE, Answer::No),
            (Done, Watchdog, 1_000, STALL, LOCK, Answer::No),
            (Done, Watchdog, 1_000, STALL, STALL, Answer::No),
        ] {
            let runs = test_runs(RUNS, |run, record| {
                let wrong = run.starts_with("busted");
                record.outcome.ending = if wrong { busted } else { good };
                record.guest.moving.insert("changes", changes);
                let kinds = if wrong { told } else { accused };
                let reports = kinds.iter().map(|kind| test_report(0, *kind));
                record.guest.reports = reports.collect();
                record.guest.reports_before_end = kinds.len() as u32;
            });
            let verdict = judge(&runs, &mut Measured::default());
            assert_eq!(verdict.expect("all is there").answer, answer);
        }
    }
}
