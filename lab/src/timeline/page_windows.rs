//! The recent windows of each page.

use super::Span;
use std::collections::{HashMap, VecDeque};
use underfoot_migrator::PageRange;

/// Windows by page, for a bounded time.
#[derive(Debug)]
pub struct PageWindows {
    by_page: HashMap<u64, VecDeque<Span>>,
    frames: u64,
    memory_ticks: u64,
}

impl PageWindows {
    /// Of a guest of `frames` frames: a page's windows are remembered until one is opened `memory_ticks` later.
    #[must_use]
    pub fn new(frames: u64, memory_ticks: u64) -> Self {
        Self {
            by_page: HashMap::new(),
            frames,
            memory_ticks,
        }
    }

    /// Adds a window. Those of one page share no time.
    pub fn add(&mut self, range: PageRange, window: Span) {
        let first = range.start.0;
        // A guest's own mover may say what it likes; that may not fill the host's memory.
        let behind = first
            .saturating_add(u64::from(range.pages))
            .min(self.frames);
        for page in first..behind {
            let windows = self.by_page.entry(page).or_default();
            let memory = self.memory_ticks;
            let old = |oldest: &Span| oldest.end.saturating_add(memory) < window.start;
            while windows.front().is_some_and(old) {
                windows.pop_front();
            }
            // Movers are told one after another, so that another's later window may be there already.
            let at = windows.partition_point(|other| other.end <= window.end);
            windows.insert(at, window);
        }
    }

    /// Whether the guest has this page, which it may say of any number.
    #[must_use]
    pub const fn has(&self, page: u64) -> bool {
        page < self.frames
    }

    /// The windows of `page` that share some time with `span`, in the order of time.
    pub fn over(&self, page: u64, span: Span) -> impl Iterator<Item = Span> + '_ {
        let windows = self.by_page.get(&page).into_iter();
        windows.flat_map(move |windows| {
            let first = windows.partition_point(|window| window.end <= span.start);
            let later = windows.range(first..).copied();
            later.take_while(move |window| window.start < span.end)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use underfoot_migrator::Gfn;

    #[test]
    fn windows_belong_to_their_pages_and_times() {
        let mut windows = PageWindows::new(10, 1_000);
        let mut add = |first, pages, start, end| {
            let range = PageRange {
                start: Gfn(first),
                pages,
            };
            windows.add(range, Span::new(start, end));
        };
        add(5, 2, 100, 200);
        add(6, 1, 450, 460);
        add(6, 1, 300, 400);
        add(9, 1_000_000, 500, 600);
        add(6, 1, 1_250, 1_260);
        let of = |page, start, end| -> Vec<u64> {
            let over = windows.over(page, Span::new(start, end));
            over.map(|window| window.start).collect()
        };
        for (page, start, end, expected) in [
            (5, 0, 1_000, vec![100]),
            (5, 200, 1_000, vec![]),
            (6, 0, 2_000, vec![300, 450, 1_250]),
            (6, 0, 300, vec![]),
            (9, 550, 560, vec![500]),
            (10, 0, 9_999, vec![]),
        ] {
            assert_eq!(of(page, start, end), expected, "{page}: {start}..{end}");
        }
    }
}
