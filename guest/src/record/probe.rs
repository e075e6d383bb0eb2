//! The paced probe: an access on a fixed schedule, so that a stall is not hidden by the loop that it
//! stops.

use super::{phase, record};
use crate::{Cpu, arch::tsc};
use underfoot_abi::{Metric, RecordedPhase};

/// Missed slots recorded in one call: what a call may cost after a long gap is bounded by it.
const BATCH: u32 = 256;

/// One CPU's paced probe.
///
/// A slot of the schedule that was missed counts from when it should have begun to the end of the
/// access that came at last, which is HdrHistogram's correction for coordinated omission
/// (`recordValueWithExpectedInterval`), with the true schedule instead of an assumed one.
#[derive(Debug)]
pub struct Probe {
    period_ticks: u64,
    next_tsc: u64,
    phase: Option<RecordedPhase>,
    /// Where the recording of missed slots has come to, and when the access that ended them did.
    missed: Option<Missed>,
}

#[derive(Clone, Copy, Debug)]
struct Missed {
    phase: RecordedPhase,
    slot_tsc: u64,
    until_tsc: u64,
}

impl Probe {
    /// A probe with the period that the header asks for (0: never).
    #[must_use]
    pub fn new(cpu: &Cpu) -> Self {
        let ticks =
            (u128::from(cpu.header.probe_period_ns) << 32) / u128::from(cpu.ns_per_tick_q32.max(1));
        Self {
            period_ticks: ticks as u64,
            next_tsc: 0,
            phase: None,
            missed: None,
        }
    }

    /// Does the access `op` if its time has come; records its latency, and that of every slot that
    /// was missed meanwhile, over as many calls as that takes.
    #[inline]
    pub fn run(&mut self, cpu: &Cpu, op: impl FnOnce()) {
        if self.period_ticks != 0 {
            self.run_at(cpu, tsc(), op, tsc);
        }
    }

    pub(super) fn run_at(
        &mut self,
        cpu: &Cpu,
        now_tsc: u64,
        op: impl FnOnce(),
        end: impl FnOnce() -> u64,
    ) {
        if !self.catch_up(cpu) {
            return;
        }
        let phase_now = phase(cpu);
        if phase_now != self.phase {
            // The schedule starts anew: a slot of the old phase may not end in the new one.
            self.phase = phase_now;
            self.next_tsc = now_tsc + self.period_ticks;
            return;
        }
        let Some(set) = phase_now else { return };
        if now_tsc < self.next_tsc {
            return;
        }
        op();
        let end_tsc = end();
        if phase(cpu) != Some(set) {
            return;
        }
        self.missed = Some(Missed {
            phase: set,
            slot_tsc: self.next_tsc,
            until_tsc: end_tsc,
        });
        let slots = end_tsc.saturating_sub(self.next_tsc) / self.period_ticks + 1;
        self.next_tsc += slots * self.period_ticks;
        self.catch_up(cpu);
    }

    /// Records missed slots; whether none is left.
    fn catch_up(&mut self, cpu: &Cpu) -> bool {
        let Some(mut missed) = self.missed else {
            return true;
        };
        for _ in 0..BATCH {
            let ticks = missed.until_tsc.saturating_sub(missed.slot_tsc);
            record(cpu, missed.phase, Metric::Probe, cpu.ns(ticks));
            missed.slot_tsc += self.period_ticks;
            if missed.slot_tsc > missed.until_tsc {
                self.missed = None;
                return true;
            }
        }
        self.missed = Some(missed);
        false
    }
}
