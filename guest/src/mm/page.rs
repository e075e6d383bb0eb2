//! The page allocator: binary buddies, with every change of kind published in the page map.

use super::{
    frame::{Frame, FreeList},
    magazine::{HALF, Magazine},
    poison, without_bottom_halves,
};
use crate::{Cpu, record, sync::TicketLock};
use core::{
    ops::Range,
    sync::atomic::{AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed},
};
use underfoot_abi::{MAX_CPUS, PAGE_SIZE, PageByte, PageKind};

mod mapping;

pub use mapping::Mapping;

/// The greatest order: blocks of 2^9 pages, 2 MiB.
pub const MAX_ORDER: usize = 9;

const SHIFT: u32 = PAGE_SIZE.trailing_zeros();

/// Types for which all zeroes is a valid value, that other CPUs may share, and that need no drop.
///
/// # Safety
/// All of that is true of the type.
pub unsafe trait ZeroValid: Sync {}

// SAFETY: an integer.
unsafe impl ZeroValid for AtomicU8 {}
// SAFETY: an integer.
unsafe impl ZeroValid for AtomicU32 {}
// SAFETY: an integer.
unsafe impl ZeroValid for AtomicU64 {}
// SAFETY: an integer.
unsafe impl ZeroValid for AtomicUsize {}
// SAFETY: integers.
unsafe impl ZeroValid for Frame {}

crate::lock_class!(
    /// Of the free lists.
    PageLists = "page_lists"
);

#[derive(Debug)]
struct Lists {
    by_order: [FreeList; MAX_ORDER + 1],
    free_pages: usize,
}

/// A single page, taken.
struct Taken {
    index: usize,
    /// Pages that the free lists kept, if it came from them.
    kept: Option<usize>,
}

/// A page allocator over the frames that it was given; addresses are physical and virtual at once.
///
/// Freed pages are filled with poison, which is verified when they are allocated again: a page that
/// was written after it was freed is an integrity error. Pages that were never allocated hold no
/// poison and cost nothing until then. Allocation never sleeps, and fails when no block is left.
#[derive(Debug)]
pub struct PageAllocator {
    base: usize,
    frames: &'static [Frame],
    map: &'static [AtomicU8],
    lists: TicketLock<Lists, true, PageLists>,
    /// [`Lists::free_pages`] as of the last change, for those who cannot wait for the lock.
    free_estimate: AtomicUsize,
    /// Single free pages that CPUs keep for themselves, by index.
    magazines: [Magazine; MAX_CPUS],
}

impl PageAllocator {
    /// An allocator that owns no memory yet. `frames` and `map` begin with the frame at the address
    /// `base`, a multiple of 2 MiB (0 in the guest), and are equally long.
    ///
    /// # Panics
    /// If `base` is not aligned, the lengths differ, or there are 2^32 frames or more.
    #[must_use]
    pub const fn new(base: usize, frames: &'static [Frame], map: &'static [AtomicU8]) -> Self {
        assert!(base.is_multiple_of(PAGE_SIZE << MAX_ORDER));
        assert!(frames.len() == map.len() && frames.len() < u32::MAX as usize);
        let mut by_order = [const { FreeList::new(0) }; MAX_ORDER + 1];
        let mut order = 1;
        while order <= MAX_ORDER {
            by_order[order] = FreeList::new(order);
            order += 1;
        }
        Self {
            base,
            frames,
            map,
            lists: TicketLock::new(Lists {
                by_order,
                free_pages: 0,
            }),
            free_estimate: AtomicUsize::new(0),
            magazines: [const { Magazine::new() }; MAX_CPUS],
        }
    }

