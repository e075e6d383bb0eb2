//! What waits for grace periods, sampled again and again, in a ring of all vCPUs.

use crate::ring::Ring;

/// At least so long lies between two samples: they are taken in ticks.
pub const BACKLOG_PERIOD_NS: u64 = 10_000_000;

/// Samples in the ring.
pub const BACKLOG_RING: usize = 256;

/// What waits for grace periods at one moment, of every CPU and kind of RCU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BacklogSample {
    /// TSC.
    pub tsc: u64,
    /// The run's [`Phase`](crate::Phase), a number.
    pub phase: u64,
    /// Callbacks that are not done.
    pub callbacks: u64,
    /// Bytes of memory that wait to be freed by them.
    pub bytes: u64,
}

/// One writer at a time (the vCPU that takes the sample), one reader (the host). A full ring drops and counts.
#[repr(C)]
#[derive(Debug)]
pub struct BacklogRing(Ring<4, BACKLOG_RING>);

impl BacklogRing {
    /// Appends a sample, or counts it as dropped if the reader is a whole ring behind.
    pub fn push(&self, sample: BacklogSample) {
        let BacklogSample {
            tsc,
            phase,
            callbacks,
            bytes,
        } = sample;
        self.0.push([tsc, phase, callbacks, bytes]);
    }

    /// Takes the oldest sample. `None` when the ring is empty, or when its indices make no sense (the host must
    /// survive a guest that scribbles over them).
    #[inline]
    pub fn pop(&self) -> Option<BacklogSample> {
        let [tsc, phase, callbacks, bytes] = self.0.pop()?;
        Some(BacklogSample {
            tsc,
            phase,
            callbacks,
            bytes,
        })
    }

    /// Samples lost because the reader was too slow.
    pub fn dropped(&self) -> u64 {
        self.0.dropped()
    }
}
