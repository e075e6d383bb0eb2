//! Sleepable RCU: readers may sleep, and each domain waits for its own only.
//!
//! What is taken from Linux (kernel/rcu/srcutree.c and srcu.h, and Paul McKenney's and Lai
//! Jiangshan's comments there): readers count themselves in and out under one of two indices, on
//! their CPU; a grace period waits until nobody is left under the index that is not in use, flips
//! the index, and waits for the other one. The first wait is for a reader that took its index before
//! an earlier flip and counted itself in after it.

use super::{
    CPUS, RcuKind, RcuStall, TicketLock,
    callbacks::{Callbacks, GracePeriods},
    sequence::{Culprits, Sequence},
};
use crate::{
    Cpu,
    record::Span,
    sync::atomic::{
        AtomicU64,
        Ordering::{Relaxed, SeqCst},
        const_fn, fence,
    },
};
use underfoot_abi::{Metric, Variant};

/// Between two looks at the readers, unless somebody is in a hurry: to the next tick.
const PAUSE_NS: u64 = 1;

/// One CPU's readers, counted in and out by index. A CPU's line of its own.
#[repr(align(64))]
struct Counts {
    locks: [AtomicU64; 2],
    unlocks: [AtomicU64; 2],
}

impl Counts {
    const_fn! {
        fn new() -> Self {
            Self {
                locks: [AtomicU64::new(0), AtomicU64::new(0)],
                unlocks: [AtomicU64::new(0), AtomicU64::new(0)],
            }
        }
    }
}

/// How far the grace period in progress is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// There is none.
    Idle,
    /// It waits for readers of the index that is not in use.
    First,
    /// The index is flipped; it waits for readers of the one that was in use.
    Second,
}

crate::lock_class!(
    /// Of a domain's [`Stage`].
    StageLock = "srcu_stage"
);

/// A domain of sleepable RCU, with its readers, grace periods and callbacks.
pub struct SrcuDomain {
    sequence: Sequence,
    /// Its lowest bit is what new readers count under.
    index: AtomicU64,
    counts: [Counts; CPUS],
    /// Held with interrupts masked, and only if it is free: one CPU moves a grace period on.
    stage: TicketLock<Stage, false, StageLock>,
    pub(super) callbacks: Callbacks,
}

impl SrcuDomain {
    const_fn! {
        /// A domain without readers. A grace period older than `stall_timeout_ns` is told to
        /// `report`, once, in the tick of the CPU that finds it.
        #[must_use]
        pub fn new(stall_timeout_ns: u64, report: fn(&Cpu, &RcuStall)) -> Self {
            Self {
                sequence: Sequence::new(RcuKind::Sleepable, stall_timeout_ns, report),
                index: AtomicU64::new(0),
                #[cfg(not(loom))]
                counts: [const { Counts::new() }; CPUS],
                #[cfg(loom)]
                counts: core::array::from_fn(|_| Counts::new()),
                stage: TicketLock::new(Stage::Idle),
                callbacks: Callbacks::new(),
            }
        }
    }

    /// Enters a read section, which may nest and sleep, but must not wait for a grace period of this
    /// domain.
    #[inline]
    pub fn read_lock<'a>(&'a self, cpu: &'a Cpu) -> SrcuGuard<'a> {
        let span = Span::start(cpu);
        let index = (self.index.load(Relaxed) & 1) as usize;
        // An addition in one step: the thread may be preempted anywhere.
        self.counts[cpu.id].locks[index].fetch_add(1, Relaxed);
        // Pairs with the fence in `is_drained`: it counts this section, or the section sees what was
        // removed before it (B and A in srcutree.c).
        fence(SeqCst);
        SrcuGuard {
            domain: self,
            cpu,
            index,
            span,
        }
    }

    /// Moves the grace period on as far as its readers let it. Gives up at once where another CPU is
    /// at that.
    fn step(&self, cpu: &Cpu) {
        let open = cpu.ops.irq_save(cpu);
        if let Some(mut stage) = self.stage.try_lock(cpu) {
            while let Some(next) = self.next(cpu, *stage) {
                *stage = next;
            }
        }
        cpu.ops.irq_restore(cpu, open);
    }

