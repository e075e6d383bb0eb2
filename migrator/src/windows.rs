//! Which windows are open: how many, for those who spin until one closes, and whose a page is.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::{Gfn, MAX_SLOT_PAGES, PageRange};

/// Movers whose windows are told apart.
const MOVERS: usize = 64;
/// A range as one word: the low bits are its length less one. What is left has room for the frames of 54 bits of
/// addresses, and no processor has more than 52.
const PAGES_BITS: u32 = MAX_SLOT_PAGES.trailing_zeros();

#[derive(Default)]
#[repr(align(128))]
struct Line(AtomicU64);

/// One mover's window, written by that mover alone.
#[derive(Default)]
#[repr(align(128))]
struct Slot {
    /// Odd while it is open.
    sequence: AtomicU64,
    /// The pages of the window that is open, or was.
    range: AtomicU64,
}

impl Slot {
    fn open(&self, range: PageRange) {
        debug_assert!(range.pages > 0 && range.pages <= 1 << PAGES_BITS);
        let word = range.start.0 << PAGES_BITS | u64::from(range.pages.wrapping_sub(1));
        // Each release pairs with the acquire of the same word in `holds`: who reads this range sees the
        // last window closed, and who sees this one open reads its range.
        self.range.store(word, Ordering::Release);
        self.step();
    }

    fn step(&self) {
        let sequence = self.sequence.load(Ordering::Relaxed);
        self.sequence.store(sequence + 1, Ordering::Release);
    }

    /// The range of the window that is open, as a word, and its sequence.
    fn read(&self) -> Option<(u64, u64)> {
        let sequence = self.sequence.load(Ordering::Acquire);
        let word = self.range.load(Ordering::Acquire);
        // A range of the next window came with the end of this one.
        let same = self.sequence.load(Ordering::Relaxed) == sequence;
        (sequence % 2 == 1 && same).then_some((word, sequence))
    }

    /// The first page of the window that is open, and its sequence.
    fn first(&self) -> Option<(Gfn, u64)> {
        let (word, sequence) = self.read()?;
        Some((Gfn(word >> PAGES_BITS), sequence))
    }

    /// The sequence of the window that is open and has the page.
    fn holds(&self, gfn: Gfn) -> Option<u64> {
        let (word, sequence) = self.read()?;
        let nth = gfn.0.checked_sub(word >> PAGES_BITS)?;
        (nth <= word & ((1 << PAGES_BITS) - 1)).then_some(sequence)
    }
}

/// The window in which a page is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The mover's number.
    pub mover: u16,
    /// Which of its windows: no two have the same.
    pub sequence: u64,
}

/// The windows of all movers. A vCPU that met a window without sleeping in the kernel spins on it.
pub struct Windows {
    opened: Line,
    closed: Line,
    slots: Box<[Slot]>,
}

impl Default for Windows {
    fn default() -> Self {
        Self {
            opened: Line::default(),
            closed: Line::default(),
            slots: std::iter::repeat_with(Slot::default).take(MOVERS).collect(),
        }
    }
}

impl Windows {
    /// Whether a window of any mover is open.
    #[must_use]
    pub fn is_open(&self) -> bool {
        // Closed first: a window that opens in between may be reported, one that closed never is.
        let closed = self.closed();
        self.opened.0.load(Ordering::Acquire) != closed
    }

    /// How many windows have closed so far. A change means that a page may be back.
    #[must_use]
    pub fn closed(&self) -> u64 {
        // Acquire pairs with the release in `close`: the page of that window is mapped.
        self.closed.0.load(Ordering::Acquire)
    }

    /// The window in which the page at `gfn` is now: which mover whoever touches it waits for. Takes no
    /// lock. Only the windows of the first 64 movers are known by their pages.
    #[must_use]
    pub fn holder(&self, gfn: Gfn) -> Option<Holder> {
        (0..).zip(&*self.slots).find_map(|(mover, slot)| {
            let sequence = slot.holds(gfn)?;
            Some(Holder { mover, sequence })
        })
    }

    /// The window that is open and its first page, if there is one alone.
    #[must_use]
    pub fn only(&self) -> Option<(Gfn, Holder)> {
        let mut open = (0..).zip(&*self.slots).filter_map(|(mover, slot)| {
            let (gfn, sequence) = slot.first()?;
            Some((gfn, Holder { mover, sequence }))
        });
        let one = open.next()?;
        open.next().is_none().then_some(one)
    }

    /// A window that is open now and has a page of `range`.
    #[must_use]
    pub fn over(&self, range: PageRange) -> Option<Holder> {
        (0..).zip(&*self.slots).find_map(|(mover, slot)| {
            let (word, sequence) = slot.read()?;
            let pages = (word & ((1 << PAGES_BITS) - 1)) as u32 + 1;
            let window = PageRange::new(Gfn(word >> PAGES_BITS), pages);
            window.overlaps(range).then_some(Holder { mover, sequence })
        })
    }

    /// Whether `holder` is open still, and has the page at `gfn`.
    #[must_use]
    pub fn is_held(&self, gfn: Gfn, holder: Holder) -> bool {
        let slot = self.slots.get(usize::from(holder.mover));
        slot.and_then(|slot| slot.holds(gfn)) == Some(holder.sequence)
    }

    /// The window of mover `nth` opens. Movers say so themselves; whoever else moves pages does by a number
    /// that no mover has, which is this caller's alone.
    ///
    /// # Panics
    /// In debug builds, if the range has no page, or more than [`MAX_SLOT_PAGES`].
    pub fn open(&self, nth: u16, range: PageRange) {
        if let Some(slot) = self.slots.get(usize::from(nth)) {
            slot.open(range);
        }
        // Sequentially consistent with the unmapping system call that follows it on this CPU.
        self.opened.0.fetch_add(1, Ordering::SeqCst);
    }

    /// It closes, that was open.
    pub fn close(&self, nth: u16) {
        if let Some(slot) = self.slots.get(usize::from(nth)) {
            slot.step();
        }
        self.closed.0.fetch_add(1, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RANGE: PageRange = PageRange {
        start: Gfn(7),
        pages: 2,
    };

    #[test]
    fn open_until_closed() {
        let windows = Windows::default();
        assert!(!windows.is_open());
        windows.open(0, RANGE);
        windows.open(1, RANGE);
        windows.close(0);
        assert!(windows.is_open());
        windows.close(1);
        assert!(!windows.is_open());
        assert_eq!(windows.closed(), 2);
    }

    #[test]
    fn a_page_is_its_windows_as_long_as_that_is_open() {
        let windows = Windows::default();
        let whole = PageRange {
            start: Gfn(512),
            pages: 512,
        };
        windows.open(3, RANGE);
        windows.open(5, whole);
        windows.open(64, RANGE);
        for (gfn, mover) in [
            (6, None),
            (7, Some(3)),
            (8, Some(3)),
            (9, None),
            (511, None),
            (512, Some(5)),
            (1023, Some(5)),
            (1024, None),
        ] {
            let holder = windows.holder(Gfn(gfn));
            assert_eq!(holder.map(|holder| holder.mover), mover, "{gfn}");
            assert!(holder.is_none_or(|holder| windows.is_held(Gfn(gfn), holder)));
        }
        let first = windows.holder(Gfn(7)).expect("open");
        assert!(!windows.is_held(Gfn(9), first));
        windows.close(3);
        assert_eq!(windows.holder(Gfn(7)), None);
        windows.open(3, RANGE);
        let second = windows.holder(Gfn(7)).expect("open again");
        assert!(!windows.is_held(Gfn(7), first) && windows.is_held(Gfn(7), second));
    }
}
