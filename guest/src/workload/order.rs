//! The workload `lock-order`: the locks of the cycle that speculative page faults ran into
//! (`i_mmap_rwsem → vm_sequence → vm_sequence/1 → fs_reclaim → i_mmap_rwsem`), in the right order
//! and in the wrong one.
//!
//! Each space has two areas with a sequence count each. A thread moves what one area holds to the
//! other, as `mremap` does, with both counts odd; for that it allocates, and an allocation may
//! reclaim, which takes the reverse map's lock and frees the file's pages that are in memory. Other
//! threads look at the areas under that lock, and at the file's pages, which they bring in again. In
//! the right form the allocation comes before the counts turn odd.

use super::audit::Audit;
use super::page_words;
use super::plan::{Seat, Workload, is_over};
use crate::mm::{PageAllocator, ZeroValid};
use crate::random::Random;
use crate::record::{self, Span, access};
use crate::sched::Priority;
use crate::sync::{RwSemaphore, SeqCount, lockdep};
use crate::{Cpu, lock_class};
use core::sync::atomic::{
    AtomicU64, AtomicUsize,
    Ordering::{Acquire, Relaxed, Release},
};
use underfoot_abi::{MAX_CPUS, Metric, PageByte, PageKind, Variant};

/// Parameters, in the order of the contract.
const READER: usize = 0;
const RECLAIM_EVERY: usize = 1;
/// Counters, in the order of the contract.
const RECLAIMS: usize = 1;
const ABORTED: usize = 2;
const SPLITS: usize = 3;
const FREED: usize = 4;

/// Looks for each split.
const SPLIT_EVERY: usize = 32;

/// Pages of the file.
const FILE: usize = 16;
const BYTE: PageByte = PageByte::new(PageKind::Data, false);

/// What both areas of a space hold together.
const TOTAL: u64 = 1_000_000;

lock_class!(MmapLock = "mmap_lock");
lock_class!(IMmap = "i_mmap_rwsem");
lock_class!(VmSequence = "vm_sequence");

/// One area; alone in its page, so that it moves by itself.
#[repr(C, align(4096))]
struct Area {
    sequence: SeqCount,
    holds: AtomicU64,
}

// SAFETY: atomics, for which zero is valid.
unsafe impl ZeroValid for Area {}

/// The locks and the areas.
pub struct Order {
    spaces: [RwSemaphore<(), MmapLock>; MAX_CPUS],
    /// The reverse map's.
    file: RwSemaphore<(), IMmap>,
    /// Its pages that are in memory, by their place; 0 where there is none. They come with the reverse
    /// map's lock held to read, and go with it held to write.
    cached: [AtomicUsize; FILE],
    pages: &'static PageAllocator,
    /// Two for each space.
    areas: &'static [Area],
    /// Whether readers wait for a writer to leave, or give up.
    waits: bool,
    reclaim_every: usize,
    /// [`Variant::LockOrder`]: allocations come while the counts are odd.
    inside: bool,
    seed: u64,
}

impl Order {
    /// Takes its pages, and has the lock-order checker look. `None` if there are not enough.
    #[must_use]
    pub fn build(cpu: &Cpu, pages: &'static PageAllocator) -> Option<Self> {
        let header = cpu.header;
        let areas: &[Area] = pages.zeroed_slice(cpu, 2 * header.cpus as usize, BYTE)?;
        let (pairs, _) = areas.as_chunks::<2>();
        pairs
            .iter()
            .for_each(|[first, _]| first.holds.store(TOTAL, Relaxed));
        lockdep::enable();
        Some(Self {
            spaces: [const { RwSemaphore::new(()) }; MAX_CPUS],
            file: RwSemaphore::new(()),
            cached: [const { AtomicUsize::new(0) }; FILE],
            pages,
            areas,
            waits: header.parameters[READER] != 0,
            reclaim_every: header.parameters[RECLAIM_EVERY] as usize,
            inside: header.variant == Variant::LockOrder as u32,
            seed: header.seed,
        })
    }

    fn pair(&self, space: usize) -> &[Area; 2] {
        &self.areas.as_chunks::<2>().0[space]
    }

    /// An allocation that finds too little and reclaims: the file's pages are looked up by the reverse
    /// map, and freed.
    fn reclaim(&self, cpu: &Cpu) {
        let _reclaim = lockdep::enter::<lockdep::Reclaim>(cpu);
        let _file = self.file.write(cpu);
        record::count(cpu, FREED, self.drop_cached(cpu));
        record::count(cpu, RECLAIMS, 1);
    }

    /// Frees the file's pages; how many. With nobody looking at them.
    fn drop_cached(&self, cpu: &Cpu) -> u64 {
        let mut freed = 0;
        for place in &self.cached {
            // Relaxed: the lock is held, or nobody else is at work.
            let page = place.load(Relaxed);
            if page == 0 {
                continue;
            }
            place.store(0, Relaxed);
            page_words::verify(cpu, page);
            // SAFETY: `look_up` allocated it, and nobody finds it any more.
            unsafe { self.pages.free(cpu, page, 0) };
            freed += 1;
        }
        freed
    }

