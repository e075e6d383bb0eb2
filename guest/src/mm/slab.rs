//! Slab caches: objects of one size, with check words, poisoned when they are free.

use super::{
    magazine::{HALF, Magazine},
    page::{PageAllocator, ZeroValid},
    poison,
    watermark::Refused,
    without_bottom_halves,
};
use crate::{Cpu, record, sync::TicketLock};
use core::sync::atomic::{
    AtomicU32, AtomicU64, AtomicUsize,
    Ordering::{Acquire, Relaxed, Release},
};
use underfoot_abi::{MAX_CPUS, PAGE_SIZE, PageByte, PageKind};

const HEAD: u64 = 0x5ab0_bec7_0000_0000;
const TAIL: u64 = 0x7a11_bec7_0000_0000;
const WORD: usize = size_of::<u64>();

/// One slab's record, kept beside the page, which holds nothing but objects. All zeroes is valid.
#[derive(Debug, Default)]
pub struct SlabPage {
    address: AtomicUsize,
    /// Objects in use or in a magazine, one bit each. Changed under the cache's lock.
    taken: AtomicU64,
    /// Of these, the free ones in magazines. Changed by whoever frees or allocates the object.
    cached: AtomicU64,
    /// The next slab with free objects, plus one; 0 ends the list.
    next: AtomicU32,
}

// SAFETY: integers.
unsafe impl ZeroValid for SlabPage {}

crate::lock_class!(
    /// Of the slabs with free objects, of any cache.
    SlabList = "slab_list"
);

#[derive(Debug)]
struct Partial {
    /// Slabs in use.
    slabs: usize,
    /// The first slab with free objects, plus one.
    first: u32,
}

/// A cache of objects of one size.
///
/// An object's first and last words are check words, which belong to the cache; its user has the
/// words between. Freed objects are poisoned wholly, and the poison is verified when they are
/// allocated again. Slabs are never given back, so that memory stays of its type, as with Linux's
/// `SLAB_TYPESAFE_BY_RCU`: reading an object that was freed finds poison or a successor.
#[derive(Debug)]
pub struct SlabCache {
    pages: &'static PageAllocator,
    stride: usize,
    slabs: &'static [SlabPage],
    partial: TicketLock<Partial, true, SlabList>,
    magazines: [Magazine; MAX_CPUS],
}

/// What an audit of a cache found; errors are counted by the CPU that did it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SlabAudit {
    /// Check words verified.
    pub checked: u64,
    /// Objects in use.
    pub live: u64,
}

impl SlabCache {
    /// An empty cache of objects of `size` bytes, check words included, that grows to at most
    /// `slabs.len()` pages of `pages`.
    ///
    /// # Panics
    /// If `size` is no multiple of 8 from 64 to 4096.
    #[must_use]
    pub const fn new(
        pages: &'static PageAllocator,
        size: usize,
        slabs: &'static [SlabPage],
    ) -> Self {
        assert!(size >= 64 && size <= PAGE_SIZE && size.is_multiple_of(WORD));
        Self {
            pages,
            stride: size,
            slabs,
            partial: TicketLock::new(Partial { slabs: 0, first: 0 }),
            magazines: [const { Magazine::new() }; MAX_CPUS],
        }
    }

    /// Objects that fit into one page.
    #[must_use]
    pub const fn per_page(&self) -> usize {
        PAGE_SIZE / self.stride
    }

    /// Allocates an object and returns its address. Its check words are set, its other words are
    /// poison. `None` when the cache may not grow or no page is left.
    #[must_use]
    pub fn allocate(&self, cpu: &Cpu) -> Option<usize> {
        self.try_allocate(cpu).ok()
    }

    /// As [`Self::allocate`].
    ///
    /// # Errors
    /// [`Refused::Full`] when the cache may not grow, [`Refused::Empty`] when no page is left.
    pub fn try_allocate(&self, cpu: &Cpu) -> Result<usize, Refused> {
        let address = without_bottom_halves(cpu, || {
            loop {
                if let Some(address) = self.magazines[cpu.id].pop() {
                    break Ok(address);
                }
                if !self.refill(cpu) {
                    self.grow(cpu)?;
                }
            }
        })?;
        let (slab, bit) = self.locate(address).ok_or(Refused::Empty)?;
        self.slabs[slab].cached.fetch_and(!bit, Relaxed);
        let words = self.words(address);
        record::access(cpu, address, || {
            poison::verify(cpu, words, poison::OBJECT);
            words[0].store(HEAD ^ address as u64, Relaxed);
            words[words.len() - 1].store(TAIL ^ address as u64, Relaxed);
        });
        Ok(address)
    }

    /// Frees the object at `address`. One that is free already, or whose check words are wrong, is an
    /// integrity error; the latter is freed all the same. Whether all was well.
    ///
    /// Nobody may use the object any more, but memory stays safe if somebody does: that is what the
    /// poison is to find.
    pub fn free(&self, cpu: &Cpu, address: usize) -> bool {
        let Some((slab, bit)) = self.locate(address) else {
            record::error(cpu, address, 0);
            return false;
        };
        let record = &self.slabs[slab];
        // A read-modify-write: of two that free one object, one finds the other's bit.
        let used = record.taken.load(Relaxed) & bit != 0;
        if !used || record.cached.fetch_or(bit, Relaxed) & bit != 0 {
            record::error(cpu, address, poison::OBJECT);
            return false;
        }
        let sound = record::access(cpu, address, || {
            let sound = self.verify(cpu, address);
            poison::fill(self.words(address), poison::OBJECT);
            sound
        });
        without_bottom_halves(cpu, || {
            let magazine = &self.magazines[cpu.id];
            if !magazine.has_room() {
                self.flush(cpu);
            }
            magazine.push(address);
        });
        sound
    }

