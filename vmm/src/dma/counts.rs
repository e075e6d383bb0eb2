//! What the device counts.

use std::sync::atomic::{AtomicU64, Ordering};
use underfoot_abi::Histogram;

/// Rows of tries in vain that are told apart by their length, to a power of two.
pub const ROWS: usize = 24;

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
    /// Of those, the ones whose page was moved while it was looked up.
    pub overtaken: u64,
    /// Accesses that were put off at least once.
    pub put_off: u64,
    /// Most times in a row that one access was put off.
    pub retries_in_a_row: u64,
    /// Accesses by how often in a row they were put off: in place `n` those of 2<sup>n</sup> times or more,
    /// and fewer than twice that; in the last place all longer ones.
    pub rows: [u64; ROWS],
    /// Times that a thread registered anew: all of its ranges, or one whose page was being moved.
    pub renewed: u64,
    /// Registrations anew that found an invalidation of their range open.
    pub in_midst: u64,
    /// Registrations that had counted more ends of invalidations than starts when they were dropped:
    /// the registry is wrong.
    pub negative: u64,
}

impl DmaCounts {
    /// These, with those of another thread.
    pub(super) fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.words_mut().into_iter().zip(other.words()) {
            *mine += theirs;
        }
        self.retries_in_a_row = self.retries_in_a_row.max(other.retries_in_a_row);
        for (mine, theirs) in self.rows.iter_mut().zip(other.rows) {
            *mine += theirs;
        }
    }

    /// What was counted since `before`; the most in a row is the most ever.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let mut since = *self;
        for (mine, theirs) in since.words_mut().into_iter().zip(before.words()) {
            *mine -= theirs;
        }
        for (mine, theirs) in since.rows.iter_mut().zip(before.rows) {
            *mine -= theirs;
        }
        since
    }

    /// What adds up.
    fn words_mut(&mut self) -> [&mut u64; 11] {
        [
            &mut self.done,
            &mut self.refused,
            &mut self.bytes,
            &mut self.hits,
            &mut self.misses,
            &mut self.retries,
            &mut self.overtaken,
            &mut self.put_off,
            &mut self.renewed,
            &mut self.in_midst,
            &mut self.negative,
        ]
    }

    fn words(mut self) -> [u64; 11] {
        self.words_mut().map(|word| *word)
    }
}

/// The same while threads count.
pub(super) struct LiveCounts {
    pub(super) done: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) bytes: AtomicU64,
    pub(super) hits: AtomicU64,
    pub(super) misses: AtomicU64,
    pub(super) retries: AtomicU64,
    pub(super) overtaken: AtomicU64,
    pub(super) put_off: AtomicU64,
    pub(super) retries_in_a_row: AtomicU64,
    pub(super) rows: [AtomicU64; ROWS],
    /// How long accesses that were put off had to wait, in ns; written by the one thread.
    pub(super) waited: Box<Histogram>,
    pub(super) renewed: AtomicU64,
    pub(super) in_midst: AtomicU64,
    pub(super) negative: AtomicU64,
}

impl Default for LiveCounts {
    fn default() -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            done: zero(),
            refused: zero(),
            bytes: zero(),
            hits: zero(),
            misses: zero(),
            retries: zero(),
            overtaken: zero(),
            put_off: zero(),
            retries_in_a_row: zero(),
            rows: std::array::from_fn(|_| zero()),
            waited: Box::new(Histogram {
                count: zero(),
                sum: zero(),
                min_plus_one: zero(),
                max: zero(),
                overflow: zero(),
                buckets: std::array::from_fn(|_| zero()),
            }),
            renewed: zero(),
            in_midst: zero(),
            negative: zero(),
        }
    }
}

impl LiveCounts {
    /// An access was done, or given up, after it had been put off `times` times and for `ns`.
    pub(super) fn note_put_off(&self, times: u64, ns: u64) {
        add(&self.put_off, 1);
        self.retries_in_a_row.fetch_max(times, Ordering::Relaxed);
        let row = times.max(1).ilog2() as usize;
        add(&self.rows[row.min(ROWS - 1)], 1);
        self.waited.record(ns);
    }

    pub(super) fn snapshot(&self) -> DmaCounts {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        DmaCounts {
            done: read(&self.done),
            refused: read(&self.refused),
            bytes: read(&self.bytes),
            hits: read(&self.hits),
            misses: read(&self.misses),
            retries: read(&self.retries),
            overtaken: read(&self.overtaken),
            put_off: read(&self.put_off),
            retries_in_a_row: read(&self.retries_in_a_row),
            rows: self.rows.each_ref().map(read),
            renewed: read(&self.renewed),
            in_midst: read(&self.in_midst),
            negative: read(&self.negative),
        }
    }
}

pub(super) fn add(count: &AtomicU64, n: u64) {
    count.fetch_add(n, Ordering::Relaxed);
}
