//! Q1g: stopping the world, and allocating inside the window, beside what does not.

use crate::claims::plan::{Answer, Checker, Flags, Plan, PlannedRun, Verdict};
use crate::claims::runs::{Measured, Missing, Runs};
use crate::human;
use crate::record::RunRecord;
use crate::settings::Key;
use underfoot_abi::RecordedPhase::Moving;

/// The default workload, half of the time undisturbed: what a page costs is held against that.
const COMMON: Flags = &[
    (Key::Rate, "10000"),
    (Key::Duration, "3s"),
    (Key::Control, "50%"),
];

const TWO: (Key, &str) = (Key::Cpus, "2");
const FOUR: (Key, &str) = (Key::Cpus, "4");
const STOP: (Key, &str) = (Key::Strategy, "stop-world");
const UNMAP: (Key, &str) = (Key::Strategy, "unmap-copy");
const PROTECT: (Key, &str) = (Key::Strategy, "protect-copy");
const TRANSACT: (Key, &str) = (Key::Strategy, "transactional");
const REMAP: (Key, &str) = (Key::Backend, "remap");
const GUEST: (Key, &str) = (Key::Mover, "guest");

/// Each form in turn, three times over: what the host does meanwhile meets all of them.
const RUNS: &[PlannedRun] = &[
    PlannedRun::control("none-2", &[TWO, (Key::Strategy, "none")]),
    PlannedRun::control("none-4", &[FOUR, (Key::Strategy, "none")]),
    PlannedRun::good("stop-world-2-a", &[TWO, STOP]),
    PlannedRun::good("unmap-copy-2-a", &[TWO, UNMAP]),
    PlannedRun::good("protect-copy-2-a", &[TWO, PROTECT]),
    PlannedRun::good("transactional-2-a", &[TWO, TRANSACT]),
    PlannedRun::good("stop-world-4-a", &[FOUR, STOP]),
    PlannedRun::good("unmap-copy-4-a", &[FOUR, UNMAP]),
    PlannedRun::good("protect-copy-4-a", &[FOUR, PROTECT]),
    PlannedRun::good("transactional-4-a", &[FOUR, TRANSACT]),
    PlannedRun::good("stop-world-2-b", &[TWO, STOP]),
    PlannedRun::good("unmap-copy-2-b", &[TWO, UNMAP]),
    PlannedRun::good("protect-copy-2-b", &[TWO, PROTECT]),
    PlannedRun::good("transactional-2-b", &[TWO, TRANSACT]),
    PlannedRun::good("stop-world-4-b", &[FOUR, STOP]),
    PlannedRun::good("unmap-copy-4-b", &[FOUR, UNMAP]),
    PlannedRun::good("protect-copy-4-b", &[FOUR, PROTECT]),
    PlannedRun::good("transactional-4-b", &[FOUR, TRANSACT]),
    PlannedRun::good("stop-world-2-c", &[TWO, STOP]),
    PlannedRun::good("unmap-copy-2-c", &[TWO, UNMAP]),
    PlannedRun::good("protect-copy-2-c", &[TWO, PROTECT]),
    PlannedRun::good("transactional-2-c", &[TWO, TRANSACT]),
    PlannedRun::good("stop-world-4-c", &[FOUR, STOP]),
    PlannedRun::good("unmap-copy-4-c", &[FOUR, UNMAP]),
    PlannedRun::good("protect-copy-4-c", &[FOUR, PROTECT]),
    PlannedRun::good("transactional-4-c", &[FOUR, TRANSACT]),
    PlannedRun::good("ahead", &[TWO, PROTECT, REMAP]),
    PlannedRun::good("inside", &[TWO, PROTECT, REMAP, (Key::Allocate, "window")]),
    PlannedRun::good("guest-2", &[TWO, GUEST]),
    PlannedRun::good("guest-4", &[FOUR, GUEST]),
    // What makes a way that stops nobody wrong: the page is copied while vCPUs write it.
    PlannedRun::busted(
        "busted-no-unmap",
        &[
            TWO,
            UNMAP,
            (Key::Rate, "max"),
            (Key::Variant, "busted-no-unmap"),
        ],
        &[
            Checker::Integrity("audit"),
            Checker::Integrity("check words"),
        ],
        8,
    ),
];

const OTHERS: [&str; 3] = ["unmap-copy", "protect-copy", "transactional"];
const CPUS: [u32; 2] = [2, 4];
const REPEATS: [&str; 3] = ["a", "b", "c"];
/// What allocating is a part of: the copy to the new frame.
const COPY: &str = "window.copy";

/// The experiment.
pub const PLAN: Plan = Plan {
    id: "Q1g",
    criterion: "yes if, at 2 and at 4 vCPUs, the guest loses more time to each page moved in all three runs of \
                stop-world than in any of the other strategies, and half of the copies take longer where \
                the frame is allocated inside; no if, at 2 and at 4, some other strategy loses at least as \
                much in all of its runs, or copies do not take longer; inconclusive otherwise",
    common: COMMON,
    runs: RUNS,
    judge,
};

/// vCPU time that the guest's work lost to each page moved, in ns: the share of its operations per second
/// that was missing, of the vCPU time in which pages moved. Below 0 where it did more.
fn lost_ns(record: &RunRecord) -> Option<f64> {
    let control = record
        .control_operations_per_s()
        .filter(|rate| *rate > 0.0)?;
    let share = 1.0 - record.moving_operations_per_s()? / control;
    let vcpu_ns = record.migration.moving_ns as f64 * f64::from(record.experiment.cpus.get());
    let pages = record.migration.counts.committed;
    (pages > 0).then(|| share * vcpu_ns / pages as f64)
}

