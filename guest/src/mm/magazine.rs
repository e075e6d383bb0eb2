//! Free objects that a CPU keeps for itself, so that it seldom takes the lock that all share
//! (Bonwick and Adams, "Magazines and Vmem", USENIX 2001).

use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Objects in a full magazine.
pub(super) const ROOM: usize = 15;
/// Objects that are moved at once between a magazine and what all share.
pub(super) const HALF: usize = ROOM.div_ceil(2);

/// One CPU's magazine. Only that CPU uses it, outside of interrupts; its words are atomics because
/// all magazines lie in one shared structure.
#[derive(Debug)]
#[repr(align(128))]
pub(super) struct Magazine {
    count: AtomicUsize,
    objects: [AtomicUsize; ROOM],
}

impl Magazine {
    pub(super) const fn new() -> Self {
        Self {
            count: AtomicUsize::new(0),
            objects: [const { AtomicUsize::new(0) }; ROOM],
        }
    }

    /// The object that was pushed last.
    pub(super) fn pop(&self) -> Option<usize> {
        let last = self.len().checked_sub(1)?;
        self.count.store(last, Relaxed);
        Some(self.objects[last].load(Relaxed))
    }

    /// Objects in it.
    pub(super) fn len(&self) -> usize {
        self.count.load(Relaxed)
    }

    /// Whether there is none in it.
    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether there is room for one more.
    pub(super) fn has_room(&self) -> bool {
        self.len() < ROOM
    }

    /// Adds an object.
    ///
    /// # Panics
    /// If there is no room.
    pub(super) fn push(&self, object: usize) {
        let count = self.len();
        self.objects[count].store(object, Relaxed);
        self.count.store(count + 1, Relaxed);
    }
}
