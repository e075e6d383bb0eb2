//! Slab objects of a Rust type.

use super::{
    magazine::ROOM,
    page::PageAllocator,
    slab::{SlabAudit, SlabCache, SlabPage},
    watermark::Refused,
};
use crate::Cpu;
use core::marker::PhantomData;
use underfoot_abi::{PAGE_SIZE, PageByte, PageKind};

/// Types that slab objects can be.
///
/// # Safety
/// The type is `repr(C)`, any bit pattern is a valid value of it, other CPUs may share it (all of it
/// is atomics), and its first and last words are left to the cache.
pub unsafe trait Object: Sync + Sized + 'static {}

/// A cache of objects of one type. As slabs are never given back, a reference to an object stays good
/// for ever: after the object was freed it shows poison, or a successor.
pub struct Objects<T> {
    cache: &'static SlabCache,
    of: PhantomData<fn() -> T>,
}

impl<T: Object> Objects<T> {
    /// An empty cache that grows to at least `most` objects in use, wherever they are freed: what CPUs
    /// keep for themselves comes on top. `None` if no page is left.
    #[must_use]
    pub fn build(cpu: &Cpu, pages: &'static PageAllocator, most: usize) -> Option<Self> {
        let data = PageByte::new(PageKind::Data, false);
        // A CPU's magazine is no other one's: without this the first few CPUs could have them all.
        let most = most + ROOM * cpu.header.cpus as usize;
        let slabs = most.div_ceil(PAGE_SIZE / size_of::<T>());
        let slabs = pages.zeroed_slice::<SlabPage>(cpu, slabs, data)?;
        let cache = SlabCache::new(pages, size_of::<T>(), slabs);
        Some(Self {
            cache: pages.place(cpu, data, cache)?,
            of: PhantomData,
        })
    }

    /// A new object, all poison but for its check words.
    ///
    /// # Errors
    /// [`Refused::Full`] when there are as many as there may be, [`Refused::Empty`] when no page is left.
    pub fn allocate(&self, cpu: &Cpu) -> Result<&'static T, Refused> {
        self.at(self.cache.try_allocate(cpu)?).ok_or(Refused::Empty)
    }

    /// Frees an object; whether it was sound.
    pub fn free(&self, cpu: &Cpu, object: &T) -> bool {
        self.cache.free(cpu, core::ptr::from_ref(object).addr())
    }

    /// The object at `address`, if one of this cache's can be there. That it is in use is not said.
    #[inline]
    #[must_use]
    pub fn at(&self, address: usize) -> Option<&'static T> {
        // SAFETY: the memory is an object of the cache for ever, and any bit pattern is a valid `T`.
        (self.cache.owns(address))
            .then(|| unsafe { &*core::ptr::with_exposed_provenance::<T>(address) })
    }

    /// Verifies the check words of an object; whether they are right. What is wrong is counted.
    #[inline]
    pub fn verify(&self, cpu: &Cpu, object: &T) -> bool {
        self.cache.verify(cpu, core::ptr::from_ref(object).addr())
    }

    /// As [`SlabCache::audit`].
    pub fn audit(&self, cpu: &Cpu) -> SlabAudit {
        self.cache.audit(cpu)
    }
}
