//! When one thread had no CPU.

use super::{ClockMap, Span, SpanLog};
use crate::histogram::Histogram;
use underfoot_abi::RecordedPhase;
use underfoot_vmm::{Switch, SwitchRecord};

/// The times without a CPU of one thread, from the kernel's records.
#[derive(Debug)]
pub struct OffCpu {
    /// The last record, if the thread lost its CPU by it.
    out: Option<(u64, Switch)>,
    preempted: SpanLog,
    slept: SpanLog,
    tsc_khz: u32,
    /// Lengths of times in which it wanted a CPU, by [`RecordedPhase`].
    lengths: [Histogram; 2],
    lost: u64,
}

impl OffCpu {
    /// Remembers times for `memory_ticks` of a counter that runs at `tsc_khz`.
    #[must_use]
    pub fn new(tsc_khz: u32, memory_ticks: u64) -> Self {
        Self {
            out: None,
            preempted: SpanLog::new(memory_ticks),
            slept: SpanLog::new(memory_ticks),
            tsc_khz,
            lengths: [Histogram::new(), Histogram::new()],
            lost: 0,
        }
    }

    /// One whose times are known.
    #[cfg(test)]
    pub(crate) fn of(preempted: SpanLog, slept: SpanLog) -> Self {
        Self {
            preempted,
            slept,
            ..Self::new(1_000_000, 0)
        }
    }

    /// Adds the thread's next record; lengths are recorded in a phase only.
    pub fn note(&mut self, record: SwitchRecord, clock: &ClockMap, phase: Option<RecordedPhase>) {
        let (raw_ns, switch) = match record {
            SwitchRecord::Switch(raw_ns, switch) => (raw_ns, switch),
            SwitchRecord::Lost(records) => {
                // What began before the gap may have ended in it.
                self.out = None;
                self.lost += records;
                return;
            }
        };
        let tsc = clock.tsc_of(raw_ns);
        if switch != Switch::In {
            self.out = Some((tsc, switch));
            return;
        }
        let Some((since, how)) = self.out.take() else {
            return;
        };
        let span = Span::new(since, tsc);
        if how == Switch::Slept {
            self.slept.add(span);
            return;
        }
        if let Some(phase) = phase {
            let ns = super::ns(span.ticks(), self.tsc_khz);
            self.lengths[phase as usize].record(ns);
        }
        self.preempted.add(span);
    }

    /// Times in which it wanted a CPU.
    #[must_use]
    pub const fn preempted(&self) -> &SpanLog {
        &self.preempted
    }

    /// Times in which it slept, the wait for a CPU after its wake-up included.
    #[must_use]
    pub const fn slept(&self) -> &SpanLog {
        &self.slept
    }

    /// Lengths of the times in which it wanted a CPU, of `phase`.
    #[must_use]
    pub const fn lengths(&self, phase: RecordedPhase) -> &Histogram {
        &self.lengths[phase as usize]
    }

    /// Records that are missing.
    #[must_use]
    pub const fn lost(&self) -> u64 {
        self.lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use underfoot_vmm::ClockPair;

    #[test]
    fn preemption_and_sleep_are_told_apart_and_a_gap_ends_both() {
        let zero = ClockPair {
            tsc: 0,
            raw_ns: 0,
            error_ticks: 0,
        };
        let clock = ClockMap::new(1_000_000, zero);
        let mut off = OffCpu::new(1_000_000, 1_000_000);
        use SwitchRecord::Lost;
        for record in [
            // It had no CPU when the record began.
            SwitchRecord::Switch(5, Switch::In),
            SwitchRecord::Switch(10, Switch::Preempted),
            SwitchRecord::Switch(30, Switch::In),
            SwitchRecord::Switch(40, Switch::Slept),
            SwitchRecord::Switch(45, Switch::In),
            SwitchRecord::Switch(50, Switch::Preempted),
            Lost(3),
            SwitchRecord::Switch(90, Switch::In),
        ] {
            off.note(record, &clock, Some(RecordedPhase::Moving));
        }
        let all = Span::new(0, 1_000);
        assert_eq!(
            off.preempted().over(all).collect::<Vec<_>>(),
            [Span::new(10, 30)]
        );
        assert_eq!(
            off.slept().over(all).collect::<Vec<_>>(),
            [Span::new(40, 45)]
        );
        assert_eq!(off.lengths(RecordedPhase::Moving).sum(), 20);
        assert_eq!(off.lengths(RecordedPhase::Control).count(), 0);
        assert_eq!(off.lost(), 3);
    }
}
