//! What waits for grace periods: callbacks, and the bytes that they will free.

use crate::sync::atomic::{
    AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
    const_fn,
};

/// Callbacks that wait, and the bytes that wait with them, now and at most so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Callbacks that are not done.
    pub callbacks: u64,
    /// The most that there were.
    pub most_callbacks: u64,
    /// Bytes that wait with them.
    pub bytes: u64,
    /// The most that there were.
    pub most_bytes: u64,
}

impl Backlog {
    /// Both together; of the greatest values, which need not have come at one time, the sum.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self {
            callbacks: self.callbacks + other.callbacks,
            most_callbacks: self.most_callbacks + other.most_callbacks,
            bytes: self.bytes + other.bytes,
            most_bytes: self.most_bytes + other.most_bytes,
        }
    }
}

/// One CPU's backlog. Grows with the lock of its list held, shrinks anywhere, is read by anybody.
#[derive(Debug)]
pub(super) struct Waiting {
    callbacks: [AtomicU64; 2],
    bytes: [AtomicU64; 2],
    done: AtomicU64,
}

impl Waiting {
    const_fn! {
        pub(super) fn new() -> Self {
            Self {
                callbacks: [AtomicU64::new(0), AtomicU64::new(0)],
                bytes: [AtomicU64::new(0), AtomicU64::new(0)],
                done: AtomicU64::new(0),
            }
        }
    }

    /// Whether every callback is done. What this CPU queued itself is never missed; what those did
    /// that are done is seen.
    pub(super) fn is_empty(&self) -> bool {
        // Pairs with the release in `remove`.
        self.callbacks[0].load(Acquire) == 0
    }

    /// Callbacks that are not done.
    pub(super) fn callbacks(&self) -> u64 {
        self.callbacks[0].load(Relaxed)
    }

    /// Callbacks done so far.
    pub(super) fn done(&self) -> u64 {
        self.done.load(Relaxed)
    }

    pub(super) fn add(&self, bytes: u32) {
        add(&self.callbacks, 1);
        add(&self.bytes, u64::from(bytes));
    }

    /// A callback is done.
    pub(super) fn remove(&self, bytes: u32) {
        self.bytes[0].fetch_sub(u64::from(bytes), Relaxed);
        self.done.fetch_add(1, Relaxed);
        // Pairs with the acquire in `is_empty`.
        self.callbacks[0].fetch_sub(1, Release);
    }

    pub(super) fn read(&self) -> Backlog {
        let [callbacks, most_callbacks] = self.callbacks.each_ref().map(|word| word.load(Relaxed));
        let [bytes, most_bytes] = self.bytes.each_ref().map(|word| word.load(Relaxed));
        Backlog {
            callbacks,
            most_callbacks,
            bytes,
            most_bytes,
        }
    }
}

/// Adds `n` to the first, and raises the second to it.
fn add([now, most]: &[AtomicU64; 2], n: u64) {
    let sum = now.fetch_add(n, Relaxed) + n;
    if sum > most.load(Relaxed) {
        most.store(sum, Relaxed);
    }
}
