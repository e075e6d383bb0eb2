//! How much memory tables take, and how much of it is wasted.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use underfoot_abi::PAGE_SIZE;

/// Counts that all CPUs share.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) pages: AtomicU64,
    pub(super) tables: AtomicU64,
    pub(super) pending: AtomicU64,
    pub(super) reused: AtomicU64,
    pub(super) beside_pending: AtomicU64,
    pub(super) lost: AtomicU64,
}

impl Counts {
    pub(super) fn usage(&self) -> Usage {
        Usage {
            pages: self.pages.load(Relaxed),
            tables: self.tables.load(Relaxed),
            pending: self.pending.load(Relaxed),
            reused: self.reused.load(Relaxed),
            beside_pending: self.beside_pending.load(Relaxed),
            lost: self.lost.load(Relaxed),
        }
    }
}

/// What tables take at the moment; taken while CPUs work, the figures are of nearly one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Pages held for tables.
    pub pages: u64,
    /// Tables allocated.
    pub tables: u64,
    /// Tables freed that wait for their grace period.
    pub pending: u64,
    /// Tables given out, since the start, from a page that was there already.
    pub reused: u64,
    /// Those of them whose page's other half was waiting for its grace period.
    pub beside_pending: u64,
    /// Pages, since the start, that were found misused and are kept for ever.
    pub lost: u64,
}

impl Usage {
    /// Bytes of the pages that hold no table, allocated or pending.
    #[must_use]
    pub const fn wasted(&self) -> u64 {
        let used = (self.tables + self.pending) * super::TABLE_BYTES as u64;
        (self.pages * PAGE_SIZE as u64).saturating_sub(used)
    }
}
