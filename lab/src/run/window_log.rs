//! The windows of one mover, handed to the thread that matches them with stalls.

use crate::timeline::Span;
use std::sync::atomic::{AtomicU64, Ordering};
use underfoot_abi::WindowRecord;
use underfoot_migrator::Gfn;
use underfoot_migrator::PageRange;

/// Windows that can wait for the reader: at 200,000 a second, a third of a second.
const ROOM: usize = 1 << 16;

/// The time in which some pages were unavailable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Before the call that unmaps, in TSC ticks.
    pub start_tsc: u64,
    /// After the call that maps, in TSC ticks.
    pub end_tsc: u64,
    /// From the return of the call that unmaps until the new frames held the contents: in it the pages were certainly
    /// away. Empty where nobody knows.
    pub away: Span,
    /// Which pages.
    pub range: PageRange,
}

impl Window {
    /// A window of the guest's own mover; `None` if it makes no sense. Pages are virtual there, as the
    /// addresses of stalls are.
    pub fn of_guest(record: WindowRecord) -> Option<Self> {
        let WindowRecord {
            start_tsc,
            end_tsc,
            page,
            ..
        } = record;
        (start_tsc <= end_tsc && page <= u64::from(u32::MAX)).then_some(Self {
            start_tsc,
            end_tsc,
            away: Span::new(end_tsc, end_tsc),
            range: PageRange {
                start: Gfn(page),
                pages: 1,
            },
        })
    }
}

/// One writer (a mover), one reader. A full log drops and counts: it never makes a mover wait.
pub struct WindowLog {
    written: AtomicU64,
    read: AtomicU64,
    dropped: AtomicU64,
    slots: Box<[[AtomicU64; 6]]>,
}

impl Default for WindowLog {
    fn default() -> Self {
        let slots = std::iter::repeat_with(Default::default)
            .take(ROOM)
            .collect();
        Self {
            written: AtomicU64::new(0),
            read: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            slots,
        }
    }
}

impl WindowLog {
    /// Appends a window. Only the one writer may call this.
    pub fn push(&self, window: Window) {
        let at = self.written.load(Ordering::Relaxed);
        // Pairs with the release in `pop`: the slot's old window has been read.
        if at - self.read.load(Ordering::Acquire) == ROOM as u64 {
            self.dropped.store(self.dropped() + 1, Ordering::Relaxed);
            return;
        }
        let slot = &self.slots[at as usize % ROOM];
        slot[0].store(window.start_tsc, Ordering::Relaxed);
        slot[1].store(window.end_tsc, Ordering::Relaxed);
        slot[2].store(window.range.start.0, Ordering::Relaxed);
        slot[3].store(u64::from(window.range.pages), Ordering::Relaxed);
        slot[4].store(window.away.start, Ordering::Relaxed);
        slot[5].store(window.away.end, Ordering::Relaxed);
        // Pairs with the acquire in `pop`: a window that is counted is whole.
        self.written.store(at + 1, Ordering::Release);
    }

    /// Takes windows, the oldest first, up to as many as are there when this is called. Only the one reader may call
    /// this.
    pub fn ready(&self) -> impl Iterator<Item = Window> + '_ {
        let written = self.written.load(Ordering::Acquire);
        let ready = written - self.read.load(Ordering::Relaxed);
        (0..ready).map_while(|_| self.pop())
    }

    fn pop(&self) -> Option<Window> {
        let at = self.read.load(Ordering::Relaxed);
        if at == self.written.load(Ordering::Acquire) {
            return None;
        }
        let slot = &self.slots[at as usize % ROOM];
        let range = PageRange {
            start: Gfn(slot[2].load(Ordering::Relaxed)),
            pages: slot[3].load(Ordering::Relaxed) as u32,
        };
        let window = Window {
            start_tsc: slot[0].load(Ordering::Relaxed),
            end_tsc: slot[1].load(Ordering::Relaxed),
            away: Span::new(
                slot[4].load(Ordering::Relaxed),
                slot[5].load(Ordering::Relaxed),
            ),
            range,
        };
        self.read.store(at + 1, Ordering::Release);
        Some(window)
    }

    /// Windows lost because the reader was too slow.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(n: u64) -> Window {
        Window {
            start_tsc: n,
            end_tsc: n + 1,
            away: Span::new(n, n + 1),
            range: PageRange {
                start: Gfn(n),
                pages: 1,
            },
        }
    }

    #[test]
    fn windows_of_the_guest_are_allegations() {
        let record = |start_tsc, end_tsc, page| WindowRecord {
            start_tsc,
            end_tsc,
            page,
            ..WindowRecord::default()
        };
        let told = Window {
            away: Span::new(6, 6),
            ..window(5)
        };
        assert_eq!(Window::of_guest(record(5, 6, 5)), Some(told));
        assert_eq!(Window::of_guest(record(6, 5, 5)), None);
        assert_eq!(Window::of_guest(record(5, 6, u64::MAX)), None);
    }

    #[test]
    fn what_comes_while_it_is_read_waits_for_the_next_time() {
        let log = WindowLog::default();
        log.push(window(1));
        for n in [1, 2] {
            let windows = log.ready().inspect(|_| log.push(window(n + 1)));
            assert_eq!(windows.take(ROOM).collect::<Vec<_>>(), [window(n)]);
        }
    }

    #[test]
    fn keeps_order_and_counts_what_it_drops() {
        let log = WindowLog::default();
        for n in 0..ROOM as u64 + 3 {
            log.push(window(n));
        }
        assert_eq!(log.dropped(), 3);
        for n in 0..ROOM as u64 {
            assert_eq!(log.pop(), Some(window(n)));
        }
        assert_eq!(log.pop(), None);
        log.push(window(7));
        assert_eq!(log.pop(), Some(window(7)));
    }
}