    /// Looks at a page of the file, which it brings in if it is not there. With the reverse map's lock held.
    fn look_up(&self, cpu: &Cpu, place: usize) {
        let place = &self.cached[place];
        // Pairs with the release below: who finds the page finds it written.
        let page = place.load(Acquire);
        if page != 0 {
            page_words::verify(cpu, page);
            return;
        }
        // Without memory it stays away.
        let Some(page) = self.pages.allocate(cpu, 0, BYTE) else {
            return;
        };
        page_words::write(cpu, page);
        if place.compare_exchange(0, page, Release, Relaxed).is_err() {
            // SAFETY: just allocated, and nobody else knows it: another one was faster.
            unsafe { self.pages.free(cpu, page, 0) };
        }
    }

    /// Moves some of what one area holds to the other.
    fn remap(&self, cpu: &Cpu, space: usize, random: &mut Random) {
        let _space = self.spaces[space].write(cpu);
        let short = random.below(self.reclaim_every) == 0;
        if short && !self.inside {
            self.reclaim(cpu);
        }
        let [from, to] = self.pair(space);
        from.sequence.write_begin_classed::<VmSequence>(cpu, 0);
        to.sequence.write_begin_classed::<VmSequence>(cpu, 1);
        let part = random.below(1000) as u64;
        shift(cpu, from, part.wrapping_neg());
        if short && self.inside {
            self.reclaim(cpu);
        }
        shift(cpu, to, part);
        to.sequence.write_end_classed::<VmSequence>(cpu);
        from.sequence.write_end_classed::<VmSequence>(cpu);
        record::operation(cpu);
    }

    /// Cuts an area in two and joins it again, as a split does: under the reverse map's lock, its
    /// count odd. Nothing waits in there.
    fn split(&self, cpu: &Cpu, space: usize) {
        let _space = self.spaces[space].write(cpu);
        let _file = self.file.write(cpu);
        let [area, _] = self.pair(space);
        area.sequence.write_begin_classed::<VmSequence>(cpu, 0);
        shift(cpu, area, 1);
        shift(cpu, area, 1u64.wrapping_neg());
        area.sequence.write_end_classed::<VmSequence>(cpu);
        record::count(cpu, SPLITS, 1);
        record::operation(cpu);
    }

    /// Looks at a page of the file, and at both areas of a space, under the reverse map's lock.
    fn look(&self, cpu: &Cpu, space: usize, place: usize) {
        let _file = self.file.read(cpu);
        self.look_up(cpu, place);
        let [first, second] = self.pair(space);
        let begin = |area: &Area| {
            if self.waits {
                area.sequence.read_begin_classed::<VmSequence>(cpu)
            } else {
                area.sequence.read_begin_raw()
            }
        };
        let (a, b) = (begin(first), begin(second));
        let sum = look_at(cpu, first).wrapping_add(look_at(cpu, second));
        if first.sequence.read_retry(a) || second.sequence.read_retry(b) {
            record::count(cpu, ABORTED, 1);
            return;
        }
        verify(cpu, first, sum);
        record::operation(cpu);
    }
}

fn shift(cpu: &Cpu, area: &Area, by: u64) {
    let address = core::ptr::from_ref(&area.holds).addr();
    access(cpu, address, || {
        let holds = area.holds.load(Relaxed);
        area.holds.store(holds.wrapping_add(by), Relaxed);
    });
}

fn look_at(cpu: &Cpu, area: &Area) -> u64 {
    let address = core::ptr::from_ref(&area.holds).addr();
    access(cpu, address, || area.holds.load(Relaxed))
}

fn verify(cpu: &Cpu, area: &Area, sum: u64) {
    record::checked(cpu, 1);
    if sum != TOTAL {
        record::error(cpu, core::ptr::from_ref(area).addr(), sum);
    }
}

/// On each CPU one thread that remaps a space of its own, and one that looks at all of them.
impl Workload for Order {
    fn threads(&self, cpus: usize) -> usize {
        2 * cpus
    }

    fn seat(&self, number: usize, cpus: usize) -> Seat {
        Seat {
            // A reader stands on another CPU than the remapper of the same number.
            cpu: (number + number / cpus) % cpus,
            priority: Priority::NORMAL,
        }
    }

    fn run(&self, cpu: &'static Cpu, number: usize) {
        let cpus = cpu.header.cpus as usize;
        let mut random = Random::new(self.seed, number as u64);
        while !is_over(cpu) {
            let span = Span::start(cpu);
            if number < cpus {
                self.remap(cpu, number, &mut random);
            } else {
                let space = random.below(cpus);
                match random.below(SPLIT_EVERY) {
                    0 => self.split(cpu, space),
                    _ => self.look(cpu, space, random.below(FILE)),
                }
            }
            span.finish(cpu, Metric::Operation);
            // Sleepers that were woken have their turn.
            cpu.sched.yield_now(cpu);
        }
    }

    unsafe fn audit(&self, cpu: &Cpu) -> Audit {
        let before = cpu.area.errors.load(Relaxed);
        self.drop_cached(cpu);
        let (pairs, _) = self.areas.as_chunks::<2>();
        for [first, second] in pairs {
            let sum = first
                .holds
                .load(Relaxed)
                .wrapping_add(second.holds.load(Relaxed));
            verify(cpu, first, sum);
        }
        Audit {
            checked: pairs.len() as u64,
            errors: cpu.area.errors.load(Relaxed) - before,
            updates: 0,
        }
    }
}

#[cfg(test)]
mod tests;