    /// Gives the allocator the whole pages inside `range` of addresses.
    ///
    /// # Safety
    /// The memory is RAM, mapped writable at its address for ever, used by nobody else, and not
    /// given before.
    ///
    /// # Panics
    /// If `range` is not covered by the frame records.
    pub unsafe fn add(&self, cpu: &Cpu, range: Range<usize>) {
        let mut index = (range.start.next_multiple_of(PAGE_SIZE) - self.base) >> SHIFT;
        let end = (range.end - self.base) >> SHIFT;
        assert!(end <= self.frames.len(), "no records for {range:x?}");
        while index < end {
            let order = (index.trailing_zeros().min((end - index).ilog2()) as usize).min(MAX_ORDER);
            self.publish(index, order, PageByte::new(PageKind::Free, false));
            self.frames[index].set_allocated(order);
            without_bottom_halves(cpu, || {
                self.link(&mut self.lists.lock_unfair(cpu), index, order);
            });
            index += 1 << order;
        }
    }

    /// Allocates 2^`order` pages, aligned to their size, and publishes them as `byte`. Their content
    /// is arbitrary. `None` if no block is large enough.
    #[must_use]
    pub fn allocate(&self, cpu: &Cpu, order: usize, byte: PageByte) -> Option<usize> {
        let index = without_bottom_halves(cpu, || match order {
            0 => self.take_one(cpu, 0).map(|taken| taken.index),
            _ => self.take(&mut self.lists.lock_unfair(cpu), order),
        })?;
        Some(self.give_out(cpu, index, order, byte))
    }

    /// As [`Self::allocate`] of one page, for which the free lists must keep `least` pages; also how
    /// many they kept, if it came from them and not from those that this CPU has.
    pub(super) fn allocate_above(
        &self,
        cpu: &Cpu,
        byte: PageByte,
        least: usize,
    ) -> Option<(usize, Option<usize>)> {
        let taken = without_bottom_halves(cpu, || self.take_one(cpu, least))?;
        Some((self.give_out(cpu, taken.index, 0, byte), taken.kept))
    }

    /// Publishes a block that was taken, and verifies its poison.
    fn give_out(&self, cpu: &Cpu, index: usize, order: usize, byte: PageByte) -> usize {
        self.publish(index, order, byte);
        // Outside of the lock: any of these pages may be in flight.
        for page in index..index + (1 << order) {
            if self.frames[page].take_poisoned() {
                let address = self.address(page);
                record::access(cpu, address, || {
                    poison::verify(cpu, self.words(page, 0), poison::PAGE)
                });
            }
        }
        self.address(index)
    }

    /// As [`Self::allocate`], filled with zeroes.
    #[must_use]
    pub fn allocate_zeroed(&self, cpu: &Cpu, order: usize, byte: PageByte) -> Option<usize> {
        let address = self.allocate(cpu, order, byte)?;
        poison::fill(self.words(self.index(address), order), 0);
        Some(address)
    }

    /// Frees the block of 2^`order` pages at `address`. One that is not allocated, or not of that
    /// order, is an integrity error and stays as it is.
    ///
    /// # Safety
    /// Nobody uses the block any more.
    pub unsafe fn free(&self, cpu: &Cpu, address: usize, order: usize) {
        if !self.is_block(address, order) {
            record::error(cpu, address, order as u64);
            return;
        }
        let index = self.index(address);
        for page in index..index + (1 << order) {
            record::access(cpu, self.address(page), || {
                poison::fill(self.words(page, 0), poison::PAGE);
            });
            self.frames[page].set_poisoned();
        }
        // Before it is linked: its next owner publishes after that.
        self.publish(index, order, PageByte::new(PageKind::Free, false));
        without_bottom_halves(cpu, || match order {
            0 => self.put_one(cpu, index),
            _ => self.link(&mut self.lists.lock_unfair(cpu), index, order),
        });
    }

