//! What a thread keeps for the primitives that it uses.

use core::sync::atomic::{AtomicU32, AtomicU64};

use crate::sync::ReaderState;
use crate::sync::WaitLink;
#[cfg(not(loom))]
use crate::sync::lockdep::HeldLocks;

/// One per thread; only that thread writes it, but for what its parts say.
#[derive(Default)]
pub struct ThreadLocal {
    /// Its place where it waits; written under that queue's lock, by whoever has it.
    pub(crate) wait: WaitLink,
    /// The locks that it holds, as far as they are checked.
    #[cfg(not(loom))]
    pub(crate) held: HeldLocks,
    /// What preemptible RCU knows of it; written by its CPU alone, with interrupts masked or by the
    /// thread.
    pub rcu: ReaderState,
    /// Where its workload's counters begin among those of the guest: not at 0 in a part of `mix`.
    pub(crate) counters: AtomicU32,
    /// TSC when it last met a page of which KVM said that it is away.
    pub(crate) page_wait_tsc: AtomicU64,
    /// How it waited then, as [`page_wait`](crate::record::page_wait) was told.
    pub(crate) page_wait: AtomicU64,
}

impl ThreadLocal {
    /// That of a new thread.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            wait: WaitLink::new(),
            #[cfg(not(loom))]
            held: HeldLocks::new(),
            rcu: ReaderState::new(),
            counters: AtomicU32::new(0),
            page_wait_tsc: AtomicU64::new(0),
            page_wait: AtomicU64::new(0),
        }
    }
}
