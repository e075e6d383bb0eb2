//! What the page allocator knows of each frame, kept beside the frames: a free page holds nothing
//! but poison.

use super::page::Mapping;
use core::sync::atomic::{
    AtomicU32,
    Ordering::{Acquire, Relaxed, Release},
};

/// No frame: ends a list.
pub(super) const NONE: u32 = u32::MAX;

const ORDER: u32 = 0xf;
const FREE: u32 = 1 << 4;
const ALLOCATED: u32 = 1 << 5;
const POISONED: u32 = 1 << 6;
const MAPPED: u32 = 1 << 7;

/// One frame's record (Linux's `struct page`, as far as it is needed here). All zeroes is valid:
/// a frame that the allocator was not given.
///
/// Changed under the allocator's lock, or by the owner of the block that the frame is in.
#[derive(Debug, Default)]
pub struct Frame {
    /// The next block in the free list; of an allocated block, what its owner likes; of a mapped
    /// page, its number in the space.
    next: AtomicU32,
    /// The block before it in the free list; of a mapped page, the space.
    previous: AtomicU32,
    state: AtomicU32,
}

impl Frame {
    /// A frame that the allocator was not given.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            next: AtomicU32::new(0),
            previous: AtomicU32::new(0),
            state: AtomicU32::new(0),
        }
    }

    fn head(&self, flag: u32, order: usize) {
        let poisoned = self.state.load(Relaxed) & POISONED;
        self.state.store(poisoned | flag | order as u32, Relaxed);
    }

    fn is_head(&self, flag: u32, order: usize) -> bool {
        self.state.load(Relaxed) & !POISONED == flag | order as u32
    }

    /// Makes it the first frame of an allocated block.
    pub(super) fn set_allocated(&self, order: usize) {
        self.head(ALLOCATED, order);
    }

    /// Whether it is the first frame of an allocated block of this order.
    pub(super) fn is_allocated(&self, order: usize) -> bool {
        self.is_head(ALLOCATED, order)
    }

    /// Makes it no block's first frame.
    pub(super) fn clear_head(&self) {
        self.head(0, 0);
    }

    /// Whether it is the first frame of a free block of this order.
    pub(super) fn is_free(&self, order: usize) -> bool {
        self.is_head(FREE, order)
    }

    /// The order of the free block that it begins.
    pub(super) fn free_order(&self) -> Option<usize> {
        let state = self.state.load(Relaxed);
        (state & FREE != 0).then_some((state & ORDER) as usize)
    }

    /// Says that the frame is filled with poison.
    pub(super) fn set_poisoned(&self) {
        self.state
            .store(self.state.load(Relaxed) | POISONED, Relaxed);
    }

    /// Whether the frame is filled with poison.
    pub(super) fn is_poisoned(&self) -> bool {
        self.state.load(Relaxed) & POISONED != 0
    }

    /// Says that the frame is no longer filled with poison; whether it was.
    pub(super) fn take_poisoned(&self) -> bool {
        let state = self.state.load(Relaxed);
        self.state.store(state & !POISONED, Relaxed);
        state & POISONED != 0
    }

    /// What the owner of the block wrote.
    pub(super) fn owner(&self) -> u32 {
        self.next.load(Relaxed)
    }

    /// Writes what the owner of the block likes.
    pub(super) fn set_owner(&self, owner: u32) {
        self.next.store(owner, Relaxed);
    }

    /// The entry that maps the page, as of some moment; `None` of what is not mapped.
    pub(super) fn mapping(&self) -> Option<Mapping> {
        // Pairs with the release in `set_mapping`.
        (self.state.load(Acquire) & MAPPED != 0).then(|| Mapping {
            space: self.previous.load(Relaxed),
            number: self.next.load(Relaxed),
        })
    }

    /// Says which entry maps the page, which is a block of its own.
    pub(super) fn set_mapping(&self, mapping: Mapping) {
        self.previous.store(mapping.space, Relaxed);
        self.next.store(mapping.number, Relaxed);
        // Release: who finds the page mapped finds by which entry.
        self.state.store(self.state.load(Relaxed) | MAPPED, Release);
    }

    /// Says that no entry maps the page any more.
    pub(super) fn clear_mapping(&self) {
        self.state
            .store(self.state.load(Relaxed) & !MAPPED, Relaxed);
    }
}

/// A free list of one order, through the frames.
#[derive(Debug)]
pub(super) struct FreeList {
    first: u32,
    order: usize,
}

impl FreeList {
    pub(super) const fn new(order: usize) -> Self {
        Self { first: NONE, order }
    }

    pub(super) fn push(&mut self, frames: &[Frame], index: usize) {
        let frame = &frames[index];
        frame.head(FREE, self.order);
        frame.next.store(self.first, Relaxed);
        frame.previous.store(NONE, Relaxed);
        if self.first != NONE {
            frames[self.first as usize]
                .previous
                .store(index as u32, Relaxed);
        }
        self.first = index as u32;
    }

    pub(super) fn remove(&mut self, frames: &[Frame], index: usize) {
        let frame = &frames[index];
        let (next, previous) = (frame.next.load(Relaxed), frame.previous.load(Relaxed));
        if previous == NONE {
            self.first = next;
        } else {
            frames[previous as usize].next.store(next, Relaxed);
        }
        if next != NONE {
            frames[next as usize].previous.store(previous, Relaxed);
        }
        frame.clear_head();
    }

    pub(super) fn pop(&mut self, frames: &[Frame]) -> Option<usize> {
        let index = self.first as usize;
        (self.first != NONE).then(|| {
            self.remove(frames, index);
            index
        })
    }
}
