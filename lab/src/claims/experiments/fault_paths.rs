//! What the experiments on the paths of page faults have in common.

use crate::claims::plan::{Checker, Flags};
use crate::claims::runs::{Measured, Missing, Runs};
use crate::settings::Key;
use underfoot_abi::RecordedPhase::{Control, Moving};
use underfoot_abi::{Metric, ReportKind};

/// An entry landed in a freed table.
pub const CAUGHT: &[Checker] = &[Checker::Report(ReportKind::Fragment)];

/// The fault path is not locked out of tables that are torn down.
pub const NO_VMA_LOCK: Flags = &[
    (Key::Workload, "mmap1"),
    (Key::Parameters, "path=vma-lock"),
    (Key::Variant, "busted-no-vma-lock"),
];

/// The speculative path does not see that tables are torn down.
pub const NO_SEQUENCE_CHECK: Flags = &[
    (Key::Workload, "mmap1"),
    (Key::Parameters, "path=speculative"),
    (Key::Variant, "busted-no-sequence-check"),
];

/// Notes the fault throughput and latencies of these runs, in both phases. Their throughput while
/// pages move, the middle one.
pub fn median_rate(runs: &Runs, names: &[&str], measured: &mut Measured) -> Result<f64, Missing> {
    let mut rates = Vec::new();
    for run in names {
        for (phase, suffix) in [(Control, ".control"), (Moving, "")] {
            let rate = runs.operations_per_s(run, phase)?;
            measured.set(format!("{run}.operations_per_s{suffix}"), rate);
            let faults = runs.histogram(run, phase, Metric::Fault.name())?;
            measured.latencies(format!("{run}.fault{suffix}"), faults);
        }
        rates.push(runs.operations_per_s(run, Moving)?);
    }
    rates.sort_by(f64::total_cmp);
    let middle = rates.get(rates.len() / 2).copied();
    middle.ok_or_else(|| Missing("no runs to take the middle one of".into()))
}

/// Notes how `rate` compares with `base`, under `name`.
pub fn ratio(name: &str, rate: f64, base: f64, measured: &mut Measured) -> Result<f64, Missing> {
    if base <= 0.0 {
        return Err(Missing(format!(
            "nothing was done that {name} compares with"
        )));
    }
    let ratio = rate / base;
    measured.set(name, ratio);
    Ok(ratio)
}

#[cfg(test)]
pub mod test {
    use crate::claims::plan::Plan;
    use crate::claims::runs::{DoneRun, Runs};
    use crate::histogram::Histogram;
    use crate::test_record::test_record;
    use underfoot_abi::Metric;

    /// Sound runs of `plan`, each with so many operations as `operations` says.
    pub fn runs(plan: &Plan, operations: impl Fn(&str) -> u64) -> Runs {
        let done = plan.runs.iter().map(|planned| {
            let mut record = test_record();
            let mut faults = Histogram::new();
            faults.record(5_000);
            let name = Metric::Fault.name().to_owned();
            record.control.insert(name.clone(), faults.clone());
            record.moving.insert(name, faults);
            let done = operations(planned.name);
            record.guest.moving.insert("operations", done);
            DoneRun {
                planned: *planned,
                record,
                attempts: 1,
            }
        });
        Runs(done.collect())
    }
}
