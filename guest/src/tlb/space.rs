//! What shootdowns need to know of an address space.

use crate::sync::atomic::{
    AtomicU64, AtomicUsize,
    Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst},
    const_fn, fence,
};

/// Instead of the address of a root: no processor has these tables loaded.
const SOFTWARE: usize = usize::MAX;

/// An address space: its tables, its changes, and the CPUs that may hold translations of it.
#[derive(Debug)]
pub struct Space {
    root: AtomicUsize,
    /// Changes so far, plus one.
    generation: AtomicU64,
    /// The CPUs that use it, or keep it lazily.
    active: AtomicU64,
    /// Changes that have begun to take entries away, and whose shootdown is not over.
    gathering: AtomicU64,
}

impl Space {
    const_fn! {
        /// A space that no CPU uses, whose page table has its root at the physical address `root`.
        ///
        /// # Safety
        /// The table maps everything that the kernel itself uses. From the first
        /// [`Tlb::activate`](super::Tlb::activate) until [`Tlb::retire`](super::Tlb::retire) has
        /// returned, this value stays where it is, for CPUs know it by its address, and so do the
        /// tables, but for those that are freed after a shootdown with
        /// [`Batch::frees_tables`](super::Batch::frees_tables).
        pub unsafe fn new(root: usize) -> Self {
            Self::of_kernel(root)
        }
    }

    /// Makes it a space that no CPU uses, and whose tables software alone walks: its translations are
    /// those of each CPU's [`SoftTlb`](super::SoftTlb), and the processor keeps to the kernel's
    /// tables. For a space in memory that was another one, which was [retired](super::Tlb::retire).
    pub fn reset_software(&self) {
        self.root.store(SOFTWARE, Relaxed);
        self.generation.store(1, Relaxed);
        self.active.store(0, Relaxed);
        self.gathering.store(0, Relaxed);
    }

    const_fn! {
        pub(super) fn of_kernel(root: usize) -> Self {
            Self {
                root: AtomicUsize::new(root),
                generation: AtomicU64::new(1),
                active: AtomicU64::new(0),
                gathering: AtomicU64::new(0),
            }
        }
    }

    pub(super) fn set_root(&self, root: usize) {
        self.root.store(root, Relaxed);
    }

    /// The root that a processor loads, if it does.
    pub(super) fn root(&self) -> Option<usize> {
        Some(self.root.load(Relaxed)).filter(|root| *root != SOFTWARE)
    }

    /// Identifies the space; never followed.
    pub(super) fn address(&self) -> usize {
        core::ptr::from_ref(self).addr()
    }

    /// The generation of a change that the caller has just stored.
    pub(super) fn change(&self) -> u64 {
        // Release: who sees this generation, or a later one, sees the change.
        let generation = self.generation.fetch_add(1, AcqRel) + 1;
        // Pairs with the fence in `catch_up`: the initiator sees the CPU, or the CPU the generation.
        fence(SeqCst);
        generation
    }

    /// Up to where a CPU has flushed that drops all its translations after this call, and that has
    /// said before that it uses the space.
    pub(super) fn catch_up(&self) -> u64 {
        // Pairs with the fence in `change`.
        fence(SeqCst);
        self.generation.load(Acquire)
    }

    pub(super) fn enter(&self, cpu: usize) {
        // Release: who sees the bit sees that the CPU is not lazy.
        self.active.fetch_or(1 << cpu, AcqRel);
    }

    pub(super) fn leave(&self, cpu: usize) {
        // Release: this CPU's accesses through the space come before.
        self.active.fetch_and(!(1 << cpu), AcqRel);
    }

    /// The caller is about to take entries away, and to shoot their translations down later. Before it
    /// takes the lock of the first table (Linux's `inc_tlb_flush_pending`).
    pub fn begin_gather(&self) {
        // The tables' locks order it: who finds an entry gone sees that somebody gathers.
        self.gathering.fetch_add(1, Relaxed);
    }

    /// Whether somebody else gathers too. Entries that the caller found gone may be among his, whose
    /// translations are still in use: then the caller must shoot all of them down before it says that
    /// they are gone (Linux's `mm_tlb_flush_nested`). After the caller has left the tables' locks.
    pub fn gathers_beside(&self) -> bool {
        // Acquire: who gathers no more has shot down. Pairs with the release in `end_gather`.
        self.gathering.load(Acquire) > 1
    }

    /// The shootdown that follows [`Self::begin_gather`] is over.
    pub fn end_gather(&self) {
        self.gathering.fetch_sub(1, Release);
    }

    /// The CPUs on which the space is or may be active, a bit each.
    #[must_use]
    pub fn active(&self) -> u64 {
        self.active.load(Acquire)
    }
}
