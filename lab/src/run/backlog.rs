//! Reading what waits for the guest's grace periods while it runs. Every sample is an allegation.

use crate::record::{BacklogPoint, BacklogRecord};
use std::sync::atomic::Ordering::Relaxed;
use underfoot_abi::{BacklogSample, Phase};
use underfoot_vmm::SharedRegion;

/// Drains the ring of samples from one thread.
pub struct BacklogReader {
    tsc_khz: u64,
    /// The guest's memory: more cannot wait, nor can so many callbacks, each of which has bytes of its own.
    most: u64,
    /// TSC of the first sample, and of the last.
    span: Option<(u64, u64)>,
    record: BacklogRecord,
}

impl BacklogReader {
    /// For a guest with `memory` bytes, on a counter that runs at `tsc_khz`.
    pub fn new(memory: u64, tsc_khz: u32) -> Self {
        Self {
            tsc_khz: tsc_khz.into(),
            most: memory,
            span: None,
            record: BacklogRecord::default(),
        }
    }

    /// Reads what has come since the last call.
    pub fn drain(&mut self, shared: &SharedRegion) {
        shared.drain_backlog(|sample| self.note(sample));
    }

    /// Reads what is left, once the guest has ended; `None` if it never queued a callback.
    pub fn finish(&mut self, shared: &SharedRegion) -> Option<BacklogRecord> {
        self.drain(shared);
        self.record.dropped = shared.header().backlog.dropped();
        let queued = |index| shared.vcpu(index).callbacks[0].load(Relaxed) > 0;
        (0..shared.cpus())
            .any(queued)
            .then(|| std::mem::take(&mut self.record))
    }

    fn note(&mut self, sample: BacklogSample) {
        let BacklogSample {
            tsc,
            phase,
            callbacks,
            bytes,
        } = sample;
        let (first, last) = self.span.unwrap_or((tsc, tsc));
        let set = match phase {
            it if it == Phase::Control as u64 => Some(&mut self.record.control),
            it if it == Phase::Moving as u64 => Some(&mut self.record.moving),
            _ => None,
        };
        let Some(set) = set.filter(|_| tsc >= last && callbacks <= self.most && bytes <= self.most)
        else {
            self.record.refused += 1;
            return;
        };
        self.span = Some((first, tsc));
        set.callbacks.record(callbacks);
        set.bytes.record(bytes);
        let at_ns = u128::from(tsc - first) * 1_000_000 / u128::from(self.tsc_khz);
        self.record.push(BacklogPoint {
            at_ns: u64::try_from(at_ns).unwrap_or(u64::MAX),
            callbacks,
            bytes,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_true_is_refused() {
        let (control, moving) = (Phase::Control as u64, Phase::Moving as u64);
        let mut reader = BacklogReader::new(1000, 1_000_000);
        for (tsc, phase, callbacks, bytes) in [
            (50, control, 1, 100),
            (60, control, 2, 1000),
            (70, moving, 3, 300),
            (70, moving, 0, 0),
            // Time runs backwards, no such phase, more than the guest has.
            (69, moving, 1, 1),
            (80, 7, 1, 1),
            (80, Phase::Warmup as u64, 1, 1),
            (80, moving, 1001, 1),
            (80, moving, 1, 1001),
            (80, moving, u64::MAX, u64::MAX),
        ] {
            reader.note(BacklogSample {
                tsc,
                phase,
                callbacks,
                bytes,
            });
        }
        let record = reader.record;
        let counts =
            [&record.control, &record.moving].map(|set| (set.callbacks.count(), set.bytes.sum()));
        assert_eq!((counts, record.refused), ([(2, 1100), (2, 300)], 6));
        let times: Vec<_> = record.series.iter().map(|point| point.at_ns).collect();
        assert_eq!(times, [0, 10, 20, 20]);
    }
}
