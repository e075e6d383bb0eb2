//! Q2a.guest: the rules of allocations on the guest's fast path.

use super::pressure::{SHORT, at_least_one_report};
use crate::claims::plan::{Answer, Checker, Flags, Plan, PlannedRun, Verdict};
use crate::claims::runs::{Measured, Missing, Runs};
use crate::settings::Key;
use underfoot_abi::RecordedPhase::Moving;
use underfoot_abi::{Metric, ReportKind};

const COMMON: Flags = SHORT;

/// Broken rules are reported by the allocator.
const CAUGHT: &[Checker] = &[Checker::Report(ReportKind::Allocation)];

const RUNS: &[PlannedRun] = &[
    PlannedRun::control(
        "none",
        &[
            (Key::Strategy, "none"),
            (Key::Parameters, "path=speculative,lockdep=on"),
        ],
    ),
    PlannedRun::good(
        "speculative-reclaim",
        &[(
            Key::Parameters,
            "path=speculative,fallback=reclaim,lockdep=on",
        )],
    ),
    PlannedRun::good(
        "speculative-classic",
        &[(
            Key::Parameters,
            "path=speculative,fallback=classic,lockdep=on",
        )],
    ),
    PlannedRun::good(
        "vma-lock-reclaim",
        &[(Key::Parameters, "path=vma-lock,fallback=reclaim,lockdep=on")],
    ),
    PlannedRun::good(
        "vma-lock-classic",
        &[(Key::Parameters, "path=vma-lock,fallback=classic,lockdep=on")],
    ),
    PlannedRun::busted(
        "busted-dips-into-reserve",
        &[
            (Key::Parameters, "path=speculative"),
            (Key::Variant, "busted-dips-into-reserve"),
        ],
        CAUGHT,
        3,
    ),
    PlannedRun::busted(
        "busted-reclaims-under-rcu",
        &[
            (Key::Parameters, "path=speculative"),
            (Key::Variant, "busted-reclaims-under-rcu"),
        ],
        CAUGHT,
        3,
    ),
];

/// The good runs, and the counter of what a refused fast path did there.
const FALLBACKS: [(&str, &str); 4] = [
    ("speculative-reclaim", "reclaimed"),
    ("speculative-classic", "classic"),
    ("vma-lock-reclaim", "reclaimed"),
    ("vma-lock-classic", "classic"),
];

/// Refusals that a run must have seen.
const LEAST_REFUSED: u64 = 10;

/// The experiment.
pub const PLAN: Plan = Plan {
    id: "Q2a.guest",
    criterion: "yes if, while pages move, with both paths and both fallbacks, the fast path was refused a \
                page at least 10 times and took its fallback, no fault was left without a page, and \
                neither the allocator nor the lock-order checker reported anything; no if one of them \
                did or a fault was left without; inconclusive if there were fewer refusals",
    common: COMMON,
    runs: RUNS,
    judge,
};

fn judge(runs: &Runs, measured: &mut Measured) -> Result<Verdict, Missing> {
    let mut all_refused = true;
    let mut refusals = 0;
    for (run, fallback) in FALLBACKS {
        if let Some(report) = at_least_one_report(runs.record(run)?) {
            return Ok(Verdict::new(Answer::No, format!("in {run}: {report}")));
        }
        let mut count = |counter: &str| -> Result<u64, Missing> {
            let value = runs.counter(run, Moving, counter)?;
            measured.set(format!("{run}.{counter}"), value);
            Ok(value)
        };
        let (refused, fell_back) = (count("no-memory")?, count(fallback)?);
        count("evicted")?;
        let left = count("out-of-memory")?;
        if left > 0 {
            let reason = format!("in {run} {left} faults were left without a page");
            return Ok(Verdict::new(Answer::No, reason));
        }
        let faults = runs.histogram(run, Moving, Metric::Fault.name())?;
        measured.latencies(format!("{run}.fault"), faults);
        all_refused &= refused >= LEAST_REFUSED && fell_back > 0;
        refusals += refused;
    }
    if !all_refused {
        let reason = "a fast path was refused too seldom: there was too much memory";
        return Ok(Verdict::inconclusive(reason));
    }
    let reason = format!(
        "{refusals} refused allocations fell back, no fault was left without a page, and no rule was broken"
    );
    Ok(Verdict::yes_if(true, reason))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::claims::experiments::pressure::test_counters;
    use crate::claims::runs::test_runs;
    use crate::test_record::test_report;

    #[test]
    fn rules_and_fallbacks_decide() {
        for (refused, fell_back, left, report, answer) in [
            (10, 10, 0, None, Answer::Yes),
            (9, 10, 0, None, Answer::Inconclusive),
            (10, 0, 0, None, Answer::Inconclusive),
            (10, 10, 1, None, Answer::No),
            (10, 10, 0, Some(ReportKind::Allocation), Answer::No),
            (10, 10, 0, Some(ReportKind::LockCycle), Answer::No),
        ] {
            let runs = test_runs(RUNS, |run, record| {
                test_counters(record);
                let moving = &mut record.guest.moving;
                moving.insert("no-memory", refused);
                moving.insert("reclaimed", fell_back);
                moving.insert("classic", fell_back);
                moving.insert("out-of-memory", left);
                record.guest.reports.clear();
                if run == "vma-lock-classic" {
                    let report = report.map(|kind| test_report(0, kind));
                    record.guest.reports.extend(report);
                }
            });
            let verdict = judge(&runs, &mut Measured::default());
            assert_eq!(verdict.expect("all is there").answer, answer);
        }
    }
}
