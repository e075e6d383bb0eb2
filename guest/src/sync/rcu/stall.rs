//! The stall detector: a grace period that does not end is reported, once
//! (Documentation/RCU/stallwarn.rst).

use super::{
    super::atomic::{
        AtomicU64,
        Ordering::{AcqRel, Acquire, Relaxed, Release},
        const_fn,
    },
    RcuKind,
    sequence::Culprits,
};
use crate::{Cpu, arch::tsc, record, sched::ThreadId};
use core::panic::Location;
use underfoot_abi::ReportKind;

/// A grace period that is older than it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RcuStall {
    /// Of which kind of RCU.
    pub kind: RcuKind,
    /// Its number, from 1.
    pub grace_period: u64,
    /// Its age, in ns.
    pub age_ns: u64,
    /// The CPUs that hold it up, one bit each.
    pub waiting: u64,
    /// A thread that holds it up, switched out in its section, if one is known.
    pub reader: Option<StalledReader>,
    /// Where the tick that found the stall interrupted the reporting CPU.
    pub position: u64,
}

/// A thread that was switched out in a read section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StalledReader {
    /// Which one.
    pub thread: ThreadId,
    /// Where its outermost section began.
    pub entered: &'static Location<'static>,
}

impl RcuStall {
    /// Reports it: the words are the grace period, its age in ns, the CPUs, and the position. What a
    /// kernel gives to its kinds of RCU as their `report`.
    pub fn report(cpu: &Cpu, stall: &Self) {
        let words = [
            stall.grace_period,
            stall.age_ns,
            stall.waiting,
            stall.position,
        ];
        let name = stall.kind.name();
        let (number, age_ms) = (stall.grace_period, stall.age_ns / 1_000_000);
        let (waiting, position) = (stall.waiting, stall.position);
        match stall.reader {
            Some(StalledReader {
                thread: ThreadId(thread),
                entered,
            }) => record::report(
                cpu,
                ReportKind::RcuStall,
                words,
                format_args!(
                    "{name}: grace period {number} is {age_ms} ms old, waiting for CPUs {waiting:#x}: \
                 thread {thread} was switched out in its section, which began at {entered}"
                ),
            ),
            None => record::report(
                cpu,
                ReportKind::RcuStall,
                words,
                format_args!(
                    "{name}: grace period {number} is {age_ms} ms old, waiting for CPUs {waiting:#x}; \
                 CPU {} is at {position:#x}",
                    cpu.id
                ),
            ),
        }
    }
}

/// Ticks are never so far apart where a vCPU runs: the whole guest was away, held by its host. Time in
/// which nobody could report does not count (Linux's `kvm_check_and_clear_guest_paused`, for the same
/// reason).
const AWAY_NS: u64 = 200_000_000;

pub(super) struct StallDetector {
    kind: RcuKind,
    timeout_ns: u64,
    report: fn(&Cpu, &RcuStall),
    /// TSC at the start of the grace period in progress; 0 while there is none.
    started_tsc: AtomicU64,
    /// The grace period last reported.
    reported: AtomicU64,
    /// When some CPU last looked.
    looked_tsc: AtomicU64,
    /// How long nobody looked, in this grace period.
    away_tsc: AtomicU64,
}

impl StallDetector {
    const_fn! {
        pub(super) fn new(kind: RcuKind, timeout_ns: u64, report: fn(&Cpu, &RcuStall)) -> Self {
            Self {
                kind,
                timeout_ns,
                report,
                started_tsc: AtomicU64::new(0),
                reported: AtomicU64::new(0),
                looked_tsc: AtomicU64::new(0),
                away_tsc: AtomicU64::new(0),
            }
        }
    }

    pub(super) fn started(&self, now_tsc: u64) {
        self.looked_tsc.store(now_tsc, Relaxed);
        self.away_tsc.store(0, Relaxed);
        // Pairs with the acquire in `check`.
        self.started_tsc.store(now_tsc, Release);
    }

    /// Comes before the number moves on: a number and a start time seen together belong together.
    /// Returns when the grace period began.
    pub(super) fn ended(&self) -> u64 {
        self.started_tsc.swap(0, AcqRel)
    }

    /// How old the grace period in progress is; 0 while there is none.
    pub(super) fn age_ns(&self, cpu: &Cpu) -> u64 {
        match self.started_tsc.load(Acquire) {
            0 => 0,
            started => cpu.ns(tsc().saturating_sub(started)),
        }
    }

    /// How long nobody has looked, in all, in the grace period in progress; somebody does now.
    fn away_ns(&self, cpu: &Cpu) -> u64 {
        let now = tsc();
        let gap = now.saturating_sub(self.looked_tsc.swap(now, Relaxed));
        let new = if cpu.ns(gap) > AWAY_NS { gap } else { 0 };
        cpu.ns(self.away_tsc.fetch_add(new, Relaxed) + new)
    }

    pub(super) fn check(
        &self,
        cpu: &Cpu,
        seq: &AtomicU64,
        position: u64,
        culprits: impl FnOnce() -> Culprits,
    ) {
        let number = seq.load(Acquire);
        if number & 1 == 0 {
            return;
        }
        let age_ns = self.age_ns(cpu).saturating_sub(self.away_ns(cpu));
        if age_ns == 0 || age_ns < self.timeout_ns {
            return;
        }
        let found = culprits();
        // Of another grace period by now, or just about to end.
        if seq.load(Relaxed) != number || found.cpus == 0 {
            return;
        }
        if self.reported.swap(number, AcqRel) == number {
            return;
        }
        cpu.header
            .rcu_stalls
            .fetch_add(1, core::sync::atomic::Ordering::Relaxed);
        (self.report)(
            cpu,
            &RcuStall {
                kind: self.kind,
                grace_period: number.div_ceil(2),
                age_ns,
                waiting: found.cpus,
                reader: found.reader,
                position,
            },
        );
    }
}
