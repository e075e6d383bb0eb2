//! Stalls that the guest felt, one record each, in a ring per vCPU.

use core::sync::atomic::{AtomicU64, Ordering};

/// Records in one ring.
pub const STALL_RING: usize = 4096;

/// One access that took longer than the threshold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
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

#[repr(C)]
struct Slot([AtomicU64; 4]);

/// One writer (the vCPU), one reader (the host). A full ring drops and counts: it never blocks.
#[repr(C)]
pub struct StallRing {
    written: AtomicU64,
    read: AtomicU64,
    dropped: AtomicU64,
    slots: [Slot; STALL_RING],
}

impl StallRing {
    /// Appends a record, or counts it as dropped if the reader is a whole ring behind.
    #[inline]
    pub fn push(&self, record: StallRecord) {
        let at = self.written.load(Ordering::Relaxed);
        // Pairs with the release in `pop`: the slot's old record has been read.
        if at - self.read.load(Ordering::Acquire) == STALL_RING as u64 {
            self.dropped
                .store(self.dropped.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
            return;
        }
        let slot = &self.slots[at as usize % STALL_RING].0;
        slot[0].store(record.start_tsc, Ordering::Relaxed);
        slot[1].store(record.end_tsc, Ordering::Relaxed);
        slot[2].store(record.gva, Ordering::Relaxed);
        slot[3].store(record.context, Ordering::Relaxed);
        // Pairs with the acquire in `pop`: a record that is counted is whole.
        self.written.store(at + 1, Ordering::Release);
    }

    /// Takes the oldest record. `None` when the ring is empty, or when its indices make no sense
    /// (the host must survive a guest that scribbles over them).
    #[inline]
    pub fn pop(&self) -> Option<StallRecord> {
        let at = self.read.load(Ordering::Relaxed);
        let ready = self.written.load(Ordering::Acquire).wrapping_sub(at);
        if ready == 0 || ready > STALL_RING as u64 {
            return None;
        }
        let slot = &self.slots[at as usize % STALL_RING].0;
        let record = StallRecord {
            start_tsc: slot[0].load(Ordering::Relaxed),
            end_tsc: slot[1].load(Ordering::Relaxed),
            gva: slot[2].load(Ordering::Relaxed),
            context: slot[3].load(Ordering::Relaxed),
        };
        self.read.store(at + 1, Ordering::Release);
        Some(record)
    }

    /// Records lost because the reader was too slow.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}
