//! Read-copy-update: classic, non-preemptible, for the number of CPUs that one word holds.
//!
//! What is taken from Linux: the grace-period number with its "in progress" bit and the snapshot
//! arithmetic (Documentation/RCU/Design/Data-Structures/Data-Structures.rst, `->gp_seq`), one mask of
//! CPUs that still have to report instead of its tree of `rcu_node`s, idle CPUs as extended quiescent
//! states (Documentation/RCU/Design/Requirements/Requirements.rst, "Interrupts and NMIs" and
//! "Energy Efficiency"), callbacks in segments by the grace period that they wait for, and the stall
//! detector's report (Documentation/RCU/stallwarn.rst). Only explicit read sections hold a grace
//! period up; masked interrupts do not.

mod callbacks;
mod stall;

pub use callbacks::{RcuCallback, RcuHead};
pub use stall::RcuStall;

use super::{
    Backoff, TicketLock,
    atomic::{
        AtomicU32, AtomicU64,
        Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst},
        const_fn, fence,
    },
};
use crate::{Cpu, arch::tsc, record::Span};
use callbacks::Segments;
use core::sync::atomic::compiler_fence;
use stall::StallDetector;
use underfoot_abi::{Context, Metric, Variant, Wait};

/// CPUs that the masks hold; a model makes no more than it needs.
const CPUS: usize = if cfg!(loom) {
    3
} else {
    underfoot_abi::MAX_CPUS
};

/// A grace-period machine and its callbacks.
///
/// Grace periods take no lock: [`Self::tick`] may interrupt any of this.
pub struct Rcu {
    /// Odd while a grace period is in progress; its half is the number of those completed.
    seq: AtomicU64,
    /// The even `seq` that somebody waits for.
    wanted: AtomicU64,
    /// CPUs that the grace period in progress still waits for.
    waiting: AtomicU64,
    /// CPUs that are online and not idle.
    active: AtomicU64,
    /// The run's phase when the grace period in progress began.
    started_phase: AtomicU32,
    detector: StallDetector,
    callbacks: [TicketLock<Segments, false>; CPUS],
}

impl Rcu {
    const_fn! {
        /// A machine that knows no CPU yet. A grace period older than `stall_timeout_ns` is told
        /// to `report`, once, in the tick of the CPU that finds it.
        #[must_use]
        pub fn new(stall_timeout_ns: u64, report: fn(&Cpu, &RcuStall)) -> Self {
            Self {
                seq: AtomicU64::new(0),
                wanted: AtomicU64::new(0),
                waiting: AtomicU64::new(0),
                active: AtomicU64::new(0),
                started_phase: AtomicU32::new(0),
                detector: StallDetector::new(stall_timeout_ns, report),
                callbacks: callbacks::lists(),
            }
        }
    }

    /// Enters a read section, which may nest and must not wait for a grace period.
    #[inline]
    pub fn read_lock<'a>(&'a self, cpu: &'a Cpu) -> RcuGuard<'a> {
        cpu.preempt_disable();
        let span = (cpu.context().rcu_depth() == 0).then(|| Span::start(cpu));
        cpu.context_add(Context::RCU_ONE);
        // A tick on this CPU must not find the depth unchanged while the section already reads.
        compiler_fence(SeqCst);
        RcuGuard { cpu, span }
    }

    /// The number of grace periods completed.
    #[must_use]
    pub fn completed(&self) -> u64 {
        self.seq.load(Acquire) >> 1
    }

    /// This CPU has come up, or leaves its idle loop: it counts from now on.
    pub fn idle_exit(&self, cpu: &Cpu) {
        // AcqRel, and a read-modify-write: if a grace period has counted this CPU as quiescent, the
        // sections that follow see what was removed before that grace period began.
        self.active.fetch_or(bit(cpu), AcqRel);
    }

    /// This CPU goes idle (or offline): an extended quiescent state until [`Self::idle_exit`]. Its
    /// interrupt handlers must not enter read sections meanwhile.
    pub fn idle_enter(&self, cpu: &Cpu) {
        // Read-modify-write, as both of `try_start`'s: if this one comes before the second of them,
        // the starter sees this CPU idle; else it acquires the starter's store of `waiting`, and
        // this CPU sees that it is waited for.
        self.active.fetch_and(!bit(cpu), AcqRel);
        self.quiescent(cpu);
    }

    /// This CPU is in no read section: reports it if a grace period waits for that.
    #[inline]
    pub fn quiescent(&self, cpu: &Cpu) {
        debug_assert_eq!(cpu.context().rcu_depth(), 0, "quiescent in a read section");
        if self.waiting.load(Relaxed) & bit(cpu) != 0 && !is_mute(cpu) {
            self.report(cpu, bit(cpu));
        }
    }

    /// The timer tick: reports a quiescent state if the tick interrupted none of this CPU's read
    /// sections (`interrupted` is the context word from before the interrupt), and looks for a
    /// stalled grace period; `position` is where the tick interrupted the CPU (RIP).
    pub fn tick(&self, cpu: &Cpu, interrupted: Context, position: u64) {
        if interrupted.rcu_depth() == 0
            && self.waiting.load(Relaxed) & bit(cpu) != 0
            && !is_mute(cpu)
        {
            self.report(cpu, bit(cpu));
        }
        self.detector.check(cpu, &self.seq, &self.waiting, position);
    }

