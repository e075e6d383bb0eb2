//! The tree: its objects, where they are found, and how they come and go.

use super::{dentry::Dentry, protection::Protection};
use crate::random::Random;
use crate::{
    Cpu,
    mm::{PageAllocator, SlabCache, SlabPage},
    record::access,
    sync::RcuHead,
};
use core::{
    fmt,
    mem::offset_of,
    ptr::NonNull,
    sync::atomic::{
        AtomicU64, AtomicUsize,
        Ordering::{AcqRel, Acquire, Relaxed, Release},
    },
};
use underfoot_abi::{PAGE_SIZE, PageByte, PageKind, Variant};

/// Children that an object has on average.
const FANOUT: usize = 8;

/// The fewest objects that make a tree of four levels.
const MIN_OBJECTS: usize = 128;
/// The most objects, whatever the memory: the slots are one block of the page allocator.
const MAX_OBJECTS: usize = 16_384;

/// Why a tree could not be built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BuildError {
    /// No page is left.
    OutOfPages {
        /// Objects asked for.
        objects: usize,
        /// Pages free at the start.
        free_pages: usize,
    },
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfPages {
                objects,
                free_pages,
            } => write!(
                f,
                "cannot build a tree of {objects} objects in {free_pages} free pages; \
                 give the guest more memory"
            ),
        }
    }
}

impl core::error::Error for BuildError {}

/// A tree of [`Dentry`] objects, several levels deep. Each slot has a fixed level, so that a rename
/// cannot make a cycle; slot 0 is the root.
pub struct Tree {
    pub(super) cache: &'static SlabCache,
    pub(super) protection: Protection,
    /// Addresses of the objects, 0 where there is none.
    pub(super) slots: &'static [AtomicUsize],
    /// Updates of objects that have been removed.
    pub(super) carried: AtomicU64,
    pub(super) variant: u32,
}

impl Tree {
    /// The number of objects that suits a guest with `free_pages` pages.
    #[must_use]
    pub fn objects_for(free_pages: usize) -> usize {
        (free_pages / 4).clamp(MIN_OBJECTS, MAX_OBJECTS)
    }

    /// Builds a tree of about `objects` objects.
    ///
    /// # Errors
    /// [`BuildError::OutOfPages`].
    pub(super) fn build(
        cpu: &Cpu,
        pages: &'static PageAllocator,
        protection: Protection,
        objects: usize,
    ) -> Result<Self, BuildError> {
        let objects = objects.clamp(MIN_OBJECTS, MAX_OBJECTS);
        let free_pages = pages.free_pages(cpu);
        let error = BuildError::OutOfPages {
            objects,
            free_pages,
        };
        let data = PageByte::new(PageKind::Data, false);
        let slots = pages
            .zeroed_slice::<AtomicUsize>(cpu, objects, data)
            .ok_or(error)?;
        // Half as many again: objects wait for their grace period before they are free.
        let slabs = (objects + objects / 2) * size_of::<Dentry>() / PAGE_SIZE;
        let slabs = pages
            .zeroed_slice::<SlabPage>(cpu, slabs, data)
            .ok_or(error)?;
        let cache = SlabCache::new(pages, size_of::<Dentry>(), slabs);
        let tree = Self {
            cache: pages.place(cpu, data, cache).ok_or(error)?,
            protection,
            slots,
            carried: AtomicU64::new(0),
            variant: cpu.header.variant,
        };
        let mut random = Random::new(cpu.header.seed, u64::MAX);
        for slot in 0..objects {
            tree.create(cpu, slot, &mut random).ok_or(error)?;
        }
        Ok(tree)
    }

    pub(super) fn is(&self, variant: Variant) -> bool {
        self.variant == variant as u32
    }

    /// The level of the objects in `slot`.
    pub(super) fn level_of(slot: usize) -> u32 {
        let (mut level, mut end) = (0, 1);
        while slot >= end {
            level += 1;
            end = end * FANOUT + 1;
        }
        level
    }

    /// The slots of `level`, in which an object of the level below has its parent.
    fn slots_of(&self, level: u32) -> core::ops::Range<usize> {
        let (mut start, mut end) = (0, 1);
        for _ in 0..level {
            start = end;
            end = end * FANOUT + 1;
        }
        start..end.min(self.slots.len())
    }

