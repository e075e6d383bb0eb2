//! The stall detector: a grace period that does not end is reported, once.

use super::super::atomic::{
    AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
    const_fn,
};
use crate::{Cpu, arch::tsc};

/// A grace period that is older than it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RcuStall {
    /// Its number, from 1.
    pub grace_period: u64,
    /// Its age, in ns.
    pub age_ns: u64,
    /// The CPUs that have not reported, one bit each.
    pub waiting: u64,
    /// Where the tick that found it interrupted the reporting CPU.
    pub position: u64,
}

pub(super) struct StallDetector {
    timeout_ns: u64,
    report: fn(&Cpu, &RcuStall),
    /// TSC at the start of the grace period in progress; 0 while there is none.
    started_tsc: AtomicU64,
    /// The grace period last reported.
    reported: AtomicU64,
}

impl StallDetector {
    const_fn! {
        pub(super) fn new(timeout_ns: u64, report: fn(&Cpu, &RcuStall)) -> Self {
            Self {
                timeout_ns,
                report,
                started_tsc: AtomicU64::new(0),
                reported: AtomicU64::new(0),
            }
        }
    }

    pub(super) fn started(&self, now_tsc: u64) {
        // Pairs with the acquire in `check`.
        self.started_tsc.store(now_tsc, Release);
    }

    /// Comes before the number moves on: a number and a start time seen together belong together.
    /// Returns when the grace period began.
    pub(super) fn ended(&self) -> u64 {
        self.started_tsc.swap(0, AcqRel)
    }

    pub(super) fn check(&self, cpu: &Cpu, seq: &AtomicU64, waiting: &AtomicU64, position: u64) {
        let number = seq.load(Acquire);
        let started = self.started_tsc.load(Acquire);
        if number & 1 == 0 || started == 0 {
            return;
        }
        let age_ns = cpu.ns(tsc().saturating_sub(started));
        let waiting = waiting.load(Acquire);
        if age_ns < self.timeout_ns || seq.load(Relaxed) != number || waiting == 0 {
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
                grace_period: number.div_ceil(2),
                age_ns,
                waiting,
                position,
            },
        );
    }
}
