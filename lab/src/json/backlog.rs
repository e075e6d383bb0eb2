//! What waited for grace periods, as JSON.

use super::{HistogramJson, PhasesJson};
use crate::record::{BacklogPhase, BacklogPoint, BacklogRecord};
use serde::Serialize;
use underfoot_abi::BACKLOG_PERIOD_NS;

/// What waited for grace periods, sampled over all CPUs and kinds of RCU.
#[derive(Clone, Debug, Serialize)]
pub struct BacklogJson {
    /// At least so long lies between two samples.
    pub period_ns: u64,
    /// Callbacks that were not done; the unit is `callbacks`.
    pub callbacks: PhasesJson<HistogramJson>,
    /// Memory that waited to be freed by them; the unit is `bytes`.
    pub bytes: PhasesJson<HistogramJson>,
    /// Samples that the guest had no room for.
    pub dropped: u64,
    /// Samples that cannot be true, and were left out.
    pub refused: u64,
    /// The samples in time, both phases.
    pub series: SeriesJson,
}

/// A series, one array for each column.
#[derive(Clone, Debug, Serialize)]
pub struct SeriesJson {
    /// How many samples a point stands for; the greatest values of them are told.
    pub samples_a_point: u32,
    /// When each began, in ns since the first.
    pub at_ns: Vec<u64>,
    /// Callbacks.
    pub callbacks: Vec<u64>,
    /// Bytes.
    pub bytes: Vec<u64>,
}

impl From<&BacklogRecord> for BacklogJson {
    fn from(record: &BacklogRecord) -> Self {
        let callbacks = |set: &BacklogPhase| HistogramJson::new(&set.callbacks, "callbacks");
        let bytes = |set: &BacklogPhase| HistogramJson::new(&set.bytes, "bytes");
        let column = |of: fn(&BacklogPoint) -> u64| record.series.iter().map(of).collect();
        Self {
            period_ns: BACKLOG_PERIOD_NS,
            callbacks: PhasesJson {
                control: callbacks(&record.control),
                moving: callbacks(&record.moving),
            },
            bytes: PhasesJson {
                control: bytes(&record.control),
                moving: bytes(&record.moving),
            },
            dropped: record.dropped,
            refused: record.refused,
            series: SeriesJson {
                samples_a_point: record.samples_a_point,
                at_ns: column(|point| point.at_ns),
                callbacks: column(|point| point.callbacks),
                bytes: column(|point| point.bytes),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_and_columns_are_told() {
        let mut record = BacklogRecord::default();
        record.moving.callbacks.record(3);
        record.moving.bytes.record(6144);
        for at_ns in [0, 10] {
            record.push(BacklogPoint {
                at_ns,
                callbacks: 3,
                bytes: 6144,
            });
        }
        let json = serde_json::to_value(BacklogJson::from(&record)).expect("plain data");
        assert_eq!(json["period_ns"], 10_000_000);
        for (what, sum) in [("callbacks", 3), ("bytes", 6144)] {
            let told = &json[what]["moving"];
            assert_eq!((&told["unit"], &told["sum"]), (&what.into(), &sum.into()));
            assert_eq!(json[what]["control"]["count"], 0);
            assert_eq!(json["series"][what], serde_json::json!([sum, sum]));
        }
        assert_eq!(json["series"]["at_ns"], serde_json::json!([0, 10]));
        assert_eq!(json["series"]["samples_a_point"], 1);
    }
}
