//! What the experiments on memory pressure have in common.

use crate::claims::plan::Flags;
use crate::guest_record::{self, is_error};
use crate::record::RunRecord;
use crate::settings::Key;

/// Too little memory for what is wanted. Pages move so seldom that the guest gets on in between.
pub(super) const SHORT: Flags = &[
    (Key::Workload, "pressure"),
    (Key::Cpus, "2"),
    (Key::Rate, "5000"),
    (Key::Duration, "3s"),
];

/// The first report of `record` that says that something is wrong.
pub(super) fn at_least_one_report(record: &RunRecord) -> Option<String> {
    let reports = &mut record.guest.reports.iter();
    reports
        .find(|report| is_error(report))
        .map(guest_record::line)
}

#[cfg(test)]
pub(super) use for_tests::test_counters;

#[cfg(test)]
mod for_tests {
    use crate::histogram::Histogram;
    use crate::record::RunRecord;
    use underfoot_abi::{Metric, WorkloadId};

    /// Everything that `pressure` counts is 0, and one fault and one operation were timed.
    pub fn test_counters(record: &mut RunRecord) {
        for counter in WorkloadId::Pressure.counters() {
            record.guest.moving.insert(counter.name, 0);
        }
        let mut histogram = Histogram::new();
        histogram.record(1_000);
        for metric in [Metric::Fault, Metric::Operation] {
            let name = metric.name().to_owned();
            record.moving.insert(name, histogram.clone());
        }
    }
}
