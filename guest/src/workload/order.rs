//! The workload `lock-order`: the locks of the cycle that speculative page faults ran into
//! (`i_mmap_rwsem → vm_sequence → vm_sequence/1 → fs_reclaim → i_mmap_rwsem`), in the right order
//! and in the wrong one.
//!
//! Each space has two areas with a sequence count each. A thread moves what one area holds to the
//! other, as `mremap` does, with both counts odd; for that it allocates, and an allocation may
//! reclaim, which takes the reverse map's lock. Other threads look at the areas under that lock. In
//! the right form the allocation comes before the counts turn odd.

use super::audit::Audit;
use super::plan::{Seat, Workload, is_over};
use crate::mm::{PageAllocator, ZeroValid};
use crate::random::Random;
use crate::record::{self, Span, access};
use crate::sched::Priority;
use crate::sync::{RwSemaphore, SeqCount, lockdep};
use crate::{Cpu, lock_class};
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use underfoot_abi::{MAX_CPUS, Metric, PageByte, PageKind, Variant};

/// Parameters, in the order of the contract.
const READER: usize = 0;
const RECLAIM_EVERY: usize = 1;
/// Counters, in the order of the contract.
const RECLAIMS: usize = 1;
const ABORTED: usize = 2;
const SPLITS: usize = 3;

/// Looks for each split.
const SPLIT_EVERY: usize = 32;

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
        let byte = PageByte::new(PageKind::Data, false);
        let areas: &[Area] = pages.zeroed_slice(cpu, 2 * header.cpus as usize, byte)?;
        let (pairs, _) = areas.as_chunks::<2>();
        pairs
            .iter()
            .for_each(|[first, _]| first.holds.store(TOTAL, Relaxed));
        lockdep::enable();
        Some(Self {
            spaces: [const { RwSemaphore::new(()) }; MAX_CPUS],
            file: RwSemaphore::new(()),
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

    /// An allocation that finds too little and reclaims: what is mapped is looked up by the reverse
    /// map.
    fn reclaim(&self, cpu: &Cpu) {
        let _reclaim = lockdep::enter::<lockdep::Reclaim>(cpu);
        let _file = self.file.write(cpu);
        record::count(cpu, RECLAIMS, 1);
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

    /// Looks at both areas of a space under the reverse map's lock.
    fn look(&self, cpu: &Cpu, space: usize) {
        let _file = self.file.read(cpu);
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
                    _ => self.look(cpu, space),
                }
            }
            span.finish(cpu, Metric::Operation);
            // Sleepers that were woken have their turn.
            cpu.sched.yield_now(cpu);
        }
    }

    unsafe fn audit(&self, cpu: &Cpu) -> Audit {
        let before = cpu.area.errors.load(Relaxed);
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
