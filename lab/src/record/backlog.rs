//! What waited for the guest's grace periods, in time.

use crate::histogram::Histogram;

/// Points of the series at most.
pub const MOST_POINTS: usize = 512;

/// What the samples of one phase said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BacklogPhase {
    /// Callbacks that were not done, of all CPUs and kinds of RCU.
    pub callbacks: Histogram,
    /// Bytes of memory that waited to be freed by them.
    pub bytes: Histogram,
}

/// A stretch of the series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BacklogPoint {
    /// When it began, in ns since the first sample.
    pub at_ns: u64,
    /// The most callbacks that a sample of it had.
    pub callbacks: u64,
    /// The most bytes.
    pub bytes: u64,
}

/// What waited for grace periods, by the guest's word.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BacklogRecord {
    /// The control phase.
    pub control: BacklogPhase,
    /// The moving phase.
    pub moving: BacklogPhase,
    /// Samples that the guest had no room for.
    pub dropped: u64,
    /// Samples that cannot be true, and were left out.
    pub refused: u64,
    /// Both phases, one after the other: 512 at most.
    pub series: Vec<BacklogPoint>,
    /// Samples in each point of the series but the last: a power of two.
    pub samples_a_point: u32,
    /// Samples in the last one.
    samples_in_last: u32,
}

impl BacklogRecord {
    /// Adds a sample to the series. Where that is full, each two of its points become one, so that no peak is lost.
    pub fn push(&mut self, sample: BacklogPoint) {
        let each = self.samples_a_point.max(1);
        match self.series.last_mut() {
            Some(last) if self.samples_in_last < each => last.take(sample),
            _ => {
                if self.series.len() == MOST_POINTS {
                    self.halve();
                }
                self.series.push(sample);
                self.samples_in_last = 0;
            }
        }
        self.samples_a_point = self.samples_a_point.max(1);
        self.samples_in_last += 1;
    }

    fn halve(&mut self) {
        let pairs = self.series.chunks(2).map(|pair| {
            let mut point = pair[0];
            point.take(pair[pair.len() - 1]);
            point
        });
        self.series = pairs.collect();
        self.samples_a_point *= 2;
    }
}

impl BacklogPoint {
    /// This one and a later one are one.
    fn take(&mut self, later: Self) {
        self.callbacks = self.callbacks.max(later.callbacks);
        self.bytes = self.bytes.max(later.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_series_is_thinned_and_keeps_its_peaks() {
        for (samples, points, each) in [
            (1, 1, 1),
            (512, 512, 1),
            (513, 257, 2),
            (1024, 512, 2),
            (1025, 257, 4),
        ] {
            let mut record = BacklogRecord::default();
            for index in 0..samples {
                let peak = index == samples / 3;
                record.push(BacklogPoint {
                    at_ns: index * 10,
                    callbacks: if peak { 9_000 } else { 1 },
                    bytes: if peak { 90_000 } else { 2 },
                });
            }
            let told = (record.series.len(), record.samples_a_point);
            assert_eq!(told, (points, each), "{samples} samples");
            let starts: Vec<_> = record.series.iter().map(|point| point.at_ns).collect();
            let expected: Vec<_> = (0..samples)
                .step_by(each as usize)
                .map(|index| index * 10)
                .collect();
            assert_eq!(starts, expected, "{samples} samples");
            let peaks = record
                .series
                .iter()
                .filter(|point| (point.callbacks, point.bytes) == (9_000, 90_000));
            assert_eq!(peaks.count(), 1, "{samples} samples");
        }
    }
}
