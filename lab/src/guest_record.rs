//! What the guest told of its workload: counters by phase, and what its checkers reported.

use crate::record::BacklogRecord;
use std::collections::BTreeMap;
use underfoot_abi::{MAX_COUNTERS, ReportKind, WorkloadId};
use underfoot_vmm::GuestReport;

/// Names of counters that end so are high-water marks: the greatest of the vCPUs counts.
const HIGH_WATER: &str = "_max";

/// GuestCounters of a workload by name, over all vCPUs.
pub type GuestCounters = BTreeMap<&'static str, u64>;

/// What the guest told of its workload.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GuestRecord {
    /// What it counted in the control phase.
    pub control: GuestCounters,
    /// What it counted in the moving phase.
    pub moving: GuestCounters,
    /// TLB shootdowns for which each vCPU's answer was the last, in either phase.
    pub last_answers: Vec<[u64; 2]>,
    /// Reports that its checkers made, those for which it had no room included.
    pub reports_made: u32,
    /// How many of each kind of which there are any.
    pub reports_by_kind: BTreeMap<&'static str, u32>,
    /// The first of each kind, in the order in which they were made.
    pub reports: Vec<GuestReport>,
    /// What waited for grace periods; `None` if it never queued a callback.
    pub backlog: Option<BacklogRecord>,
    /// How many had been made when the run was ended before its time; all, where it was not.
    pub reports_before_end: u32,
}

impl GuestRecord {
    /// The report that says most: the first one that something is wrong, or else the first one.
    #[must_use]
    pub fn foremost(&self) -> Option<&GuestReport> {
        let wrong = self.reports.iter().find(|report| is_error(report));
        wrong.or_else(|| self.reports.first())
    }

    /// The first report of `kind` that was made before the run was ended.
    #[must_use]
    pub fn report_in_time(&self, kind: ReportKind) -> Option<&GuestReport> {
        self.reports
            .iter()
            .find(|report| report.kind == Ok(kind) && report.number < self.reports_before_end)
    }
}

/// The counters of `workload` over all vCPUs, each of which counted `by_vcpu`.
#[must_use]
pub fn combined(
    workload: WorkloadId,
    by_vcpu: impl Iterator<Item = [u64; MAX_COUNTERS]> + Clone,
) -> GuestCounters {
    let combine = |(index, name): (usize, &'static str)| {
        let values = by_vcpu.clone().map(|counters| counters[index]);
        let value = if name.ends_with(HIGH_WATER) {
            values.max().unwrap_or(0)
        } else {
            // The guest may have scribbled over them.
            values.fold(0, u64::saturating_add)
        };
        (name, value)
    };
    let names = workload.counters().iter().map(|counter| counter.name);
    names.enumerate().map(combine).collect()
}

/// What a report's kind is called.
#[must_use]
pub fn kind_name(report: &GuestReport) -> String {
    report.kind.map_or_else(
        |number| format!("unknown kind {number}"),
        |kind| kind.name().to_owned(),
    )
}

/// Whether a report says that something is wrong, as opposed to slow or scarce.
#[must_use]
pub const fn is_error(report: &GuestReport) -> bool {
    match report.kind {
        Ok(ReportKind::RcuStall | ReportKind::OutOfMemory | ReportKind::Exhausted) => false,
        Ok(
            ReportKind::LockCycle
            | ReportKind::LockContext
            | ReportKind::RcuTorture
            | ReportKind::Fragment
            | ReportKind::Translation
            | ReportKind::Allocation
            | ReportKind::Starvation,
        )
        | Err(_) => true,
    }
}

/// A report in one line.
#[must_use]
pub fn line(report: &GuestReport) -> String {
    format!(
        "{} on CPU {}: {}",
        kind_name(report),
        report.cpu,
        report.text
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_record::test_report;

    #[test]
    fn counts_add_up() {
        let vcpu = |operations| {
            let mut counters = [0; MAX_COUNTERS];
            counters[0] = operations;
            counters
        };
        let sum = |vcpus: &[u64]| combined(WorkloadId::Walk, vcpus.iter().map(|n| vcpu(*n)));
        assert_eq!(sum(&[2, 3]), GuestCounters::from([("operations", 5)]));
        assert_eq!(sum(&[u64::MAX, 3])["operations"], u64::MAX);
        assert_eq!(sum(&[])["operations"], 0);
    }

    #[test]
    fn only_reports_made_in_time_count() {
        let mut guest = GuestRecord {
            reports_made: 2,
            reports: vec![
                test_report(0, ReportKind::RcuStall),
                test_report(1, ReportKind::LockCycle),
            ],
            reports_before_end: 2,
            ..GuestRecord::default()
        };
        assert!(guest.report_in_time(ReportKind::LockCycle).is_some());
        assert!(guest.report_in_time(ReportKind::Fragment).is_none());
        guest.reports_before_end = 1;
        assert!(guest.report_in_time(ReportKind::LockCycle).is_none());
        assert!(guest.report_in_time(ReportKind::RcuStall).is_some());
    }

    #[test]
    fn stalls_and_scarcity_are_no_errors() {
        let errors = ReportKind::ALL
            .into_iter()
            .filter(|kind| is_error(&test_report(0, *kind)))
            .count();
        // Stalls, a lack of memory, and a lack of slots.
        assert_eq!(errors, ReportKind::ALL.len() - 3);
        let mut unknown = test_report(0, ReportKind::RcuStall);
        unknown.kind = Err(77);
        assert!(is_error(&unknown));
        assert!(line(&unknown).starts_with("unknown kind 77 on CPU 1: "));
    }
}
