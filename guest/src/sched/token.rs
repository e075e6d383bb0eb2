//! Whether a thread sleeps, and whether it may: the token of `std::thread::park`.

use crate::sync::atomic::{
    AtomicU32,
    Ordering::{AcqRel, Acquire, Relaxed},
    const_fn,
};

/// Neither of the others.
const EMPTY: u32 = 0;
/// The thread sleeps: whoever changes this puts it on its run queue.
const PARKED: u32 = 1;
/// Its next sleep ends at once.
const NOTIFIED: u32 = 2;

/// A thread's token. Zero is that of a new thread.
pub(super) struct Token(AtomicU32);

impl Token {
    const_fn! {
        pub(super) fn new() -> Self {
            Self(AtomicU32::new(EMPTY))
        }
    }

    /// Makes it that of a new thread, which nobody else knows.
    pub(super) fn reset(&self) {
        self.0.store(EMPTY, Relaxed);
    }

    /// The thread takes its notification; whether there was one. If so it does not sleep.
    pub(super) fn take(&self) -> bool {
        self.change(NOTIFIED, EMPTY)
    }

    /// The thread is about to leave its CPU; false if it was notified meanwhile, and must not.
    pub(super) fn sleep(&self) -> bool {
        self.change(EMPTY, PARKED)
    }

    /// The thread runs again, or never stopped.
    pub(super) fn awake(&self) {
        // Pairs with the release in `notify`: whatever was waited for is seen.
        self.0.swap(EMPTY, Acquire);
    }

    /// Ends the thread's sleep, or its next one; whether it sleeps. If so the caller, and nobody
    /// else, puts it on its run queue. It stays notified until it runs: another notification that
    /// comes before is seen with this one.
    pub(super) fn notify(&self) -> bool {
        // Release pairs with the acquires here; all notifications are one release sequence.
        self.0.swap(NOTIFIED, AcqRel) == PARKED
    }

    fn change(&self, from: u32, to: u32) -> bool {
        self.0.compare_exchange(from, to, Acquire, Relaxed).is_ok()
    }
}
