//! The interrupts of vCPUs, and which of them came while their vCPU waited for a page in flight.
//!
//! An interrupt within a stall does not tell: one that was pending all the time is taken at the stall's end, and a busy
//! host may have a vCPU go on for a while before the mover sees its own window closed. What tells is whether the handler
//! began while the page was certainly away; and of a tick is known when it was due.

use super::window_log::Window;
use crate::record::Answers;
use std::collections::VecDeque;
use underfoot_abi::{Context, InterruptRecord, StallRecord};

/// How long an interrupt is remembered: longer than any stall waits to be judged.
const MEMORY_S: u64 = 1;
/// Interrupts of one vCPU that are remembered at most: a guest may not fill the host's memory.
const MOST: usize = 1 << 14;
/// A tick that is due later than so long before the page may be back says nothing: delivery takes its time.
const DELIVERY_US: u64 = 50;

/// Recent interrupts by vCPU, in the order of their handlers' ends.
pub struct Interrupts {
    by_vcpu: Vec<VecDeque<InterruptRecord>>,
    tsc_khz: u64,
}

impl Interrupts {
    /// Of so many vCPUs, on a counter that runs at `tsc_khz`.
    pub fn new(vcpus: u32, tsc_khz: u64) -> Self {
        Self {
            by_vcpu: (0..vcpus).map(|_| VecDeque::new()).collect(),
            tsc_khz,
        }
    }

    /// Adds what `vcpu` took next.
    pub fn add(&mut self, vcpu: u32, record: InterruptRecord) {
        let Some(recent) = self.by_vcpu.get_mut(vcpu as usize) else {
            return;
        };
        let memory = MEMORY_S * 1000 * self.tsc_khz;
        let old = |oldest: &InterruptRecord| oldest.end_tsc.saturating_add(memory) < record.end_tsc;
        while recent.len() == MOST || recent.front().is_some_and(old) {
            recent.pop_front();
        }
        recent.push_back(record);
    }

    /// What became of the interrupts of `vcpu` in `stall` while the page was away in `window`; `None` if the access did not
    /// begin then, or had interrupts masked.
    ///
    /// A stall that began before was for another reason at first, and an interrupt in it may be that reason.
    pub fn met(&self, vcpu: u32, stall: &StallRecord, window: &Window) -> Option<Answers> {
        let began = stall.start_tsc;
        let masked = Context(stall.context).masked();
        if !(window.away.start..window.away.end).contains(&began) || masked {
            return None;
        }
        let recent = self.by_vcpu.get(vcpu as usize)?;
        let first = recent.partition_point(|taken| taken.end_tsc <= began);
        let waited = began..window.away.end.min(stall.end_tsc);
        let deliverable = began..waited.end.saturating_sub(DELIVERY_US * self.tsc_khz / 1000);
        let [mut interrupted, mut due, mut in_time] = [false; 3];
        for taken in recent.range(first..) {
            let in_wait = waited.contains(&taken.start_tsc);
            interrupted |= in_wait;
            let was_due = taken.due_tsc.is_some_and(|due| deliverable.contains(&due));
            // A tick that was not handled before the access had ended is another access's.
            if was_due && taken.start_tsc <= stall.end_tsc {
                due = true;
                in_time |= in_wait;
            }
        }
        Some(Answers {
            stalls: 1,
            interrupted: interrupted.into(),
            due: due.into(),
            late: (due && !in_time).into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::timeline::Span;
    use underfoot_migrator::{Gfn, PageRange};

    /// A microsecond has so many ticks.
    const US: u64 = 1;

    fn taken(due_us: Option<u64>, start_us: u64) -> InterruptRecord {
        InterruptRecord {
            start_tsc: start_us * US,
            end_tsc: (start_us + 5) * US,
            due_tsc: due_us.map(|due| due * US),
        }
    }

    fn stall(start_us: u64, end_us: u64, context: u64) -> StallRecord {
        StallRecord {
            start_tsc: start_us * US,
            end_tsc: end_us * US,
            gva: 0x5000,
            context,
            ..StallRecord::default()
        }
    }

    /// The page is away from 1,000 to 2,000 µs, and open for a while before and after.
    fn window() -> Window {
        Window {
            start_tsc: 900 * US,
            end_tsc: 2040 * US,
            away: Span::new(1000 * US, 2000 * US),
            range: PageRange {
                start: Gfn(5),
                pages: 1,
            },
        }
    }

    #[test]
    fn an_interrupt_counts_by_when_it_was_due_and_when_it_was_taken() {
        let answers = |interrupted, due, late| Answers {
            stalls: 1,
            interrupted,
            due,
            late,
        };
        for (record, expected) in [
            // Before the access, in the window, at its end, in the rest of the stall.
            (taken(Some(900), 950), answers(0, 0, 0)),
            (taken(Some(1200), 1210), answers(1, 1, 0)),
            (taken(Some(1200), 2003), answers(0, 1, 1)),
            (taken(Some(2050), 2060), answers(0, 0, 0)),
            // Due so late that it could hardly be delivered before the close.
            (taken(Some(1949), 2010), answers(0, 1, 1)),
            (taken(Some(1950), 2010), answers(0, 0, 0)),
            (taken(Some(1950), 1999), answers(1, 0, 0)),
            // Due before the access, or no tick at all.
            (taken(Some(1099), 1110), answers(1, 0, 0)),
            (taken(None, 1500), answers(1, 0, 0)),
            (taken(None, 2003), answers(0, 0, 0)),
            // Taken in a later access.
            (taken(Some(1200), 2300), answers(0, 0, 0)),
        ] {
            let mut interrupts = Interrupts::new(2, 1000);
            interrupts.add(1, record);
            let met = |vcpu| interrupts.met(vcpu, &stall(1100, 2100, 0), &window());
            assert_eq!(met(1), Some(expected), "{record:?}");
            assert_eq!(met(0), Some(answers(0, 0, 0)), "{record:?}");
            assert_eq!(met(2), None);
        }
    }

    #[test]
    fn one_tick_in_time_is_enough() {
        let mut interrupts = Interrupts::new(1, 1000);
        interrupts.add(0, taken(Some(1200), 1210));
        interrupts.add(0, taken(Some(1600), 2003));
        let met = interrupts.met(0, &stall(1100, 2100, 0), &window());
        assert_eq!(met.map(|met| (met.due, met.late)), Some((1, 0)));
    }

    #[test]
    fn stalls_that_do_not_tell_are_left_out() {
        let interrupts = Interrupts::new(1, 1000);
        for (stall, told) in [
            (stall(999, 2100, 0), false),
            (stall(1000, 2100, 0), true),
            (stall(1999, 2100, 0), true),
            (stall(2000, 2100, 0), false),
            (stall(1100, 2100, Context::MASKED), false),
            // A guest may say what it likes.
            (stall(1100, 5, 0), true),
            (stall(u64::MAX / 2, 0, u64::MAX), false),
        ] {
            let met = interrupts.met(0, &stall, &window());
            assert_eq!(met.is_some(), told, "{stall:?}");
        }
    }

    #[test]
    fn what_is_old_or_too_much_is_forgotten() {
        let mut interrupts = Interrupts::new(1, 1);
        for tsc in 0..=MOST as u64 {
            let record = InterruptRecord {
                start_tsc: tsc / 100,
                end_tsc: tsc / 100,
                due_tsc: None,
            };
            interrupts.add(0, record);
        }
        assert_eq!(interrupts.by_vcpu[0].len(), MOST);
        interrupts.add(0, taken(None, 5000));
        assert_eq!(interrupts.by_vcpu[0].len(), 1);
    }
}