    /// Verifies the check words of the object at `address`, which must be one of this cache's;
    /// whether they are right. Counts what it verified and what was wrong.
    #[inline]
    pub fn verify(&self, cpu: &Cpu, address: usize) -> bool {
        let words = self.words(address);
        let ends = [
            (&words[0], HEAD ^ address as u64),
            (&words[words.len() - 1], TAIL ^ address as u64),
        ];
        record::checked(cpu, 2);
        for (word, right) in ends {
            let found = word.load(Relaxed);
            if found != right {
                record::error(cpu, core::ptr::from_ref(word).addr(), found);
                return false;
            }
        }
        true
    }

    /// Whether an object of this cache, in use or free, begins at `address`: then its memory stays
    /// an object of this cache for ever.
    #[inline]
    #[must_use]
    pub fn owns(&self, address: usize) -> bool {
        self.locate(address).is_some()
    }

    /// Verifies every object, used or free, with no other CPU at work in the cache.
    pub fn audit(&self, cpu: &Cpu) -> SlabAudit {
        without_bottom_halves(cpu, || self.audit_slabs(cpu))
    }

    fn audit_slabs(&self, cpu: &Cpu) -> SlabAudit {
        let partial = self.partial.lock_unfair(cpu);
        let mut audit = SlabAudit::default();
        for slab in &self.slabs[..partial.slabs] {
            let page = slab.address.load(Relaxed);
            let live = slab.taken.load(Relaxed) & !slab.cached.load(Relaxed);
            record::audited(cpu);
            for object in 0..self.per_page() {
                let address = page + object * self.stride;
                if live & (1 << object) != 0 {
                    self.verify(cpu, address);
                    audit.checked += 2;
                    audit.live += 1;
                } else {
                    poison::verify(cpu, self.words(address), poison::OBJECT);
                    audit.checked += (self.stride / WORD) as u64;
                }
            }
        }
        audit
    }

    const fn full(&self) -> u64 {
        u64::MAX >> (u64::BITS as usize - self.per_page())
    }

    fn words(&self, address: usize) -> &'static [AtomicU64] {
        debug_assert!(
            self.owns(address),
            "{address:#x} is no object of this cache"
        );
        // SAFETY: an object of this cache: slabs are never given back, and used as atomics only.
        unsafe { poison::words(address, self.stride) }
    }

    /// The slab that the object at `address` is in, and its bit there.
    #[inline]
    fn locate(&self, address: usize) -> Option<(usize, u64)> {
        let page = address & !(PAGE_SIZE - 1);
        let slab = self.pages.owner(page)? as usize;
        // Pairs with the release in `grow`: who finds the slab finds it filled with poison. At 0 there
        // is none, but that is what a record says that has no slab yet.
        if page == 0 || self.slabs.get(slab)?.address.load(Acquire) != page {
            return None;
        }
        let offset = address - page;
        let object = offset / self.stride;
        (offset.is_multiple_of(self.stride) && object < self.per_page())
            .then_some((slab, 1 << object))
    }

    /// Fills half of this CPU's magazine, which is empty; whether there was an object for it.
    fn refill(&self, cpu: &Cpu) -> bool {
        let mut partial = self.partial.lock_unfair(cpu);
        (0..HALF)
            .map_while(|_| self.take(&mut partial))
            .map(|address| self.magazines[cpu.id].push(address))
            .count()
            > 0
    }

    /// Takes a free object out of its slab.
    fn take(&self, partial: &mut Partial) -> Option<usize> {
        let slab = self.slabs.get((partial.first as usize).checked_sub(1)?)?;
        let taken = slab.taken.load(Relaxed);
        let object = taken.trailing_ones() as usize;
        slab.cached.fetch_or(1 << object, Relaxed);
        slab.taken.store(taken | 1 << object, Relaxed);
        if taken | 1 << object == self.full() {
            partial.first = slab.next.load(Relaxed);
        }
        Some(slab.address.load(Relaxed) + object * self.stride)
    }

    /// Gives half of this CPU's magazine, which is full, back to the slabs.
    fn flush(&self, cpu: &Cpu) {
        let mut partial = self.partial.lock_unfair(cpu);
        for _ in 0..HALF {
            let object = self.magazines[cpu.id].pop();
            let Some((slab, bit)) = object.and_then(|address| self.locate(address)) else {
                return;
            };
            let record = &self.slabs[slab];
            let taken = record.taken.load(Relaxed);
            if taken == self.full() {
                record.next.store(partial.first, Relaxed);
                partial.first = slab as u32 + 1;
            }
            record.taken.store(taken & !bit, Relaxed);
            record.cached.fetch_and(!bit, Relaxed);
        }
    }

    /// Adds a slab.
    fn grow(&self, cpu: &Cpu) -> Result<(), Refused> {
        let byte = PageByte::new(PageKind::Slab, false);
        let page = self.pages.allocate(cpu, 0, byte).ok_or(Refused::Empty)?;
        // SAFETY: just allocated, and never given back once it is a slab.
        let words = unsafe { poison::words(page, PAGE_SIZE) };
        record::access(cpu, page, || poison::fill(words, poison::OBJECT));
        let mut partial = self.partial.lock_unfair(cpu);
        let index = partial.slabs;
        let Some(slab) = self.slabs.get(index) else {
            drop(partial);
            // SAFETY: it never became a slab.
            unsafe { self.pages.free(cpu, page, 0) };
            return Err(Refused::Full);
        };
        self.pages.set_owner(page, index as u32);
        slab.address.store(page, Release);
        slab.next.store(partial.first, Relaxed);
        partial.first = index as u32 + 1;
        partial.slabs += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