    /// The stage after `stage`, if its time has come.
    fn next(&self, cpu: &Cpu, stage: Stage) -> Option<Stage> {
        match stage {
            Stage::Idle => self.sequence.try_begin(cpu).then_some(Stage::First),
            Stage::First => {
                if !self.is_drained(cpu, self.unused()) {
                    return None;
                }
                // Readers that were counted above are over before the flip (E in srcutree.c).
                fence(SeqCst);
                self.index.fetch_add(1, Relaxed);
                // Readers that see the new index are not looked for below (D).
                fence(SeqCst);
                Some(Stage::Second)
            }
            Stage::Second => {
                if !self.is_drained(cpu, self.unused()) {
                    return None;
                }
                self.sequence.finish(cpu);
                Some(Stage::Idle)
            }
        }
    }

    /// The index that new readers do not count under.
    fn unused(&self) -> usize {
        (self.index.load(Relaxed) & 1 ^ 1) as usize
    }

    /// Whether nobody is left under `index`. Those out are summed first: a section that counts as
    /// out was counted in.
    fn is_drained(&self, cpu: &Cpu, index: usize) -> bool {
        // If only the second wait were forgotten, the first one of the next grace period would make
        // up for it, and readers and writers in lockstep would never show it.
        if cpu.header.variant == Variant::RcuSleepBusted as u32 {
            return true;
        }
        let sum = |of: fn(&Counts) -> &[AtomicU64; 2]| -> u64 {
            let each = self
                .counts
                .iter()
                .map(|counts| of(counts)[index].load(Relaxed));
            each.fold(0, u64::wrapping_add)
        };
        let unlocks = sum(|counts| &counts.unlocks);
        // Pairs with the fences of readers: who is seen to be out has done what it read, and who is
        // not seen to be in sees what was removed (A in srcutree.c).
        fence(SeqCst);
        sum(|counts| &counts.locks) == unlocks
    }

    /// The timer tick: moves the grace period on, and looks for one that is stalled.
    pub fn tick(&self, cpu: &Cpu) {
        if self.sequence.is_busy() {
            self.step(cpu);
        }
        self.sequence.check(cpu, || Culprits {
            cpus: self.readers(),
            reader: None,
        });
    }

    /// CPUs with threads in sections of this domain, a bit each.
    #[must_use]
    pub fn readers(&self) -> u64 {
        let busy = |counts: &Counts| {
            (0..2).any(|i| counts.unlocks[i].load(Relaxed) != counts.locks[i].load(Relaxed))
        };
        let each = self.counts.iter().enumerate();
        each.filter(|(_, counts)| busy(counts))
            .fold(0, |cpus, (id, _)| cpus | 1 << id)
    }

    /// The number of grace periods completed.
    #[must_use]
    pub fn completed(&self) -> u64 {
        self.sequence.completed()
    }

    /// Waits for a full grace period; sleeps. Must not be called in a read section of this domain.
    pub fn synchronize(&self, cpu: &Cpu) {
        self.wait(cpu, || cpu.sched.sleep_ns(cpu, PAUSE_NS));
    }

    /// The same without pauses between the looks at the readers.
    pub fn synchronize_expedited(&self, cpu: &Cpu) {
        self.wait(cpu, || cpu.sched.yield_now(cpu));
    }

    fn wait(&self, cpu: &Cpu, pause: impl FnMut()) {
        let target = self.sequence.snapshot();
        self.sequence.ask(target);
        self.sequence.wait(cpu, target, || self.step(cpu), pause);
    }
}

impl GracePeriods for SrcuDomain {
    fn sequence(&self) -> &Sequence {
        &self.sequence
    }

    fn advance(&self, cpu: &Cpu) {
        self.step(cpu);
    }
}

/// A read section; dropped, it is over.
#[must_use]
pub struct SrcuGuard<'a> {
    domain: &'a SrcuDomain,
    cpu: &'a Cpu,
    index: usize,
    span: Span,
}

impl Drop for SrcuGuard<'_> {
    #[inline]
    fn drop(&mut self) {
        // Pairs with the fence in `is_drained` (C in srcutree.c).
        fence(SeqCst);
        self.domain.counts[self.cpu.id].unlocks[self.index].fetch_add(1, Relaxed);
        self.span.finish(self.cpu, Metric::RcuRead);
    }
}
