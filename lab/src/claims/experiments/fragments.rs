//! What the experiments on page tables of half a page have in common.

use crate::claims::plan::{Answer, Checker, Verdict};
use crate::claims::runs::{Missing, Runs};
use crate::guest_record;
use underfoot_abi::{RecordedPhase, ReportKind};

/// The checker of page tables speaks.
pub(super) const CAUGHT: &[Checker] = &[Checker::Report(ReportKind::Fragment)];

/// The answer no, if the checker of page tables spoke in `run`, which is of the right form.
pub(super) fn told_otherwise(runs: &Runs, run: &str) -> Result<Option<Verdict>, Missing> {
    let reports = &runs.record(run)?.guest.reports;
    let report = reports
        .iter()
        .find(|report| report.kind == Ok(ReportKind::Fragment));
    Ok(report.map(|report| {
        let reason = format!("in {run}: {}", guest_record::line(report));
        Verdict::new(Answer::No, reason)
    }))
}

/// The mean of a counter of the sound run `run` that is summed whenever somebody looks at the tables.
pub(super) fn mean(
    runs: &Runs,
    run: &str,
    phase: RecordedPhase,
    counter: &str,
) -> Result<f64, Missing> {
    let samples = runs.counter(run, phase, "table-samples")?;
    if samples == 0 {
        return Err(Missing(format!("run {run} never looked at its tables")));
    }
    Ok(runs.counter(run, phase, counter)? as f64 / samples as f64)
}

#[cfg(test)]
pub(super) use for_tests::test_finding;

#[cfg(test)]
mod for_tests {
    use crate::record::RunRecord;
    use crate::test_record::test_report;
    use underfoot_abi::ReportKind;

    /// The checker of page tables spoke.
    pub fn test_finding(record: &mut RunRecord) {
        record.guest.reports = vec![test_report(0, ReportKind::Fragment)];
    }
}
