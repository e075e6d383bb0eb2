//! Open invalidations in a fixed number of slots.

use super::sync::{AtomicU64, Ordering, fence};
use crate::{Gfn, PageRange};

/// What a slot's word says in its low bits; the rest counts the uses of the slot, so that a word
/// names one invalidation for ever.
const CLOSED: u64 = 0;
/// Taken; its range is being written.
const CLAIMED: u64 = 1;
/// Holds an open invalidation.
const OPEN: u64 = 2;
const STATE: u64 = 3;
const NEXT: u64 = STATE + 1;

/// A cache line of its own, or movers on different slots would meet.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Slot {
    word: AtomicU64,
    start: AtomicU64,
    pages: AtomicU64,
}

/// One invalidation in the pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ticket {
    pub(super) slot: usize,
    pub(super) word: u64,
}

#[derive(Debug)]
pub(super) struct Pool(Box<[Slot]>);

impl Pool {
    pub(super) fn new(slots: usize) -> Self {
        Self((0..slots).map(|_| Slot::default()).collect())
    }

    /// Publishes an invalidation of `range`. `None` if every slot is taken.
    pub(super) fn open(&self, range: PageRange) -> Option<Ticket> {
        self.0.iter().enumerate().find_map(|(slot, entry)| {
            let word = entry.word.load(Ordering::Relaxed);
            if word & STATE != CLOSED {
                return None;
            }
            // Acquire: pairs with the release in `close`; what the last owner did is over.
            let claimed = word | CLAIMED;
            entry
                .word
                .compare_exchange(word, claimed, Ordering::Acquire, Ordering::Relaxed)
                .ok()?;
            // Pairs with the fence in `open_in`: who reads these words sees that the slot is no
            // longer what it was.
            fence(Ordering::Release);
            entry.start.store(range.start.0, Ordering::Relaxed);
            entry.pages.store(range.pages.into(), Ordering::Relaxed);
            let word = word | OPEN;
            entry.word.store(word, Ordering::Release);
            Some(Ticket { slot, word })
        })
    }

    /// Ends it. What the caller changed before is seen by who finds it ended.
    pub(super) fn close(&self, ticket: Ticket) {
        let word = (ticket.word & !STATE).wrapping_add(NEXT) | CLOSED;
        self.0[ticket.slot].word.store(word, Ordering::Release);
    }

    /// Whether it has not ended.
    pub(super) fn is_open(&self, ticket: Ticket) -> bool {
        self.0[ticket.slot].word.load(Ordering::Acquire) == ticket.word
    }

    /// Those that are open and overlap `range`.
    pub(super) fn open_in(&self, range: PageRange) -> impl Iterator<Item = Ticket> {
        self.0.iter().enumerate().filter_map(move |(slot, entry)| {
            let word = entry.word.load(Ordering::Acquire);
            if word & STATE != OPEN {
                return None;
            }
            let start = entry.start.load(Ordering::Relaxed);
            let pages = entry.pages.load(Ordering::Relaxed) as u32;
            fence(Ordering::Acquire);
            // A word that has changed belongs to an invalidation that ended, or to a later one whose
            // mover will look at the subscriptions itself.
            let same = entry.word.load(Ordering::Relaxed) == word;
            let overlaps = PageRange::new(Gfn(start), pages).overlaps(range);
            (same && overlaps).then_some(Ticket { slot, word })
        })
    }
}
