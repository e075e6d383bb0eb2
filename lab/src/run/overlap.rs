//! Which stalls happened inside a window of the very page that was touched.

use super::window_log::Window;
use std::collections::VecDeque;
use underfoot_abi::{PAGE_SIZE, StallRecord};

/// How long a window is remembered after it closed: longer than any drain is late.
const MEMORY_S: u64 = 1;

/// Windows that are remembered at most: a guest that says what it likes may not fill the host's memory.
const MOST: usize = 1 << 16;

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
            && (self.recent.len() == MOST
                || oldest.end_tsc.saturating_add(self.memory_ticks) < window.start_tsc)
        {
            self.recent.pop_front();
        }
        self.recent.push_back(window);
    }

    /// The last window of the page accessed that `stall` overlaps (guest-virtual and guest-physical
    /// addresses are the same in our guest).
    pub fn window_of(&self, stall: &StallRecord) -> Option<&Window> {
        let gfn = stall.gva / PAGE_SIZE as u64;
        let recent = &self.recent;
        let first = recent.partition_point(|window| window.end_tsc < stall.start_tsc);
        let behind = recent.partition_point(|window| window.start_tsc <= stall.end_tsc);
        let holds = |window: &&Window| {
            let range = window.range;
            (range.start.0..range.start.0 + u64::from(range.pages)).contains(&gfn)
        };
        // A stall that ends before it starts, which the guest may well say, is in no window.
        recent.range(first..behind.max(first)).rev().find(holds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::timeline::Span;
    use underfoot_migrator::{Gfn, PageRange};

    fn window(start_tsc: u64, end_tsc: u64, gfn: u64, pages: u32) -> Window {
        Window {
            start_tsc,
            end_tsc,
            away: Span::new(start_tsc, end_tsc),
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
            ..StallRecord::default()
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
            (500, 50, 5, false),
        ] {
            assert_eq!(
                overlap.window_of(&stall(start, end, gfn)).is_some(),
                explained,
                "{start}..{end} of {gfn}"
            );
        }
    }

    #[test]
    fn the_last_of_several_windows_counts() {
        let mut overlap = Overlap::new(1);
        overlap.add(window(100, 200, 5, 1));
        overlap.add(window(300, 400, 5, 1));
        let last = overlap.window_of(&stall(150, 500, 5));
        assert_eq!(last.map(|window| window.end_tsc), Some(400));
    }

    #[test]
    fn forgets_what_is_old() {
        let mut overlap = Overlap::new(1);
        overlap.add(window(1, 2, 5, 1));
        overlap.add(window(5000, 5001, 6, 1));
        assert_eq!(overlap.window_of(&stall(0, 10, 5)), None);
        assert!(overlap.window_of(&stall(5000, 5000, 6)).is_some());
    }
}
