//! When a CPU's tick was due, as far as a guest can know.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What a due time is later than a period after the one before, as a power of two of the period: an estimate that is
/// too early, as a clock that runs slower than the TSC makes it, is mended by so much at each tick.
const LEAK: u32 = 12;

/// The phase of one CPU's periodic tick, from when its ticks came. That CPU alone writes and reads it, interrupts masked.
///
/// No tick comes before it is due, and two are due a period apart. So a tick that comes sooner after the last due time
/// than that proves the estimate late, and sets it. The least delivery time of late is in the estimate.
#[derive(Debug)]
pub struct TickPhase {
    period: u64,
    /// The last due time at or before the last tick; 0 before the first.
    due: AtomicU64,
}

impl TickPhase {
    /// Of a tick that comes every `period` ticks of the TSC, which has not come yet.
    ///
    /// # Panics
    /// If `period` is 0.
    #[must_use]
    pub const fn new(period: u64) -> Self {
        assert!(period > 0, "a tick has a period");
        Self {
            period,
            due: AtomicU64::new(0),
        }
    }

    /// The timer was set at `now_tsc`: the first tick is due a period later.
    pub fn restart(&self, now_tsc: u64) {
        self.due.store(now_tsc, Relaxed);
    }

    /// A tick has come, and its handler begins at `now_tsc`. Returns when it was due: the first time, if several were
    /// since the tick before.
    pub fn note(&self, now_tsc: u64) -> u64 {
        let last = self.due.load(Relaxed);
        let first = last + self.period + (self.period >> LEAK);
        if last == 0 || now_tsc < first {
            self.due.store(now_tsc, Relaxed);
            return now_tsc;
        }
        self.due
            .store(now_tsc - (now_tsc - first) % self.period, Relaxed);
        first
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const PERIOD: u64 = 1 << 20;

    #[test]
    fn ticks_that_come_late_do_not_move_the_phase_and_early_ones_do() {
        let phase = TickPhase::new(PERIOD);
        let leak = PERIOD >> LEAK;
        let start = 77 * PERIOD;
        phase.restart(start);
        for (came, due) in [
            // Late, by more and more.
            (start + PERIOD + 5_000, start + PERIOD + leak),
            (start + 2 * PERIOD + 70_000, start + 2 * PERIOD + 2 * leak),
            // On time: what had leaked is taken back.
            (start + 3 * PERIOD, start + 3 * PERIOD),
            // Three were missed: the first of them was due a period after the last.
            (start + 7 * PERIOD + 900, start + 4 * PERIOD + leak),
            (start + 8 * PERIOD + 900, start + 8 * PERIOD + 2 * leak),
        ] {
            assert_eq!(phase.note(came), due, "{came}");
        }
    }

    #[test]
    fn a_first_tick_is_taken_as_punctual_until_a_sooner_one_comes() {
        let phase = TickPhase::new(PERIOD);
        assert_eq!(phase.note(9 * PERIOD + 400_000), 9 * PERIOD + 400_000);
        assert_eq!(phase.note(10 * PERIOD + 3), 10 * PERIOD + 3);
        assert_eq!(
            phase.note(11 * PERIOD + 2_000),
            11 * PERIOD + 3 + (PERIOD >> LEAK)
        );
    }

    /// A timer that is slow by a ten-thousandth of a period: the estimate stays within its leak.
    #[test]
    fn a_slow_timer_is_followed() {
        let phase = TickPhase::new(PERIOD);
        phase.restart(PERIOD);
        let slow = PERIOD + PERIOD / 10_000;
        for tick in 1..10_000 {
            let due = PERIOD + tick * slow;
            let told = phase.note(due);
            assert!(
                told <= due && due - told < PERIOD >> LEAK,
                "tick {tick}: {told} of {due}"
            );
        }
    }
}