    /// Waits for a full grace period (for ever under [`Variant::RcuStall`]). Must not be called in a read section, in an interrupt, or
    /// with a lock held that a reader waits for.
    pub fn synchronize(&self, cpu: &Cpu) {
        let target = self.snapshot();
        self.want(cpu, target);
        let before = cpu.context().wait();
        cpu.waits_for(Wait::GracePeriod, (target >> 1) as u32);
        let mut backoff = Backoff::new();
        // Acquire, as in `process`: pairs with the release that ended the grace period.
        while self.seq.load(Acquire) < target {
            self.quiescent(cpu);
            self.start(cpu);
            backoff.pause(cpu, || self.seq.load(Relaxed) >= target);
        }
        cpu.waits_for(before.0, before.1);
    }

    /// Clears `mask` from those waited for, and ends the grace period if they were the last.
    fn report(&self, cpu: &Cpu, mask: u64) {
        if self.clear(mask) {
            self.end(cpu);
            self.start(cpu);
        }
    }

    /// Whether `mask` held the last CPUs that were waited for. Only the CPU itself clears its bit,
    /// or the starter while its own bit keeps the grace period from ending: a bit is never cleared
    /// for a later grace period than the one it was meant for, unless that is as true of it.
    fn clear(&self, mask: u64) -> bool {
        // Release: the sections before are over; acquire: the last to clear has seen them all end.
        let before = self.waiting.fetch_and(!mask, AcqRel);
        before & mask != 0 && before & !mask == 0
    }

    fn end(&self, cpu: &Cpu) {
        let started_tsc = self.detector.ended();
        // Before `seq` moves on, so that no other end of a grace period can interrupt the record.
        Span::resume(started_tsc, self.started_phase.load(Relaxed))
            .finish(cpu, Metric::GracePeriod);
        cpu.header
            .grace_periods
            .fetch_add(1, core::sync::atomic::Ordering::Relaxed);
        // Release: who sees the grace period over sees all its sections over.
        self.seq.fetch_add(1, AcqRel);
        // Pairs with the fence in `want`: one of the two sees the other's store.
        fence(SeqCst);
    }

    /// The value of `seq` at which everything removed before this call may be freed
    /// (`rcu_seq_snap`).
    pub(super) fn snapshot(&self) -> u64 {
        // Pairs with the fence after `seq` turns odd in `start`: if this load misses that, then the
        // removals before this fence are seen by all sections that begin after it.
        fence(SeqCst);
        (self.seq.load(Acquire) + 3) & !1
    }

    pub(super) fn want(&self, cpu: &Cpu, target: u64) {
        self.wanted.fetch_max(target, AcqRel);
        // Pairs with the fence in `end`.
        fence(SeqCst);
        self.start(cpu);
    }

    /// Starts a grace period if one is wanted and none is in progress.
    fn start(&self, cpu: &Cpu) {
        let seq = self.seq.load(Relaxed);
        if seq & 1 != 0 || self.wanted.load(Relaxed) <= seq {
            return;
        }
        // A tick in here could report this CPU, whose bit guards the grace period below.
        let open = cpu.ops.irq_save(cpu);
        while self.try_start(cpu) {
            self.end(cpu);
        }
        cpu.ops.irq_restore(cpu, open);
    }

    /// Whether a grace period was started that is over already, all CPUs being idle.
    fn try_start(&self, cpu: &Cpu) -> bool {
        let seq = self.seq.load(Relaxed);
        if seq & 1 != 0
            || self.wanted.load(Relaxed) <= seq
            || self
                .seq
                .compare_exchange(seq, seq + 1, AcqRel, Relaxed)
                .is_err()
        {
            return false;
        }
        // Pairs with the fence in `snapshot`; happens before every report, through `waiting`.
        fence(SeqCst);
        self.started_phase.store(
            cpu.header.phase.load(core::sync::atomic::Ordering::Relaxed),
            Relaxed,
        );
        self.detector.started(tsc());
        let me = bit(cpu);
        // Read-modify-write: it is what an idle CPU's `idle_exit` then synchronises with.
        self.waiting
            .store(self.active.fetch_or(0, AcqRel) | me, Release);
        // Again: who went idle before this read-modify-write may not have seen `waiting`.
        let active = self.active.fetch_or(0, AcqRel);
        let idle = self.waiting.load(Relaxed) & !active & !me;
        // This CPU's bit is still set, so this is still the same grace period.
        let over = idle != 0 && self.clear(idle);
        debug_assert!(!over, "the starter's own bit is set");
        active & me == 0 && self.clear(me)
    }
}

/// The bit of `cpu` in the masks.
#[inline]
const fn bit(cpu: &Cpu) -> u64 {
    1 << cpu.id
}

/// Whether this CPU keeps its quiescent states to itself: the last one of the busted variant.
#[cold]
fn is_mute(cpu: &Cpu) -> bool {
    cpu.header.variant == Variant::RcuStall as u32 && cpu.id + 1 == cpu.header.cpus as usize
}

/// A read section; dropped, it is over.
#[must_use]
pub struct RcuGuard<'a> {
    cpu: &'a Cpu,
    /// `Some` in the outermost section.
    span: Option<Span>,
}

impl Drop for RcuGuard<'_> {
    #[inline]
    fn drop(&mut self) {
        // A tick on this CPU must not find the section over while it still reads.
        compiler_fence(SeqCst);
        self.cpu.context_sub(Context::RCU_ONE);
        if let Some(span) = self.span {
            span.finish(self.cpu, Metric::RcuRead);
        }
        self.cpu.preempt_enable();
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
