//! The recent windows of each page.

use super::Span;
use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use underfoot_migrator::PageRange;

/// Windows of so many pages are kept by block: to keep each by page costs more than a mover that works in batches leaves.
const WIDE: u64 = 8;
/// Pages of a block.
const BLOCK: u64 = 512;

/// Windows by page, for a bounded time.
#[derive(Debug)]
pub struct PageWindows {
    /// Of few pages, by each of them.
    by_page: HashMap<u64, Recent>,
    /// Of many, by each block that they have a part of.
    by_block: HashMap<u64, Recent>,
    frames: u64,
    memory_ticks: u64,
}

/// Windows in the order of their ends.
#[derive(Debug, Default)]
struct Recent(VecDeque<(Range<u64>, Span)>);

impl PageWindows {
    /// Of a guest of `frames` frames: a page's windows are remembered until one is opened `memory_ticks` later.
    #[must_use]
    pub fn new(frames: u64, memory_ticks: u64) -> Self {
        Self {
            by_page: HashMap::new(),
            by_block: HashMap::new(),
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
        let (recent, each) = if behind.saturating_sub(first) < WIDE {
            (&mut self.by_page, 1)
        } else {
            (&mut self.by_block, BLOCK)
        };
        for place in first / each..behind.div_ceil(each) {
            let recent = recent.entry(place).or_default();
            recent.add(first..behind, window, self.memory_ticks);
        }
    }

    /// Whether the guest has this page, which it may say of any number.
    #[must_use]
    pub const fn has(&self, page: u64) -> bool {
        page < self.frames
    }

    /// The windows of `page` that share some time with `span`, in no order.
    pub fn over(&self, page: u64, span: Span) -> impl Iterator<Item = Span> + '_ {
        let recent = self.by_page.get(&page).into_iter();
        let recent = recent.chain(self.by_block.get(&(page / BLOCK)));
        recent.flat_map(move |recent| recent.over(page, span))
    }
}

impl Recent {
    fn add(&mut self, pages: Range<u64>, window: Span, memory_ticks: u64) {
        let old = |oldest: &(_, Span)| oldest.1.end.saturating_add(memory_ticks) < window.start;
        while self.0.front().is_some_and(old) {
            self.0.pop_front();
        }
        // Movers are told one after another, so that another's later window may be there already.
        let at = self.0.partition_point(|(_, other)| other.end <= window.end);
        self.0.insert(at, (pages, window));
    }

    fn over(&self, page: u64, span: Span) -> impl Iterator<Item = Span> + '_ {
        let first = self
            .0
            .partition_point(|(_, window)| window.end <= span.start);
        let later = self.0.range(first..);
        let shared =
            later.filter(move |(pages, window)| pages.contains(&page) && window.start < span.end);
        shared.map(|(_, window)| *window)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use underfoot_migrator::Gfn;

    #[test]
    fn windows_belong_to_their_pages_and_times() {
        let mut windows = PageWindows::new(1_600, 1_000);
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
        add(6, 1, 1_250, 1_260);
        // By block: of two movers, the later one told first.
        add(600, 1_000, 350, 700);
        add(300, 300, 340, 650);
        add(1_590, 2_000, 800, 900);
        let of = |page, start, end| -> Vec<u64> {
            let over = windows.over(page, Span::new(start, end));
            over.map(|window| window.start).collect()
        };
        for (page, start, end, expected) in [
            (5, 0, 1_000, vec![100]),
            (5, 200, 1_000, vec![]),
            (6, 0, 2_000, vec![300, 450, 1_250]),
            (6, 0, 300, vec![]),
            (299, 0, 9_999, vec![]),
            (300, 0, 9_999, vec![340]),
            (599, 0, 9_999, vec![340]),
            (599, 650, 9_999, vec![]),
            (600, 0, 350, vec![]),
            (600, 0, 351, vec![350]),
            (1_595, 0, 9_999, vec![350, 800]),
            (1_599, 0, 9_999, vec![350, 800]),
            (1_600, 0, 9_999, vec![]),
        ] {
            assert_eq!(of(page, start, end), expected, "{page}: {start}..{end}");
        }
    }
}
