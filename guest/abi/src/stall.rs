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
    /// Number of the page of code that accessed it.
    pub code_page: u32,
    /// Number of the page that the top of the stack was in.
    pub stack_page: u32,
    /// TSC of this vCPU's timed access before to the page accessed, as [`Touches`](crate::Touches) has it; 0 if there
    /// was none.
    pub touched_tsc: u64,
}

/// One writer (the vCPU), one reader (the host). A full ring drops and counts: it never blocks.
#[repr(C)]
pub struct StallRing(Ring<6>);

impl StallRing {
    /// Appends a record, or counts it as dropped if the reader is a whole ring behind.
    #[inline]
    pub fn push(&self, record: StallRecord) {
        let StallRecord {
            start_tsc,
            end_tsc,
            gva,
            context,
            code_page,
            stack_page,
            touched_tsc,
        } = record;
        let pages = u64::from(stack_page) << 32 | u64::from(code_page);
        self.0
            .push([start_tsc, end_tsc, gva, context, pages, touched_tsc]);
    }

    /// Takes the oldest record. `None` when the ring is empty, or when its indices make no sense
    /// (the host must survive a guest that scribbles over them).
    #[inline]
    pub fn pop(&self) -> Option<StallRecord> {
        let [start_tsc, end_tsc, gva, context, pages, touched_tsc] = self.0.pop()?;
        Some(StallRecord {
            start_tsc,
            end_tsc,
            gva,
            context,
            code_page: pages as u32,
            stack_page: (pages >> 32) as u32,
            touched_tsc,
        })
    }

    /// Records lost because the reader was too slow.
    pub fn dropped(&self) -> u64 {
        self.0.dropped()
    }
}
