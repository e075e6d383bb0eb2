//! The address space itself.

use crate::{
    Cpu, lock_class,
    mm::{Object, fragment::Table},
    sync::{RcuHead, RwSemaphore},
    tlb,
};
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

lock_class!(pub MmapLock = "mmap_lock");

/// An address space. What outlives it lies elsewhere: its tables' owner, which callbacks need, and
/// its mappings, which readers may still see. Any bit pattern is a valid value.
#[repr(C)]
pub struct Space {
    slab_head: AtomicU64,
    pub(super) id: AtomicU64,
    /// The tables' [`TableOwner`](crate::mm::fragment::TableOwner).
    pub(super) owner: AtomicUsize,
    pub(super) root: AtomicUsize,
    /// The root of its mappings' tree; 0 if there are none.
    pub(super) mappings: AtomicUsize,
    /// Held for writing by who changes mappings, for reading by classic faults.
    pub(super) lock: RwSemaphore<(), MmapLock>,
    /// It is freed after a grace period: reclaim may be following a page to it.
    pub(super) rcu: RcuHead,
    /// What shootdowns know of it.
    pub(super) tlb: tlb::Space,
    padding: AtomicU64,
    slab_tail: AtomicU64,
}

const _: () = assert!(size_of::<Space>() == 160);

// SAFETY: atomics, and what the semaphore guards, which is integers; the first and last words are the slab's.
unsafe impl Object for Space {}

impl Space {
    /// Its number, which no other space ever has.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id.load(Relaxed)
    }

    /// Makes it a new space. Nobody else knows it yet.
    pub(super) fn init(&self, cpu: &Cpu, id: u64, owner: usize, root: Table) {
        self.id.store(id, Relaxed);
        self.owner.store(owner, Relaxed);
        self.root.store(root.address(), Relaxed);
        self.mappings.store(0, Relaxed);
        self.tlb.reset_software();
        self.padding.store(0, Relaxed);
        self.lock.reset(cpu);
    }
}
