//! Stalls that the guest felt, one record each, in a ring per vCPU.

use crate::ring::{RING, Ring};

/// Records in one ring.
pub const STALL_RING: usize = RING;

/// One access that took longer than the threshold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StallRecord {
    /// TSC before the access.
    pub start_tsc: u64,
    /// TSC after it.
    pub end_tsc: u64,
    /// The address accessed.
    pub gva: u64,
    /// The vCPU's [`Context`](crate::Context) during it.
    pub context: u64,
}

/// One writer (the vCPU), one reader (the host). A full ring drops and counts: it never blocks.
#[repr(C)]
pub struct StallRing(Ring);

impl StallRing {
    /// Appends a record, or counts it as dropped if the reader is a whole ring behind.
    #[inline]
    pub fn push(&self, record: StallRecord) {
        let StallRecord {
            start_tsc,
            end_tsc,
            gva,
            context,
        } = record;
        self.0.push([start_tsc, end_tsc, gva, context]);
    }

    /// Takes the oldest record. `None` when the ring is empty, or when its indices make no sense
    /// (the host must survive a guest that scribbles over them).
    #[inline]
    pub fn pop(&self) -> Option<StallRecord> {
        let [start_tsc, end_tsc, gva, context] = self.0.pop()?;
        Some(StallRecord {
            start_tsc,
            end_tsc,
            gva,
            context,
        })
    }

    /// Records lost because the reader was too slow.
    pub fn dropped(&self) -> u64 {
        self.0.dropped()
    }
}