    /// The object at `address`, if one of the tree's can be there. That it lives is not said.
    #[inline]
    pub(super) fn at(&self, address: usize) -> Option<&'static Dentry> {
        // SAFETY: the memory is an object of the cache for ever, and any bit pattern is a valid
        // `Dentry`, all of whose fields are atomics.
        (self.cache.owns(address))
            .then(|| unsafe { &*core::ptr::with_exposed_provenance::<Dentry>(address) })
    }

    /// The object in `slot`. It is safe from being freed as long as the caller's read section lasts.
    #[inline]
    pub(super) fn lookup(&self, cpu: &Cpu, slot: usize) -> Option<&'static Dentry> {
        let slot = &self.slots[slot];
        // Pairs with the release in `create`.
        self.at(access(cpu, core::ptr::from_ref(slot).addr(), || {
            slot.load(Acquire)
        }))
    }

    /// The object in `slot`, with a reference for the caller.
    pub(super) fn lookup_get(&self, cpu: &Cpu, slot: usize) -> Option<&'static Dentry> {
        let _section = self.protection.rcu.read_lock(cpu);
        self.lookup(cpu, slot).filter(|dentry| dentry.get(cpu))
    }

    /// Some object that may be a parent for `level`, with a reference for the caller.
    pub(super) fn parent_for(
        &self,
        cpu: &Cpu,
        level: u32,
        random: &mut Random,
    ) -> Option<&'static Dentry> {
        let slots = self.slots_of(level.checked_sub(1)?);
        self.lookup_get(cpu, slots.start + random.below(slots.len()))
    }

    /// Puts a new object into the empty `slot`; `None` if there is no memory or no parent, or
    /// somebody else was first.
    pub(super) fn create(&self, cpu: &Cpu, slot: usize, random: &mut Random) -> Option<()> {
        let level = Self::level_of(slot);
        let parent = self.parent_for(cpu, level, random);
        if parent.is_none() && level > 0 {
            return None;
        }
        let give_up = || {
            if let Some(parent) = parent {
                parent.put(cpu);
            }
        };
        let Some(address) = self.cache.allocate(cpu) else {
            give_up();
            return None;
        };
        let dentry = self.at(address)?;
        // The parent's reference now is the child's, until `remove` or a rename.
        access(cpu, address, || {
            dentry.init(cpu, slot, level, parent.map_or(0, Dentry::address));
        });
        // Release: who finds the object finds it whole.
        if self.slots[slot]
            .compare_exchange(0, address, AcqRel, Relaxed)
            .is_err()
        {
            give_up();
            self.cache.free(cpu, address);
            return None;
        }
        Some(())
    }

    /// Takes `dentry` out of its `slot` if nobody but the caller holds it and it has no children, and
    /// frees it after a grace period. Takes the caller's reference. Whether it was removed.
    pub(super) fn remove(&self, cpu: &Cpu, slot: usize, dentry: &'static Dentry) -> bool {
        if !dentry.kill() {
            dentry.put(cpu);
            return false;
        }
        // Nobody holds it any more, so nobody will update it or move it.
        self.carried
            .fetch_add(dentry.pair[0].load(Relaxed), Relaxed);
        let parent = dentry.parent();
        // Release: an object created in this slot comes after.
        self.slots[slot].store(0, Release);
        if let Some(parent) = self.at(parent.address) {
            parent.put(cpu);
        }
        if self.is(Variant::NoGracePeriod) {
            self.cache.free(cpu, dentry.address());
            return true;
        }
        let cache = core::ptr::from_ref(self.cache).expose_provenance();
        // SAFETY: the object is in no list, it is dead so that nobody queues it again, its memory
        // stays, and `free_dentry` gets the cache that the object is from, which lives for ever.
        unsafe {
            let (head, bytes) = (NonNull::from(&dentry.rcu), size_of::<Dentry>() as u32);
            self.protection
                .rcu
                .call(cpu, head, free_dentry, cache, bytes);
        }
        true
    }
}

/// Frees the object that `head` is in.
///
/// # Safety
/// `head` is the `rcu` of a dead [`Dentry`], and `cache` the exposed address of the live cache that
/// it comes from.
unsafe fn free_dentry(cpu: &Cpu, head: NonNull<RcuHead>, cache: usize) {
    // SAFETY: the caller's promise.
    let cache = unsafe { &*core::ptr::with_exposed_provenance::<SlabCache>(cache) };
    cache.free(cpu, head.addr().get() - offset_of!(Dentry, rcu));
}
