//! One mapping of an address space.

use super::RwCount;
use crate::{
    mm::Object,
    random::mix,
    sync::{RcuHead, SeqCount},
};
use core::{
    ops::Range,
    sync::atomic::{
        AtomicU32, AtomicU64, AtomicUsize,
        Ordering::{Acquire, Relaxed, Release},
    },
};
use underfoot_abi::PAGE_SIZE;

/// What a mapping allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Protection {
    /// Reads.
    Read = 0,
    /// Reads and writes.
    Write = 1,
}

/// A mapping. Where it starts never changes, where it ends does. Changed under the space's lock and
/// its own, both for writing, within a write section of its sequence count. Atomics only: any bit
/// pattern is a valid value.
#[repr(C)]
pub struct Vma {
    slab_head: AtomicU64,
    /// The number of its space; 0 once it is detached.
    space: AtomicU64,
    start: AtomicUsize,
    end: AtomicUsize,
    /// The page number, of those that pages know themselves by, at `start`: it moves along when the
    /// mapping moves (Linux's `vm_pgoff` of anonymous memory).
    offset: AtomicUsize,
    protection: AtomicU32,
    /// Keeps the mapping and the tables below it, for who holds it; with it a fault need not take
    /// the space's.
    pub(super) lock: RwCount,
    /// Tells a speculative fault that the mapping changed.
    pub(super) seq: SeqCount,
    padding: AtomicU32,
    pub(super) rcu: RcuHead,
    slab_tail: AtomicU64,
}

const _: () = assert!(size_of::<Vma>() == 104);

// SAFETY: atomics; the first and last words are the slab's.
unsafe impl Object for Vma {}

impl Vma {
    /// Makes it a new mapping. Nobody else knows it yet.
    pub(super) fn init(
        &self,
        space: u64,
        range: Range<usize>,
        offset: usize,
        protection: Protection,
    ) {
        self.space.store(space, Relaxed);
        self.start.store(range.start, Relaxed);
        self.end.store(range.end, Relaxed);
        self.offset.store(offset, Relaxed);
        self.protection.store(protection as u32, Relaxed);
        self.lock.reset();
        self.seq.reset();
        self.padding.store(0, Relaxed);
    }

    /// What the lock-order checker knows [`Self::lock`] by.
    pub(super) fn lock_address(&self) -> usize {
        core::ptr::from_ref(&self.lock).addr()
    }

    /// The addresses that it maps.
    #[must_use]
    pub fn range(&self) -> Range<usize> {
        self.start.load(Relaxed)..self.end.load(Relaxed)
    }

    /// What it allows.
    #[must_use]
    pub fn protection(&self) -> Protection {
        match self.protection.load(Relaxed) {
            0 => Protection::Read,
            _ => Protection::Write,
        }
    }

    pub(super) fn allows(&self, write: bool) -> bool {
        !write || self.protection() == Protection::Write
    }

    /// Whether it is a mapping of the space `id` that has `address`.
    pub(super) fn is_live(&self, id: u64, address: usize) -> bool {
        self.space.load(Acquire) == id && self.range().contains(&address)
    }

    pub(super) fn page_number(&self, address: usize) -> usize {
        let pages = address.wrapping_sub(self.start.load(Relaxed)) / PAGE_SIZE;
        self.offset.load(Relaxed).wrapping_add(pages)
    }

    /// What the page at `address` knows itself by.
    pub(super) fn identity(&self, id: u64, address: usize) -> u64 {
        mix(id) ^ self.page_number(address) as u64
    }

    /// Whether `next`, which begins where this ends, may be one with it.
    pub(super) fn continues(&self, next: &Self) -> bool {
        self.range().end == next.range().start
            && self.protection() == next.protection()
            && self.page_number(self.range().end) == next.offset.load(Relaxed)
    }

    pub(super) fn set_end(&self, end: usize) {
        self.end.store(end, Relaxed);
    }

    pub(super) fn set_protection(&self, protection: Protection) {
        self.protection.store(protection as u32, Relaxed);
    }

    /// It is no mapping any more.
    pub(super) fn detach(&self) {
        // Release: pairs with the acquire in `is_live`.
        self.space.store(0, Release);
    }
}
