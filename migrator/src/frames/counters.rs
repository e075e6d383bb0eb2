//! What was taken, and who paid for it.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{FrameUser, FrameViolations};

/// What one user took and paid, in frames unless it says times.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FrameCounts {
    /// Taken by the fast path.
    pub fast: u64,
    /// Times that the fast path was refused.
    pub refused: u64,
    /// Times that the slow path was gone after it.
    pub fell_back: u64,
    /// Taken by the slow path.
    pub slow: u64,
    /// Times that the slow path refilled.
    pub refills: u64,
    /// What it refilled, for itself and others.
    pub refilled: u64,
    /// Those of `slow` that lay in the reserve.
    pub reserve: u64,
    /// Times that the slow path got nothing either.
    pub short: u64,
}

/// The counters of a pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FrameCounters {
    /// Frames that it is to hold.
    pub size: u64,
    /// Free frames now.
    pub free: u64,
    /// The fewest that were free after somebody took some.
    pub lowest: u64,
    /// Times that the refiller was woken and got something.
    pub background_refills: u64,
    /// What it refilled.
    pub background_refilled: u64,
    /// Frames that came from the kernel, whoever asked for them; the others are old ones.
    pub fresh: u64,
    /// Faults that were served without the pool, which had nothing.
    pub without: u64,
    /// By user.
    pub users: [FrameCounts; FrameUser::ALL.len()],
    /// Rules that were broken.
    pub violations: FrameViolations,
}

impl FrameCounters {
    /// What `user` took and paid.
    #[must_use]
    pub const fn of(&self, user: FrameUser) -> &FrameCounts {
        &self.users[user.index()]
    }
}

/// A counter with several writers.
#[derive(Default)]
pub(super) struct Shared(AtomicU64);

impl Shared {
    pub(super) fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn take(&self) -> u64 {
        self.0.swap(0, Ordering::Relaxed)
    }
}

/// Of one user; users do not share a cache line.
#[derive(Default)]
#[repr(align(128))]
pub(super) struct UserCells {
    pub(super) fast: Shared,
    pub(super) refused: Shared,
    pub(super) fell_back: Shared,
    pub(super) slow: Shared,
    pub(super) refills: Shared,
    pub(super) refilled: Shared,
    pub(super) reserve: Shared,
    pub(super) short: Shared,
}

impl UserCells {
    pub(super) fn snapshot(&self) -> FrameCounts {
        FrameCounts {
            fast: self.fast.get(),
            refused: self.refused.get(),
            fell_back: self.fell_back.get(),
            slow: self.slow.get(),
            refills: self.refills.get(),
            refilled: self.refilled.get(),
            reserve: self.reserve.get(),
            short: self.short.get(),
        }
    }
}

/// The least value seen.
pub(super) struct Lowest(AtomicU64);

impl Lowest {
    pub(super) fn new(value: u64) -> Self {
        Self(AtomicU64::new(value))
    }

    pub(super) fn note(&self, value: u64) {
        // Most values are not the least: a look is cheaper than a locked operation.
        if value < self.get() {
            self.0.fetch_min(value, Ordering::Relaxed);
        }
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
