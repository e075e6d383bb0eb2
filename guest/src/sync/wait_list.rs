//! Threads in a row, waiting.

use crate::sched::{Sched, ThreadId};
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// A thread's place in the one list in which it waits: no list needs memory of its own. Touched only
/// under that list's lock. Zero is nowhere.
#[derive(Debug, Default)]
pub struct WaitLink {
    /// 0 nowhere, [`LAST`], or the next thread's number plus one.
    next: AtomicU32,
    /// What the list's user keeps with the thread.
    tag: AtomicU32,
}

/// Nobody comes next.
const LAST: u32 = u32::MAX;

impl WaitLink {
    /// Nowhere.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            next: AtomicU32::new(0),
            tag: AtomicU32::new(0),
        }
    }
}

/// The threads that wait, first come, first. Kept inside of a lock.
#[derive(Debug, Default)]
pub(super) struct WaitList {
    /// The first thread's number plus one; 0 if there is none.
    first: u32,
    /// The last one's, if there is a first.
    last: u32,
}

fn next(sched: &dyn Sched, place: u32) -> &AtomicU32 {
    &sched.local_of(ThreadId(place - 1)).wait.next
}

impl WaitList {
    pub(super) const fn new() -> Self {
        Self { first: 0, last: 0 }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.first == 0
    }

    /// Whether the thread waits, here or elsewhere.
    pub(super) fn has(sched: &dyn Sched, thread: ThreadId) -> bool {
        next(sched, thread.0 + 1).load(Relaxed) != 0
    }

    /// Appends a thread that waits nowhere.
    pub(super) fn push(&mut self, sched: &dyn Sched, thread: ThreadId, tag: u32) {
        let place = thread.0 + 1;
        debug_assert!(!Self::has(sched, thread), "waits twice");
        sched.local_of(thread).wait.tag.store(tag, Relaxed);
        next(sched, place).store(LAST, Relaxed);
        if self.is_empty() {
            self.first = place;
        } else {
            next(sched, self.last).store(place, Relaxed);
        }
        self.last = place;
    }

    /// The first thread and its tag.
    pub(super) fn first(&self, sched: &dyn Sched) -> Option<(ThreadId, u32)> {
        let thread = ThreadId(self.first.checked_sub(1)?);
        Some((thread, sched.local_of(thread).wait.tag.load(Relaxed)))
    }

    /// Removes the first thread.
    pub(super) fn pop(&mut self, sched: &dyn Sched) -> Option<ThreadId> {
        let (thread, _) = self.first(sched)?;
        let next = next(sched, self.first).swap(0, Relaxed);
        self.first = if next == LAST { 0 } else { next };
        Some(thread)
    }

    /// Removes the thread, if it is here. It waits nowhere else.
    pub(super) fn remove(&mut self, sched: &dyn Sched, thread: ThreadId) {
        let place = thread.0 + 1;
        if !Self::has(sched, thread) {
            return;
        }
        if self.first == place {
            self.pop(sched);
            return;
        }
        let mut before = self.first;
        while next(sched, before).load(Relaxed) != place {
            before = next(sched, before).load(Relaxed);
        }
        let after = next(sched, place).swap(0, Relaxed);
        next(sched, before).store(after, Relaxed);
        if after == LAST {
            self.last = before;
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
