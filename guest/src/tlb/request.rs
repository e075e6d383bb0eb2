//! What one CPU asks of others: a slot per initiator.

use super::batch::{Batch, PageRange, RANGES};
use crate::{
    Cpu,
    sync::{
        Backoff, Sleepers,
        atomic::{
            AtomicU32, AtomicU64, AtomicUsize,
            Ordering::{AcqRel, Acquire, Relaxed, Release},
            const_fn,
        },
    },
};
use underfoot_abi::Wait;

/// What is to be flushed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Order {
    /// [`Space::address`](super::Space).
    pub space: usize,
    /// The change that makes it needed.
    pub generation: u64,
    pub what: What,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum What {
    /// Up to the first range of no pages.
    Ranges([PageRange; RANGES]),
    All,
    /// Everything, and the space is not to be used any more.
    Leave,
}

impl What {
    pub(super) fn of(batch: &Batch) -> Self {
        // Freed tables are in the caches of inner entries too, which a full flush drops for sure.
        if batch.is_all() || batch.has_freed_tables() {
            return Self::All;
        }
        let mut ranges = [PageRange::default(); RANGES];
        ranges[..batch.ranges().len()].copy_from_slice(batch.ranges());
        Self::Ranges(ranges)
    }
}

/// No page begins there with so many pages.
const ALL: u64 = u64::MAX;
const LEAVE: u64 = u64::MAX - 1;

/// The slot. Its owner writes it between two requests; targets read it while their bit is pending.
#[derive(Debug)]
pub(super) struct Request {
    space: AtomicUsize,
    generation: AtomicU64,
    ranges: [AtomicU64; RANGES],
    /// Who has still to answer.
    pending: AtomicU64,
    /// Who answered last, plus one; 0 while somebody has yet to.
    last: AtomicU32,
    sleepers: Sleepers,
}

impl Request {
    #[cfg(not(loom))]
    pub(super) const fn new() -> Self {
        Self::with([const { AtomicU64::new(0) }; RANGES])
    }

    #[cfg(loom)]
    pub(super) fn new() -> Self {
        Self::with(core::array::from_fn(|_| AtomicU64::new(0)))
    }

    const_fn! {
        fn with(ranges: [AtomicU64; RANGES]) -> Self {
            Self {
                space: AtomicUsize::new(0),
                generation: AtomicU64::new(0),
                ranges,
                pending: AtomicU64::new(0),
                last: AtomicU32::new(0),
                sleepers: Sleepers::new(),
            }
        }
    }

    /// Fills the slot. What hands it to the targets must be a release.
    pub(super) fn fill(&self, order: &Order, targets: u64) {
        self.space.store(order.space, Relaxed);
        self.generation.store(order.generation, Relaxed);
        match order.what {
            What::All => self.ranges[0].store(ALL, Relaxed),
            What::Leave => self.ranges[0].store(LEAVE, Relaxed),
            What::Ranges(ranges) => {
                for (place, range) in self.ranges.iter().zip(ranges) {
                    place.store(range.pack(), Relaxed);
                }
            }
        }
        self.last.store(0, Relaxed);
        self.pending.store(targets, Relaxed);
    }

    pub(super) fn read(&self) -> Order {
        Order {
            space: self.space.load(Relaxed),
            generation: self.generation.load(Relaxed),
            what: match self.ranges[0].load(Relaxed) {
                ALL => What::All,
                LEAVE => What::Leave,
                _ => What::Ranges(core::array::from_fn(|index| {
                    PageRange::unpack(self.ranges[index].load(Relaxed))
                })),
            },
        }
    }

    /// `cpu` has flushed; whether it was the last that had to.
    pub(super) fn acknowledge(&self, cpu: &Cpu) -> bool {
        let me = 1 << cpu.id;
        // Acquire and release: whoever takes the last bit has all others' accesses behind it, and
        // passes them on.
        if self.pending.fetch_and(!me, AcqRel) != me {
            return false;
        }
        // Pairs with the acquire in `wait`. From here on the slot belongs to its owner again.
        self.last.store(cpu.id as u32 + 1, Release);
        self.sleepers.kick(cpu);
        true
    }

    /// Waits for the last answer; who gave it. `poll` answers other initiators meanwhile.
    pub(super) fn wait(&self, cpu: &Cpu, poll: impl Fn()) -> usize {
        let mut backoff = Backoff::new();
        loop {
            // Pairs with the release in `acknowledge`.
            let last = self.last.load(Acquire);
            if last != 0 {
                cpu.waits_for(Wait::None, 0);
                return last as usize - 1;
            }
            let pending = self.pending.load(Relaxed);
            cpu.waits_for(Wait::Ipi, pending.trailing_zeros());
            poll();
            backoff.pause_among(cpu, Some(&self.sleepers), || self.last.load(Relaxed) != 0);
        }
    }
}
