//! The numbers of grace periods: which one is wanted, which is in progress, which are over.

use super::{
    super::atomic::{
        AtomicU32, AtomicU64,
        Ordering::{AcqRel, Acquire, Relaxed, SeqCst},
        const_fn, fence,
    },
    RcuKind, RcuStall,
    stall::StallDetector,
    waiters::Waiters,
};
use crate::{Cpu, arch::tsc, record::Span};
use underfoot_abi::{Metric, Wait};

/// Linux's `->gp_seq`, and who waits for it.
pub(super) struct Sequence {
    /// Odd while a grace period is in progress; its half is the number of those completed.
    seq: AtomicU64,
    /// The even `seq` that somebody waits for.
    wanted: AtomicU64,
    /// The run's phase when the grace period in progress began.
    started_phase: AtomicU32,
    detector: StallDetector,
    waiters: Waiters,
}

impl Sequence {
    const_fn! {
        pub(super) fn new(kind: RcuKind, stall_timeout_ns: u64, report: fn(&Cpu, &RcuStall)) -> Self {
            Self {
                seq: AtomicU64::new(0),
                wanted: AtomicU64::new(0),
                started_phase: AtomicU32::new(0),
                detector: StallDetector::new(kind, stall_timeout_ns, report),
                waiters: Waiters::new(),
            }
        }
    }

    /// The number of grace periods completed.
    pub(super) fn completed(&self) -> u64 {
        self.seq.load(Acquire) >> 1
    }

    /// The number now: odd while a grace period is in progress.
    pub(super) fn number(&self) -> u64 {
        self.seq.load(Relaxed)
    }

    /// The number at which everything removed before this call may be freed (`rcu_seq_snap`).
    pub(super) fn snapshot(&self) -> u64 {
        // Pairs with the fence in `try_begin`: if this load misses that the number turned odd, then
        // the removals before this fence are seen by all sections that begin after it.
        fence(SeqCst);
        (self.seq.load(Acquire) + 3) & !1
    }

    /// Whether the number has come to `target`. If so, all its sections are over for the caller too.
    pub(super) fn is_over(&self, target: u64) -> bool {
        // Pairs with the release in `finish`.
        self.seq.load(Acquire) >= target
    }

    /// Asks for the grace periods up to `target`; the caller then starts one.
    pub(super) fn ask(&self, target: u64) {
        self.wanted.fetch_max(target, AcqRel);
        // Pairs with the fence in `finish`: one of the two sees the other's store.
        fence(SeqCst);
    }

    /// Whether a grace period is wanted and none is in progress.
    pub(super) fn is_wanted(&self) -> bool {
        let seq = self.seq.load(Relaxed);
        seq & 1 == 0 && self.wanted.load(Relaxed) > seq
    }

    /// Whether one is in progress or wanted.
    pub(super) fn is_busy(&self) -> bool {
        self.seq.load(Relaxed) & 1 != 0 || self.is_wanted()
    }

    /// Begins a grace period if one is wanted and none is in progress; whether it did.
    pub(super) fn try_begin(&self, cpu: &Cpu) -> bool {
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
        // Pairs with the fence in `snapshot`; happens before all that the grace period looks at.
        fence(SeqCst);
        self.started_phase.store(
            cpu.header.phase.load(core::sync::atomic::Ordering::Relaxed),
            Relaxed,
        );
        self.detector.started(tsc());
        true
    }

    /// Ends the grace period in progress. With interrupts masked, by whoever found it over.
    pub(super) fn finish(&self, cpu: &Cpu) {
        let started_tsc = self.detector.ended();
        // Before `seq` moves on, so that no other end of a grace period can interrupt the record.
        Span::resume(started_tsc, self.started_phase.load(Relaxed))
            .finish(cpu, Metric::GracePeriod);
        cpu.header
            .grace_periods
            .fetch_add(1, core::sync::atomic::Ordering::Relaxed);
        // Release: who sees the grace period over sees all its sections over.
        self.seq.fetch_add(1, AcqRel);
        // Pairs with the fence in `ask`, and with that of a waiter.
        fence(SeqCst);
        self.waiters.wake(cpu);
    }

    /// How long the grace period in progress has lasted, in ns.
    pub(super) fn age_ns(&self, cpu: &Cpu) -> u64 {
        self.detector.age_ns(cpu)
    }

    /// Tells of a grace period that does not end; `culprits` says who holds it up.
    pub(super) fn check(&self, cpu: &Cpu, culprits: impl FnOnce() -> Culprits) {
        self.detector.check(cpu, &self.seq, culprits);
    }

    /// Calls `turn`, and then `sleep`, until the number has come to `target`. The thread is woken at
    /// the end of each grace period meanwhile.
    pub(super) fn wait(&self, cpu: &Cpu, target: u64, turn: impl Fn(), mut sleep: impl FnMut()) {
        let before = cpu.context().wait();
        cpu.waits_for(Wait::GracePeriod, (target >> 1) as u32);
        loop {
            self.waiters.enlist(cpu);
            turn();
            if self.is_over(target) {
                break;
            }
            sleep();
        }
        self.waiters.delist(cpu);
        cpu.waits_for(before.0, before.1);
    }
}

/// Who holds a grace period up.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Culprits {
    /// CPUs, a bit each.
    pub cpus: u64,
    /// A thread that was switched out in its section.
    pub reader: Option<super::StalledReader>,
}
