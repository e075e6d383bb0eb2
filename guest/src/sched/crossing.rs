//! Where a CPU that changes threads meets one that wakes a thread there.
//!
//! Each tells the other what it did before it looks at what the other did. So the waker sees the
//! thread that now runs, and interrupts it if it is the less urgent one, or the CPU sees that
//! somebody more urgent came, and changes again.

use crate::sync::atomic::{
    AtomicU32,
    Ordering::{Relaxed, SeqCst},
    const_fn, fence,
};

/// One CPU's: who can run there, and who does. Zeroes are nobody, and the thread that booted it.
pub(super) struct Crossing {
    /// A bit for each priority at which somebody waits to run. Written with the run queue locked.
    ready: AtomicU32,
    /// The running thread. Written by the CPU itself.
    current: AtomicU32,
}

impl Crossing {
    const_fn! {
        pub(super) fn new() -> Self {
            Self {
                ready: AtomicU32::new(0),
                current: AtomicU32::new(0),
            }
        }
    }

    /// The priorities at which somebody waits now.
    pub(super) fn set_ready(&self, priorities: u32) {
        self.ready.store(priorities, Relaxed);
    }

    /// Whether somebody waits at level `least` or above.
    pub(super) fn is_wanted(&self, least: u8) -> bool {
        let ready = self.ready.load(Relaxed);
        ready
            .checked_shr(least.into())
            .is_some_and(|priorities| priorities != 0)
    }

    pub(super) fn current(&self) -> u32 {
        self.current.load(Relaxed)
    }

    /// `thread` runs from now on. The CPU then looks whether it [is wanted](Self::is_wanted).
    pub(super) fn set_current(&self, thread: u32) {
        self.current.store(thread, Relaxed);
        // Pairs with the fence in `cross`.
        fence(SeqCst);
    }

    /// Somebody was made ready, or changed level, before this; the caller then looks who runs.
    pub(super) fn cross(&self) {
        // Pairs with the fence in `set_current`.
        fence(SeqCst);
    }
}
