//! Interrupts that came in the midst of timed accesses, one record each, in a ring per vCPU.

use crate::ring::Ring;

/// Records in one ring: the host takes them every few milliseconds.
pub const INTERRUPT_RING: usize = 512;

/// From the handler's first line to its last: what the processor and the trap layer do around it is not in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InterruptRecord {
    /// TSC at the handler's first line.
    pub start_tsc: u64,
    /// TSC at its last.
    pub end_tsc: u64,
}

/// One writer (the vCPU, interrupts masked), one reader (the host). A full ring drops and counts: it never blocks.
#[repr(C)]
pub struct InterruptRing(Ring<2, INTERRUPT_RING>);

impl InterruptRing {
    /// Appends a record, or counts it as dropped if the reader is a whole ring behind.
    #[inline]
    pub fn push(&self, record: InterruptRecord) {
        self.0.push([record.start_tsc, record.end_tsc]);
    }

    /// Takes the oldest record. `None` when the ring is empty or makes no sense.
    #[inline]
    pub fn pop(&self) -> Option<InterruptRecord> {
        let [start_tsc, end_tsc] = self.0.pop()?;
        Some(InterruptRecord { start_tsc, end_tsc })
    }

    /// Records lost because the reader was too slow.
    pub fn dropped(&self) -> u64 {
        self.0.dropped()
    }
}
