//! A consumer's side: its registration, and the check of its faults.

use std::sync::Arc;

use super::Invalidations;
use super::registry::consumer_node;
use super::sync::{Ordering, fence};
use crate::{Node, PageRange, Variant};

/// How far invalidation was when a fault began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Snapshot {
    own: u64,
    space: u64,
}

/// A range that a consumer has registered. Dropped, it is no longer.
///
/// A fault of the consumer, that is a look-up of a page that its cache does not know, goes like this:
///
/// 1. [`Self::read_begin`]; without a snapshot the fault is tried again later;
/// 2. look the page up, and put the translation where [`Consumer::forget`](super::Consumer::forget)
///    finds it;
/// 3. [`Self::read_retry`]; if it is true, take the translation out again, unused, and start over.
///
/// [`TranslationCache`](super::TranslationCache) does all of that.
///
/// Dropping it waits until no invalidation uses it, so that it must not be done by one who owes an
/// acknowledgement, nor from within a consumer's methods.
pub struct Subscription {
    registry: Arc<Invalidations>,
    index: usize,
}

impl Subscription {
    pub(super) fn new(registry: Arc<Invalidations>, index: usize) -> Self {
        Self { registry, index }
    }

    /// Its consumer in the wait-for graph ([`Migrator::waits`](crate::Migrator::waits)): who has it say
    /// what it waits for has its deadlocks found.
    #[must_use]
    pub fn node(&self) -> Node {
        consumer_node(self.index)
    }

    /// The range.
    #[must_use]
    pub fn range(&self) -> PageRange {
        self.registry.listener(self.index).range()
    }

    /// Whether an invalidation of the range is open; with
    /// [`Tracking::Space`](super::Tracking::Space), or when the pool is exhausted, whether one of any
    /// range is.
    #[must_use]
    pub fn is_open(&self) -> bool {
        let listener = self.registry.listener(self.index);
        listener.open() != 0
            || self.registry.space.is_open()
            || listener.awaits(&self.registry.pool)
    }

    /// Invalidations that this subscription counts as open: starts less ends. Never negative, but in
    /// busted forms; 0 where the space counts instead.
    #[must_use]
    pub fn balance(&self) -> i64 {
        self.registry.listener(self.index).open()
    }

    /// Begins a fault. `None` while an invalidation is open: try again later.
    #[must_use]
    pub fn read_begin(&self) -> Option<Snapshot> {
        // Before the counters: an invalidation that begins between the two is in the counters or not
        // in the sequences.
        let snapshot = self.snapshot();
        (!self.is_open()).then_some(snapshot)
    }

    /// Whether what was looked up since `snapshot` must not be used.
    #[must_use]
    pub fn read_retry(&self, snapshot: Snapshot) -> bool {
        // Pairs with the fence in `OpenRange::start`: a mover that does not find the new translation
        // has been counted.
        fence(Ordering::SeqCst);
        let unchecked = self.registry.options.variant == Variant::InvalidateNoSequence;
        self.is_open() || !unchecked && self.snapshot() != snapshot
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot {
            own: self.registry.listener(self.index).sequence(),
            space: self.registry.space.sequence(),
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.registry.deregister(self.index);
    }
}
