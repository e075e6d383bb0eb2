//! Q1e: the kinds of RCU side by side, what boosting preempted readers is good for, and what locks that
//! sleep cost.

use super::ways_out;
use crate::claims::plan::{Checker, Flags, Plan, PlannedRun, Verdict};
use crate::claims::runs::{Measured, Missing, Runs};
use crate::human;
use crate::settings::Key;
use underfoot_abi::RecordedPhase::{Control, Moving};
use underfoot_abi::{Metric, ReportKind};

const COMMON: Flags = &[
    (Key::Workload, "rcu-torture"),
    (Key::Cpus, "2"),
    (Key::Duration, "3s"),
];

const CAUGHT: &[Checker] = &[Checker::Report(ReportKind::RcuTorture)];

const RUNS: &[PlannedRun] = &[
    PlannedRun::control("none", &[(Key::Strategy, "none")]),
    PlannedRun::good("classic", &[(Key::Parameters, "kind=classic")]),
    PlannedRun::good("preemptible", &[(Key::Parameters, "kind=preemptible")]),
    PlannedRun::good("sleepable", &[(Key::Parameters, "kind=sleepable")]),
    PlannedRun::good(
        "hogs",
        &[
            (Key::Parameters, "kind=preemptible,hogs=on,boost=off"),
            (Key::Duration, "4s"),
        ],
    ),
    PlannedRun::good(
        "hogs-boost",
        &[
            (Key::Parameters, "kind=preemptible,hogs=on,boost=on"),
            (Key::Duration, "4s"),
        ],
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
    ways_out::FORM_RUNS[0],
    ways_out::FORM_RUNS[1],
    ways_out::FORM_RUNS[2],
    ways_out::FORM_RUNS[3],
    ways_out::FORM_RUNS[4],
    ways_out::FORM_RUNS[5],
    ways_out::BUSTED_RUN,
    ways_out::BACKLOG_RUNS[0],
    ways_out::BACKLOG_RUNS[1],
];

/// Bursts of hogs below which there is nothing to compare.
const LEAST_BURSTS: u64 = 10;

/// The experiment.
pub const PLAN: Plan = Plan {
    id: "Q1e",
    criterion: "yes if no reader of any kind saw an object two grace periods old while pages moved, \
                nothing was lost in a tree under locks that sleep, and, with readers preempted by hogs for 100 ms at a time, boosting them lets a \
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
    let [mutexes, sleeping] = ways_out::ratios(runs, measured)?;
    let (bytes, starved) = ways_out::backlog(runs, measured)?;
    let plain = overdue(runs, "hogs", measured)?;
    let boosted = overdue(runs, "hogs-boost", measured)?;
    if plain.0 < LEAST_BURSTS || boosted.0 < LEAST_BURSTS {
        let reason = format!("only {} and {} bursts", plain.0, boosted.0);
        return Ok(Verdict::inconclusive(reason));
    }
    let reason = format!(
        "no reader saw an old object; no grace period ended in {} of {} bursts of hogs, with \
         boosting in {} of {}; of the operations with spinlocks, mutexes with sleepable RCU made \
         {mutexes}, spinlocks that sleep {sleeping}; readers that stayed 100 ms let {} bytes wait, and {} \
         pages were asked for in vain",
        human::count(plain.1),
        human::count(plain.0),
        human::count(boosted.1),
        human::count(boosted.0),
        human::count(bytes),
        human::count(starved),
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
    use crate::claims::runs::test_runs;
    use crate::histogram::Histogram;

    fn runs(plain: (u64, u64), boosted: (u64, u64)) -> Runs {
        test_runs(RUNS, |run, record| {
            let mut times = Histogram::new();
            times.record(1_000);
            for metric in [
                Metric::GracePeriod,
                Metric::RcuRead,
                Metric::LockWait,
                Metric::LockHold,
            ] {
                let name = metric.name().to_owned();
                record.control.insert(name.clone(), times.clone());
                record.moving.insert(name, times.clone());
            }
            let (bursts, overdue) = match run {
                "hogs" => plain,
                _ => boosted,
            };
            let operations = match run {
                "walk-mutex-srcu-1" | "walk-mutex-srcu-2" => 500,
                _ => 1_000,
            };
            record.guest.control.insert("operations", operations);
            for (counter, value) in [
                ("bursts", bursts),
                ("overdue", overdue),
                ("boosts", 1),
                ("operations", operations),
                ("callbacks_waiting_max", 7),
                ("bytes_waiting_max", 700),
                ("starved", 3),
            ] {
                record.guest.moving.insert(counter, value);
            }
        })
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

    #[test]
    fn forms_are_compared_with_the_classic_one() {
        let mut measured = Measured::default();
        let ratios = ways_out::ratios(&runs((20, 20), (30, 2)), &mut measured);
        let ratios = ratios.expect("all is there");
        let said = ratios.map(|ratios| ratios.to_string());
        assert_eq!(said[0], "0.50 to 0.50 (0.50 to 0.50 while pages moved)");
        assert_eq!(ratios[1].moving, [1.0; 2]);
    }

    #[test]
    fn a_form_that_lost_something_is_no_yes() {
        let mut runs = runs((20, 20), (30, 2));
        let mutexes = runs.0.iter_mut();
        let lost = mutexes.filter(|run| run.planned.name == "walk-mutex-srcu-2");
        lost.for_each(|run| run.record.integrity.errors = 1);
        let verdict = judge(&runs, &mut Measured::default());
        assert!(verdict.is_err_and(|missing| missing.to_string().contains("walk-mutex-srcu-2")));
    }
}
