//! What the device counts.

use std::sync::atomic::{AtomicU64, Ordering};

/// What the device did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DmaCounts {
    /// Descriptors done.
    pub done: u64,
    /// Descriptors refused, for their addresses or their length.
    pub refused: u64,
    /// Bytes copied.
    pub bytes: u64,
    /// Accesses whose translation was in the cache.
    pub hits: u64,
    /// Accesses whose translation was looked up.
    pub misses: u64,
    /// Accesses put off because the page was being moved.
    pub retries: u64,
    /// Most times in a row that one access was put off.
    pub retries_in_a_row: u64,
    /// Times that a thread dropped its registrations and registered anew.
    pub renewed: u64,
    /// Registrations that had counted more ends of invalidations than starts when they were dropped:
    /// the registry is wrong.
    pub negative: u64,
}

/// The same while threads count.
#[derive(Debug, Default)]
pub(super) struct LiveCounts {
    pub(super) done: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) bytes: AtomicU64,
    pub(super) hits: AtomicU64,
    pub(super) misses: AtomicU64,
    pub(super) retries: AtomicU64,
    pub(super) retries_in_a_row: AtomicU64,
    pub(super) renewed: AtomicU64,
    pub(super) negative: AtomicU64,
}

impl LiveCounts {
    pub(super) fn snapshot(&self) -> DmaCounts {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        DmaCounts {
            done: read(&self.done),
            refused: read(&self.refused),
            bytes: read(&self.bytes),
            hits: read(&self.hits),
            misses: read(&self.misses),
            retries: read(&self.retries),
            retries_in_a_row: read(&self.retries_in_a_row),
            renewed: read(&self.renewed),
            negative: read(&self.negative),
        }
    }
}

pub(super) fn add(count: &AtomicU64, n: u64) {
    count.fetch_add(n, Ordering::Relaxed);
}
