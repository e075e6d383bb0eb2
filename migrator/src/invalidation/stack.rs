//! Open invalidations on their callers' stacks, in a list.

use std::ptr::{NonNull, null_mut};

use super::sync::{AtomicPtr, AtomicU64, Backoff, Ordering};
use crate::{Gfn, PageRange};

/// An entry of the list. All of it is written with the list locked.
#[derive(Debug)]
pub(super) struct Node {
    next: AtomicPtr<Node>,
    start: AtomicU64,
    pages: AtomicU64,
    /// Subscriptions that count this invalidation, as a mask.
    counted: AtomicU64,
}

impl Node {
    pub(super) fn new() -> Self {
        Self {
            next: AtomicPtr::new(null_mut()),
            start: AtomicU64::new(0),
            pages: AtomicU64::new(0),
            counted: AtomicU64::new(0),
        }
    }

    pub(super) fn range(&self) -> PageRange {
        let pages = self.pages.load(Ordering::Relaxed) as u32;
        PageRange::new(Gfn(self.start.load(Ordering::Relaxed)), pages)
    }

    pub(super) fn counted(&self) -> u64 {
        self.counted.load(Ordering::Relaxed)
    }

    pub(super) fn set_counted(&self, mask: u64) {
        self.counted.store(mask, Ordering::Relaxed);
    }
}

/// The list, under a spin lock: held for a walk through list and subscriptions, never across a wait.
#[derive(Debug)]
pub(super) struct Stack {
    locked: AtomicU64,
    first: AtomicPtr<Node>,
}

/// The lock is held.
pub(super) struct Locked<'s>(&'s Stack);

impl Stack {
    pub(super) fn new() -> Self {
        Self {
            locked: AtomicU64::new(0),
            first: AtomicPtr::new(null_mut()),
        }
    }

    pub(super) fn lock(&self) -> Locked<'_> {
        let mut backoff = Backoff::default();
        // Acquire: pairs with the release of whoever held it last.
        while self
            .locked
            .compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed)
            .is_err()
        {
            backoff.wait();
        }
        Locked(self)
    }
}

impl Locked<'_> {
    /// Puts `node` into the list, for `range`.
    ///
    /// # Safety
    /// It is not in the list, and stays where it is until [`Self::unlink`] has taken it out.
    pub(super) unsafe fn link(&self, node: &Node, range: PageRange) {
        node.start.store(range.start.0, Ordering::Relaxed);
        node.pages.store(range.pages.into(), Ordering::Relaxed);
        let first = self.0.first.load(Ordering::Relaxed);
        node.next.store(first, Ordering::Relaxed);
        let node = std::ptr::from_ref(node).cast_mut();
        self.0.first.store(node, Ordering::Relaxed);
    }

    /// Takes `node` out; does nothing if it is not in the list.
    pub(super) fn unlink(&self, node: &Node) {
        let wanted = std::ptr::from_ref(node).cast_mut();
        let mut place = &self.0.first;
        loop {
            let here = place.load(Ordering::Relaxed);
            if here == wanted {
                let next = node.next.load(Ordering::Relaxed);
                return place.store(next, Ordering::Relaxed);
            }
            let Some(here) = NonNull::new(here) else {
                return;
            };
            // SAFETY: it is in the list, so that `link`'s caller keeps it where it is; the lock keeps
            // it in the list.
            place = unsafe { &here.as_ref().next };
        }
    }

    /// Visits every entry.
    pub(super) fn each(&self, mut visit: impl FnMut(&Node)) {
        let mut place = NonNull::new(self.0.first.load(Ordering::Relaxed));
        while let Some(here) = place {
            // SAFETY: as in `unlink`.
            let node = unsafe { here.as_ref() };
            visit(node);
            place = NonNull::new(node.next.load(Ordering::Relaxed));
        }
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        self.0.locked.store(0, Ordering::Release);
    }
}
