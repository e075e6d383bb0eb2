//! Which stalls happened inside a window of the very page that was touched.

use super::window_log::Window;
use std::collections::VecDeque;
use underfoot_abi::{PAGE_SIZE, StallRecord};

/// How long a window is remembered after it closed: longer than any drain is late.
const MEMORY_S: u64 = 1;

/// Recent windows of one mover in the order of time, and what they explain.
///
/// A mover's windows follow one another, so those that overlap a stall lie side by side.
pub struct Overlap {
    recent: VecDeque<Window>,
    memory_ticks: u64,
}

impl Overlap {
    /// Remembers windows for a second of a counter that runs at `tsc_khz`.
    pub fn new(tsc_khz: u64) -> Self {
        Self {
            recent: VecDeque::new(),
            memory_ticks: tsc_khz * 1000 * MEMORY_S,
        }
    }

    /// Adds the mover's next window and forgets those that are too old to matter.
    pub fn add(&mut self, window: Window) {
        while let Some(oldest) = self.recent.front()
            && oldest.end_tsc + self.memory_ticks < window.start_tsc
        {
            self.recent.pop_front();
        }
        self.recent.push_back(window);
    }

    /// Whether `stall` overlaps a window of the page that it accessed (guest-virtual and
    /// guest-physical addresses are the same in our guest).
    pub fn explains(&self, stall: &StallRecord) -> bool {
        let gfn = stall.gva / PAGE_SIZE as u64;
        let first = self
            .recent
            .partition_point(|window| window.end_tsc < stall.start_tsc);
        self.recent
            .range(first..)
            .take_while(|window| window.start_tsc <= stall.end_tsc)
            .any(|window| {
                (window.range.start.0..window.range.start.0 + u64::from(window.range.pages))
                    .contains(&gfn)
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use underfoot_migrator::{Gfn, PageRange};

    fn window(start_tsc: u64, end_tsc: u64, gfn: u64, pages: u32) -> Window {
        Window {
            start_tsc,
            end_tsc,
            range: PageRange {
                start: Gfn(gfn),
                pages,
            },
        }
    }

    fn stall(start_tsc: u64, end_tsc: u64, gfn: u64) -> StallRecord {
        StallRecord {
            start_tsc,
            end_tsc,
            gva: gfn * 4096 + 8,
            context: 0,
        }
    }

    #[test]
    fn needs_both_the_time_and_the_page() {
        let mut overlap = Overlap::new(1);
        overlap.add(window(100, 200, 5, 2));
        overlap.add(window(300, 400, 9, 1));
        for (start, end, gfn, explained) in [
            (150, 500, 5, true),
            (150, 500, 6, true),
            (150, 500, 7, false),
            (150, 500, 9, true),
            (201, 299, 5, false),
            (201, 299, 9, false),
            (200, 210, 6, true),
            (290, 300, 9, true),
            (401, 402, 9, false),
            (0, 99, 5, false),
        ] {
            assert_eq!(
                overlap.explains(&stall(start, end, gfn)),
                explained,
                "{start}..{end} of {gfn}"
            );
        }
    }

    #[test]
    fn forgets_what_is_old() {
        let mut overlap = Overlap::new(1);
        overlap.add(window(1, 2, 5, 1));
        overlap.add(window(5000, 5001, 6, 1));
        assert!(!overlap.explains(&stall(0, 10, 5)));
        assert!(overlap.explains(&stall(5000, 5000, 6)));
    }
}
