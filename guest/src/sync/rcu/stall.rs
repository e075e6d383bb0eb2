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
use crate::{Cpu, Sighting, arch::tsc, record, sched::ThreadId};
use core::{
    fmt::{self, Display, Formatter},
    panic::Location,
};
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
    /// Reports it: the words are the grace period, its age in ns, the CPUs waited for, and where the lowest of them
    /// was last seen (RIP; 0 if it never ticked). What a kernel gives to its kinds of RCU as their `report`.
    pub fn report(cpu: &Cpu, stall: &Self) {
        let waiting = stall.waiting;
        let blamed = cpus(waiting).next();
        let seen = blamed.and_then(|id| cpu.sightings.of(id));
        let position = seen.map_or(0, |seen| seen.position);
        let words = [stall.grace_period, stall.age_ns, waiting, position];
        let (number, age_ms) = (stall.grace_period, ms(stall.age_ns));
        record::report(
            cpu,
            ReportKind::RcuStall,
            words,
            format_args!(
                "{}: grace period {number} is {age_ms} ms old, waiting for CPUs {waiting:#x}{}{}",
                stall.kind.name(),
                Reader(stall.reader),
                Whereabouts { cpu, waiting }
            ),
        );
    }
}

/// The CPUs whose bits are set, from the lowest on.
fn cpus(mask: u64) -> impl Iterator<Item = usize> {
    (0..u64::BITS as usize).filter(move |id| mask >> id & 1 != 0)
}

const fn ms(ns: u64) -> u64 {
    ns / 1_000_000
}

struct Reader(Option<StalledReader>);

impl Display for Reader {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        let Some(StalledReader { thread, entered }) = self.0 else {
            return Ok(());
        };
        let ThreadId(thread) = thread;
        write!(
            out,
            "; thread {thread} was switched out in its section, which began at {entered}"
        )
    }
}

/// As many CPUs are told of, one by one, as fit a report's text.
const TOLD: usize = 2;

/// Where the CPUs waited for were last seen.
struct Whereabouts<'a> {
    cpu: &'a Cpu,
    waiting: u64,
}

impl Display for Whereabouts<'_> {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        for id in cpus(self.waiting).take(TOLD) {
            let Some(Sighting {
                position,
                tsc: seen,
            }) = self.cpu.sightings.of(id)
            else {
                write!(out, "; CPU {id} never took a tick")?;
                continue;
            };
            let ago_ns = self.cpu.ns(tsc().saturating_sub(seen));
            let ago_ms = ms(ago_ns);
            if ago_ns > AWAY_NS {
                write!(
                    out,
                    "; CPU {id} took no tick for {ago_ms} ms, last at {position:#x}"
                )?;
            } else {
                write!(out, "; CPU {id} was at {position:#x} {ago_ms} ms ago")?;
            }
        }
        match cpus(self.waiting).count().saturating_sub(TOLD) {
            0 => Ok(()),
            more => write!(out, "; and {more} more"),
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

    pub(super) fn check(&self, cpu: &Cpu, seq: &AtomicU64, culprits: impl FnOnce() -> Culprits) {
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
            },
        );
    }
}
