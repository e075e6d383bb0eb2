//! The mappings of a space in order, as readers find them under RCU: an array that is never changed
//! once it is published, but replaced.

use super::vma::Vma;
use crate::{
    mm::{Object, Objects},
    sync::RcuHead,
};
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

/// The most mappings of a space (Linux's `vm.max_map_count`).
pub(super) const MOST: usize = 60;

#[repr(C)]
struct Slot {
    start: AtomicUsize,
    vma: AtomicUsize,
}

/// Atomics only: any bit pattern is a valid value.
#[repr(C)]
pub(super) struct VmaArray {
    slab_head: AtomicU64,
    count: AtomicUsize,
    pub(super) rcu: RcuHead,
    slots: [Slot; MOST],
    slab_tail: AtomicU64,
}

const _: () = assert!(size_of::<VmaArray>() == 1024);

// SAFETY: atomics; the first and last words are the slab's.
unsafe impl Object for VmaArray {}

impl VmaArray {
    /// Makes it this list. Nobody else knows it yet.
    pub(super) fn init(&self, list: &VmaList) {
        self.count.store(list.count, Relaxed);
        for (slot, vma) in self.slots.iter().zip(list.vmas()) {
            slot.start.store(vma.range().start, Relaxed);
            slot.vma
                .store(core::ptr::from_ref(vma).expose_provenance(), Relaxed);
        }
    }

    /// The last mapping that starts at `address` or below.
    pub(super) fn find(&self, vmas: &Objects<Vma>, address: usize) -> Option<&'static Vma> {
        // What was freed under a late reader holds poison: no index may come out of it.
        let count = self.count.load(Relaxed).min(MOST);
        let after = self.slots[..count].partition_point(|slot| slot.start.load(Relaxed) <= address);
        vmas.at(self.slots[after.checked_sub(1)?].vma.load(Relaxed))
    }

    pub(super) fn list(&self, vmas: &Objects<Vma>) -> VmaList {
        let count = self.count.load(Relaxed).min(MOST);
        let mut list = VmaList::default();
        for slot in &self.slots[..count] {
            if let Some(vma) = vmas.at(slot.vma.load(Relaxed)) {
                list.push(vma);
            }
        }
        list
    }
}

/// Mappings in order, while they are being changed.
#[derive(Clone)]
pub(super) struct VmaList {
    vmas: [Option<&'static Vma>; MOST],
    count: usize,
}

impl Default for VmaList {
    fn default() -> Self {
        Self {
            vmas: [None; MOST],
            count: 0,
        }
    }
}

impl VmaList {
    pub(super) fn vmas(&self) -> impl Iterator<Item = &'static Vma> {
        self.vmas[..self.count].iter().copied().flatten()
    }

    fn push(&mut self, vma: &'static Vma) {
        self.vmas[self.count] = Some(vma);
        self.count += 1;
    }

    /// Adds a mapping in its place; whether there was room.
    #[must_use]
    pub(super) fn insert(&mut self, vma: &'static Vma) -> bool {
        if self.count == MOST {
            return false;
        }
        let start = vma.range().start;
        let place = self
            .vmas()
            .take_while(|other| other.range().start < start)
            .count();
        self.vmas[place..=self.count].rotate_right(1);
        self.vmas[place] = Some(vma);
        self.count += 1;
        true
    }

    /// Those of which `keep` says so.
    pub(super) fn filter(&self, keep: impl Fn(&Vma) -> bool) -> Self {
        let mut list = Self::default();
        self.vmas()
            .filter(|vma| keep(vma))
            .for_each(|vma| list.push(vma));
        list
    }
}