    /// A slice of `len` zeroed values in pages published as `byte`, never freed. `None` if no block
    /// is large enough.
    ///
    /// # Panics
    /// If the type is aligned to more than a page.
    #[must_use]
    pub fn zeroed_slice<T: ZeroValid>(
        &self,
        cpu: &Cpu,
        len: usize,
        byte: PageByte,
    ) -> Option<&'static [T]> {
        assert!(align_of::<T>() <= PAGE_SIZE);
        let order = order_of(len * size_of::<T>())?;
        let address = self.allocate_zeroed(cpu, order, byte)?;
        // SAFETY: the block is ours for ever, long and aligned enough, and zeroes are a valid `T`.
        Some(unsafe {
            core::slice::from_raw_parts(core::ptr::with_exposed_provenance(address), len)
        })
    }

    /// Moves `value` into pages published as `byte`, never freed. `None` if no block is large enough.
    ///
    /// # Panics
    /// If the type is aligned to more than a page.
    #[must_use]
    pub fn place<T: Sync>(&self, cpu: &Cpu, byte: PageByte, value: T) -> Option<&'static T> {
        assert!(align_of::<T>() <= PAGE_SIZE);
        let address = self.allocate(cpu, order_of(size_of::<T>())?, byte)?;
        let place = core::ptr::with_exposed_provenance_mut::<T>(address);
        // SAFETY: the block is ours for ever, long and aligned enough, and nobody else knows it.
        unsafe {
            place.write(value);
            Some(&*place)
        }
    }

    /// Pages that are free at the moment.
    #[must_use]
    pub fn free_pages(&self, cpu: &Cpu) -> usize {
        let kept: usize = self.magazines.iter().map(Magazine::len).sum();
        let listed = without_bottom_halves(cpu, || self.lists.lock_unfair(cpu).free_pages);
        listed + kept
    }

    /// Pages that are free at the moment, but for the few that CPUs keep for themselves. Takes no
    /// lock.
    #[inline]
    #[must_use]
    pub fn free_estimate(&self) -> usize {
        self.free_estimate.load(Relaxed)
    }

    /// What the page map says of the page at `address`; of one that it does not cover, reserved.
    #[must_use]
    pub fn kind(&self, address: usize) -> PageByte {
        let index = address.wrapping_sub(self.base) >> SHIFT;
        self.map
            .get(index)
            .map_or(PageByte::new(PageKind::Reserved, false), |byte| {
                PageByte(byte.load(Relaxed))
            })
    }

    /// Publishes other contents of the allocated block at `address`.
    ///
    /// # Panics
    /// If the block does not lie in the page map.
    pub fn set_kind(&self, address: usize, order: usize, byte: PageByte) {
        self.publish(self.index(address), order, byte);
    }

    /// The addresses that the frame records cover, holes included.
    #[must_use]
    pub fn covers(&self) -> Range<usize> {
        self.base..self.base + (self.frames.len() << SHIFT)
    }

    /// Verifies the poison of every free page, with no other CPU allocating or freeing; the check
    /// words verified. What is wrong is counted as this CPU's errors.
    pub fn audit(&self, cpu: &Cpu) -> u64 {
        without_bottom_halves(cpu, || self.audit_free(cpu))
    }

    fn audit_free(&self, cpu: &Cpu) -> u64 {
        let mut lists = self.lists.lock_unfair(cpu);
        for magazine in &self.magazines {
            while let Some(index) = magazine.pop() {
                self.link(&mut lists, index, 0);
            }
        }
        let mut checked = 0;
        let mut index = 0;
        while index < self.frames.len() {
            let Some(order) = self.frames[index].free_order() else {
                index += 1;
                continue;
            };
            for page in index..index + (1 << order) {
                if self.frames[page].is_poisoned() {
                    let words = self.words(page, 0);
                    poison::verify(cpu, words, poison::PAGE);
                    checked += words.len() as u64;
                }
            }
            record::audited(cpu);
            index += 1 << order;
        }
        checked
    }

    /// What the owner of the page at `address` wrote with [`Self::set_owner`].
    pub(super) fn owner(&self, address: usize) -> Option<u32> {
        let index = address.wrapping_sub(self.base) >> SHIFT;
        self.frames.get(index).map(Frame::owner)
    }

    pub(super) fn set_owner(&self, address: usize, owner: u32) {
        self.frames[self.index(address)].set_owner(owner);
    }

    fn is_block(&self, address: usize, order: usize) -> bool {
        order <= MAX_ORDER
            && self.covers().contains(&address)
            && address.is_multiple_of(PAGE_SIZE)
            && self.frames[self.index(address)].is_allocated(order)
    }

    fn index(&self, address: usize) -> usize {
        (address - self.base) >> SHIFT
    }

    fn address(&self, index: usize) -> usize {
        self.base + (index << SHIFT)
    }

    fn words(&self, index: usize, order: usize) -> &'static [AtomicU64] {
        // SAFETY: only called for frames inside blocks, which `add` was promised to be mapped RAM.
        unsafe { poison::words(self.address(index), PAGE_SIZE << order) }
    }

    fn publish(&self, index: usize, order: usize, byte: PageByte) {
        for entry in &self.map[index..index + (1 << order)] {
            entry.store(byte.0, Relaxed);
        }
    }

    /// Takes a single page, from this CPU's own if there is one, else from the lists, which keep
    /// `least` pages.
    fn take_one(&self, cpu: &Cpu, least: usize) -> Option<Taken> {
        let magazine = &self.magazines[cpu.id];
        let mut kept = None;
        if magazine.is_empty() {
            let mut lists = self.lists.lock_unfair(cpu);
            for _ in 0..HALF {
                if lists.free_pages <= least {
                    break;
                }
                let Some(index) = self.take(&mut lists, 0) else {
                    break;
                };
                // Free as far as anybody can see: to free it now is an error.
                self.frames[index].clear_head();
                magazine.push(index);
            }
            kept = Some(lists.free_pages);
        }
        let index = magazine.pop()?;
        self.frames[index].set_allocated(0);
        Some(Taken { index, kept })
    }

    /// Keeps a single page for this CPU.
    fn put_one(&self, cpu: &Cpu, index: usize) {
        let magazine = &self.magazines[cpu.id];
        if !magazine.has_room() {
            let mut lists = self.lists.lock_unfair(cpu);
            for index in (0..HALF).map_while(|_| magazine.pop()) {
                self.link(&mut lists, index, 0);
            }
        }
        self.frames[index].clear_head();
        magazine.push(index);
    }

    fn take(&self, lists: &mut Lists, order: usize) -> Option<usize> {
        let (index, found) = (order..=MAX_ORDER).find_map(|at| {
            let index = lists.by_order[at].pop(self.frames)?;
            Some((index, at))
        })?;
        // The upper halves go back, from the largest down.
        for half in (order..found).rev() {
            lists.by_order[half].push(self.frames, index + (1 << half));
        }
        self.frames[index].set_allocated(order);
        lists.free_pages -= 1 << order;
        self.free_estimate.store(lists.free_pages, Relaxed);
        Some(index)
    }

    fn link(&self, lists: &mut Lists, mut index: usize, mut order: usize) {
        self.frames[index].clear_head();
        lists.free_pages += 1 << order;
        self.free_estimate.store(lists.free_pages, Relaxed);
        while order < MAX_ORDER {
            let buddy = index ^ (1 << order);
            if !self.frames.get(buddy).is_some_and(|b| b.is_free(order)) {
                break;
            }
            lists.by_order[order].remove(self.frames, buddy);
            index &= buddy;
            order += 1;
        }
        lists.by_order[order].push(self.frames, index);
    }
}

/// The order of a block of at least `bytes`, if there is one.
fn order_of(bytes: usize) -> Option<usize> {
    let order = bytes.div_ceil(PAGE_SIZE).next_power_of_two().ilog2() as usize;
    (order <= MAX_ORDER).then_some(order)
}

#[cfg(test)]
mod tests;