/// Of each repeat of a form; notes them.
fn lost(runs: &Runs, form: &str, cpus: u32, measured: &mut Measured) -> Result<[f64; 3], Missing> {
    let mut all = [0.0; 3];
    for (lost, repeat) in all.iter_mut().zip(REPEATS) {
        *lost = note(runs, &format!("{form}-{cpus}-{repeat}"), measured)?;
    }
    Ok(all)
}

/// Notes what a run cost the guest; the time lost to each page.
fn note(runs: &Runs, name: &str, measured: &mut Measured) -> Result<f64, Missing> {
    let record = runs.sound(name)?;
    let lost = lost_ns(record)
        .ok_or_else(|| Missing(format!("run {name} moved nothing or did nothing")))?;
    measured.set(format!("{name}.lost_ns_per_page"), lost);
    if let Some(stalled) = record.stalled_ns_per_page() {
        measured.set(format!("{name}.stalled_ns_per_page"), stalled);
    }
    let pages_per_s = record.migration.pages_per_s();
    measured.set(format!("{name}.pages_per_s"), pages_per_s);
    for metric in ["window", "guest.probe"] {
        if let Ok(histogram) = runs.histogram(name, Moving, metric) {
            measured.latencies(format!("{name}.{metric}"), histogram);
        }
    }
    Ok(lost)
}

fn least(of: &[f64]) -> f64 {
    of.iter().copied().fold(f64::INFINITY, f64::min)
}

fn most(of: &[f64]) -> f64 {
    of.iter().copied().fold(f64::NEG_INFINITY, f64::max)
}

fn judge(runs: &Runs, measured: &mut Measured) -> Result<Verdict, Missing> {
    let (mut dearer, mut cheaper, mut said) = (true, true, Vec::new());
    for cpus in CPUS {
        let stop = lost(runs, "stop-world", cpus, measured)?;
        let mut others = Vec::new();
        for form in OTHERS {
            others.push(lost(runs, form, cpus, measured)?);
        }
        let highest = others
            .iter()
            .map(|all| most(all))
            .fold(f64::NEG_INFINITY, f64::max);
        dearer &= least(&stop) > highest;
        cheaper &= others.iter().any(|all| least(all) >= most(&stop));
        said.push(format!(
            "at {cpus} vCPUs {:.0} to {:.0} us lost to a page by stop-world, {:.0} to {:.0} us by the others",
            least(&stop) / 1e3,
            most(&stop) / 1e3,
            others.iter().map(|all| least(all)).fold(f64::INFINITY, f64::min) / 1e3,
            highest / 1e3,
        ));
    }
    let mut copy = |name: &str| -> Result<u64, Missing> {
        note(runs, name, measured)?;
        for metric in [COPY, "window.write"] {
            measured.latencies(
                format!("{name}.{metric}"),
                runs.histogram(name, Moving, metric)?,
            );
        }
        runs.percentile(name, Moving, COPY, 5_000)
    };
    let (ahead, inside) = (copy("ahead")?, copy("inside")?);
    for name in ["guest-2", "guest-4"] {
        note(runs, name, measured)?;
    }
    said.push(format!(
        "half of the copies took at most {} with the frame allocated ahead, {} inside",
        human::time(ahead),
        human::time(inside)
    ));
    let reason = said.join("; ");
    Ok(if cheaper || inside <= ahead {
        Verdict::new(Answer::No, reason)
    } else if dearer {
        Verdict::yes_if(true, reason)
    } else {
        Verdict::inconclusive(reason)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::claims::runs::test_runs;
    use crate::histogram::Histogram;

    #[test]
    fn the_criterion_is_what_it_says() {
        // Operations while pages move: stop-world, the others, one of the others; the copies in ns.
        for (stop, other, one, [ahead, inside], answer) in [
            (1_000, 2_000, 2_000, [300, 900], Answer::Yes),
            (1_000, 2_000, 1_000, [300, 900], Answer::No),
            (1_000, 2_000, 2_000, [300, 300], Answer::No),
            (3_000, 2_000, 2_000, [300, 900], Answer::No),
        ] {
            let runs = test_runs(RUNS, |name, record| {
                let operations = match name {
                    _ if name.starts_with("stop-world") => stop,
                    _ if name.starts_with("protect-copy") => one,
                    _ => other,
                };
                record.guest.moving.insert("operations", operations);
                record.guest.control.insert("operations", 1_000_000);
                for metric in [COPY, "window.write"] {
                    let mut histogram = Histogram::new();
                    histogram.record(if name == "inside" { inside } else { ahead });
                    record.moving.insert(metric.into(), histogram);
                }
            });
            let verdict = judge(&runs, &mut Measured::default()).expect("all is there");
            assert_eq!(verdict.answer, answer, "{verdict:?}");
        }
    }

    #[test]
    fn runs_that_overlap_tell_nothing() {
        let runs = test_runs(RUNS, |name, record| {
            let operations = if name.ends_with("-b") { 1_000 } else { 2_000 };
            record.guest.moving.insert("operations", operations);
            for metric in [COPY, "window.write"] {
                let mut histogram = Histogram::new();
                histogram.record(if name == "inside" { 900 } else { 300 });
                record.moving.insert(metric.into(), histogram);
            }
        });
        let verdict = judge(&runs, &mut Measured::default()).expect("all is there");
        assert_eq!(verdict.answer, Answer::Inconclusive, "{verdict:?}");
    }
}
