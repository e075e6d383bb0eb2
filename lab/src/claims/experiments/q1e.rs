//! Q1e: the kinds of RCU side by side, and what boosting preempted readers is good for.

use crate::claims::plan::{Checker, Flags, Plan, PlannedRun, Verdict};
use crate::claims::runs::{Measured, Missing, Runs};
use crate::human;
use crate::settings::Key;
use underfoot_abi::RecordedPhase::{Control, Moving};
use underfoot_abi::{Metric, ReportKind};

const COMMON: Flags = &[
    (Key::Workload, "rcu-torture"),
    (Key::Cpus, "2"),
    (Key::Duration, "4s"),
];

const CAUGHT: &[Checker] = &[Checker::Report(ReportKind::RcuTorture)];

const RUNS: &[PlannedRun] = &[
    PlannedRun::control("none", &[(Key::Strategy, "none")]),
    PlannedRun::good("classic", &[(Key::Parameters, "kind=classic")]),
    PlannedRun::good("preemptible", &[(Key::Parameters, "kind=preemptible")]),
    PlannedRun::good("sleepable", &[(Key::Parameters, "kind=sleepable")]),
    PlannedRun::good(
        "hogs",
        &[(Key::Parameters, "kind=preemptible,hogs=on,boost=off")],
    ),
    PlannedRun::good(
        "hogs-boost",
        &[(Key::Parameters, "kind=preemptible,hogs=on,boost=on")],
    ),
    PlannedRun::busted(
        "busted-classic",
        &[
            (Key::Parameters, "kind=classic"),
            (Key::Variant, "busted-rcu-classic"),
        ],
        CAUGHT,
        3,
    ),
    PlannedRun::busted(
        "busted-preemptible",
        &[
            (Key::Parameters, "kind=preemptible"),
            (Key::Variant, "busted-rcu-preempt"),
        ],
        CAUGHT,
        3,
    ),
    PlannedRun::busted(
        "busted-sleepable",
        &[
            (Key::Parameters, "kind=sleepable"),
            (Key::Variant, "busted-rcu-sleep"),
        ],
        CAUGHT,
        3,
    ),
];

/// Bursts of hogs below which there is nothing to compare.
const LEAST_BURSTS: u64 = 10;

/// The experiment.
pub const PLAN: Plan = Plan {
    id: "Q1e",
    criterion: "yes if no reader of any kind saw an object two grace periods old while pages moved, \
                and, with readers preempted by hogs for 100 ms at a time, boosting them lets a \
                greater share of the bursts see a grace period end than not boosting them; \
                inconclusive below 10 bursts each",
    common: COMMON,
    runs: RUNS,
    judge,
};

fn judge(runs: &Runs, measured: &mut Measured) -> Result<Verdict, Missing> {
    for run in ["classic", "preemptible", "sleepable"] {
        let grace = runs.histogram(run, Moving, Metric::GracePeriod.name())?;
        measured.latencies(format!("{run}.grace_period"), grace);
        if let Ok(grace) = runs.histogram(run, Control, Metric::GracePeriod.name()) {
            measured.latencies(format!("{run}.grace_period.control"), grace);
        }
        for counter in ["callbacks_waiting_max", "bytes_waiting_max"] {
            let value = runs.counter(run, Moving, counter)?;
            measured.set(format!("{run}.{counter}"), value);
        }
        let rate = runs.operations_per_s(run, Moving)?;
        measured.set(format!("{run}.operations_per_s"), rate);
    }
    let plain = overdue(runs, "hogs", measured)?;
    let boosted = overdue(runs, "hogs-boost", measured)?;
    if plain.0 < LEAST_BURSTS || boosted.0 < LEAST_BURSTS {
        let reason = format!("only {} and {} bursts", plain.0, boosted.0);
        return Ok(Verdict::inconclusive(reason));
    }
    let reason = format!(
        "no reader saw an old object; no grace period ended in {} of {} bursts of hogs, with \
         boosting in {} of {}",
        human::count(plain.1),
        human::count(plain.0),
        human::count(boosted.1),
        human::count(boosted.0),
    );
    // Shares, without a division.
    let better = boosted.1 * plain.0 < plain.1 * boosted.0;
    Ok(Verdict::yes_if(better, reason))
}

/// Bursts of hogs, and those in which no grace period ended. A run that stalls so long that the
/// detector speaks is no less an answer.
fn overdue(runs: &Runs, run: &str, measured: &mut Measured) -> Result<(u64, u64), Missing> {
    let counters = &runs.record(run)?.guest.moving;
    let counted = |name: &str| {
        let value = counters.get(name).copied();
        value.ok_or_else(|| Missing(format!("the workload of run {run} counts no {name}")))
    };
    let (bursts, overdue) = (counted("bursts")?, counted("overdue")?);
    measured.set(format!("{run}.bursts"), bursts);
    measured.set(format!("{run}.overdue"), overdue);
    measured.set(format!("{run}.boosts"), counted("boosts")?);
    Ok((bursts, overdue))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::claims::plan::Answer;
    use crate::claims::runs::DoneRun;
    use crate::histogram::Histogram;
    use crate::test_record::test_record;

    fn runs(plain: (u64, u64), boosted: (u64, u64)) -> Runs {
        let done = RUNS.iter().map(|planned| {
            let mut record = test_record();
            let mut grace = Histogram::new();
            grace.record(1_000);
            let name = Metric::GracePeriod.name().to_owned();
            record.moving.insert(name, grace);
            let (bursts, overdue) = match planned.name {
                "hogs" => plain,
                _ => boosted,
            };
            for (counter, value) in [
                ("bursts", bursts),
                ("overdue", overdue),
                ("boosts", 1),
                ("callbacks_waiting_max", 7),
                ("bytes_waiting_max", 700),
            ] {
                record.guest.moving.insert(counter, value);
            }
            DoneRun {
                planned: *planned,
                record,
                attempts: 1,
            }
        });
        Runs(done.collect())
    }

    #[test]
    fn boosting_must_help() {
        for (plain, boosted, answer) in [
            ((20, 20), (30, 2), Answer::Yes),
            ((20, 10), (40, 20), Answer::No),
            ((20, 0), (20, 0), Answer::No),
            ((9, 9), (20, 0), Answer::Inconclusive),
        ] {
            let verdict = judge(&runs(plain, boosted), &mut Measured::default());
            assert_eq!(verdict.expect("all is there").answer, answer);
        }
    }
}
