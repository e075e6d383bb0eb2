//! What loom replaces when it explores the registry.

#[cfg(loom)]
pub(super) use loom::{
    cell::UnsafeCell,
    sync::atomic::{AtomicPtr, AtomicU64, Ordering, fence},
    thread::yield_now,
};
#[cfg(not(loom))]
pub(super) use std::{
    sync::atomic::{AtomicPtr, AtomicU64, Ordering, fence},
    thread::yield_now,
};

use std::time::{Duration, Instant};

/// A cell with loom's interface.
#[cfg(not(loom))]
#[derive(Debug)]
pub(super) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

#[cfg(not(loom))]
impl<T> UnsafeCell<T> {
    pub(super) const fn new(value: T) -> Self {
        Self(std::cell::UnsafeCell::new(value))
    }

    pub(super) fn with<R>(&self, look: impl FnOnce(*const T) -> R) -> R {
        look(self.0.get())
    }

    pub(super) fn with_mut<R>(&self, change: impl FnOnce(*mut T) -> R) -> R {
        change(self.0.get())
    }
}

/// Looks in vain before the CPU is offered to others.
const SPINS: u32 = 128;

/// One who waits for another thread without sleeping: spins first, then yields its CPU, since the
/// other may want it.
#[derive(Default)]
pub(super) struct Backoff(u32);

impl Backoff {
    pub(super) fn wait(&mut self) {
        if cfg!(loom) || self.0 == SPINS {
            yield_now();
        } else {
            self.0 += 1;
            std::hint::spin_loop();
        }
    }
}

/// The end of a patience that begins now.
pub(super) struct Deadline(Instant, Duration);

impl Deadline {
    pub(super) fn after(patience: Duration) -> Self {
        Self(Instant::now(), patience)
    }

    /// How long it has been.
    pub(super) fn so_far(&self) -> Duration {
        self.0.elapsed()
    }

    /// Whether that is too long. Never under loom, where time means nothing.
    pub(super) fn is_over(&self) -> bool {
        !cfg!(loom) && self.so_far() >= self.1
    }
}
