//! One place for a subscription: who movers tell, and what its faults look at.

use std::sync::Arc;

use super::Consumer;
use super::pool::{Pool, Ticket};
use super::sync::{AtomicU64, Backoff, Ordering, UnsafeCell, fence};
use crate::lock_order::{Class, may_wait};
use crate::{Gfn, PageRange};

const FREE: u64 = 0;
const ACTIVE: u64 = 1;
const LEAVING: u64 = 2;

/// How an invalidation's end counts; all but the first are busted on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Matching {
    /// Where its start counted.
    Start,
    /// Everywhere.
    Unmatched,
    /// Everywhere, but not below zero.
    Clamped,
}

pub(super) struct Registered {
    pub(super) consumer: Arc<dyn Consumer>,
    pub(super) name: Arc<str>,
}

/// A place, free or with a subscription in it.
pub(super) struct Listener {
    state: AtomicU64,
    start: AtomicU64,
    pages: AtomicU64,
    /// Invalidations that use the place; it is not given up until there is none.
    pins: AtomicU64,
    /// Invalidations in progress, as a two's complement number: busted forms make it negative.
    open: AtomicU64,
    /// Invalidations that were caught.
    sequence: AtomicU64,
    /// Slots of the pool whose invalidations were open when this was registered, as a mask; and
    /// their words.
    awaits: AtomicU64,
    awaited: Box<[AtomicU64]>,
    /// Invalidations that were given up because of this consumer.
    late: AtomicU64,
    registered: UnsafeCell<Option<Registered>>,
}

// SAFETY: all is atomic but `registered`, whose `Registered` is `Send` and `Sync`. It is written by
// `activate` and `vacate` alone, which ask for a place that nobody else has: it is `FREE` in the
// first case and `LEAVING` without pins in the second, and both callers hold the registrants' lock or
// own the subscription. It is read by those who hold a pin, or that lock, only.
unsafe impl Sync for Listener {}
// SAFETY: as above.
unsafe impl Send for Listener {}

impl Listener {
    pub(super) fn new(pool: usize) -> Self {
        Self {
            state: AtomicU64::new(FREE),
            start: AtomicU64::new(0),
            pages: AtomicU64::new(0),
            pins: AtomicU64::new(0),
            open: AtomicU64::new(0),
            sequence: AtomicU64::new(0),
            awaits: AtomicU64::new(0),
            awaited: (0..pool).map(|_| AtomicU64::new(0)).collect(),
            late: AtomicU64::new(0),
            registered: UnsafeCell::new(None),
        }
    }

    pub(super) fn is_free(&self) -> bool {
        self.state.load(Ordering::Acquire) == FREE
    }

    pub(super) fn is_active(&self) -> bool {
        self.state.load(Ordering::Acquire) == ACTIVE
    }

    pub(super) fn range(&self) -> PageRange {
        let pages = self.pages.load(Ordering::Relaxed) as u32;
        PageRange::new(Gfn(self.start.load(Ordering::Relaxed)), pages)
    }

    /// Puts a subscription here: from now on movers find it. The caller holds the registrants' lock,
    /// and the place is free.
    pub(super) fn activate(&self, range: PageRange, registered: Registered) {
        debug_assert!(self.is_free());
        self.start.store(range.start.0, Ordering::Relaxed);
        self.pages.store(range.pages.into(), Ordering::Relaxed);
        for word in [&self.open, &self.awaits, &self.late] {
            word.store(0, Ordering::Relaxed);
        }
        // SAFETY: the place is free: no pin is on it, none can be taken before the store below, and
        // the lock keeps other registrants out.
        self.registered
            .with_mut(|place| unsafe { *place = Some(registered) });
        // Pairs with the acquire in `is_active` and `pin`.
        self.state.store(ACTIVE, Ordering::Release);
    }

    /// Has faults wait for what is open in `pool` already. Called once, right after
    /// [`Self::activate`].
    pub(super) fn await_open(&self, pool: &Pool) {
        // Pairs with the fence in `Invalidations::begin`: a mover that does not find the
        // subscription has published its invalidation where this finds it.
        fence(Ordering::SeqCst);
        let mut mask = 0;
        for Ticket { slot, word } in pool.open_in(self.range()) {
            self.awaited[slot].store(word, Ordering::Relaxed);
            mask |= 1 << slot;
        }
        self.awaits.store(mask, Ordering::Release);
    }

    /// Empties the place, once no mover uses it any more. By the owner of the subscription, once.
    pub(super) fn vacate(&self) {
        self.state.store(LEAVING, Ordering::Relaxed);
        // Pairs with the fence in `pin`: a mover sees the state, or this sees its pin.
        fence(Ordering::SeqCst);
        // Those who hold it hold pages.
        may_wait(Class::Range);
        let mut backoff = Backoff::default();
        while self.pins.load(Ordering::Acquire) > 0 {
            backoff.wait();
        }
        // SAFETY: no pin is left, and none is kept that is taken now; a registrant leaves the place
        // alone until it is free.
        let left = self.registered.with_mut(|place| unsafe { (*place).take() });
        // Pairs with the acquire in `is_free`.
        self.state.store(FREE, Ordering::Release);
        // Last: what the consumer does when it goes is its own affair.
        drop(left);
    }

    /// Keeps the subscription here until [`Self::unpin`]. False if there is none.
    pub(super) fn pin(&self) -> bool {
        self.pins.fetch_add(1, Ordering::Relaxed);
        // Pairs with the fence in `vacate`.
        fence(Ordering::SeqCst);
        let active = self.is_active();
        if !active {
            self.unpin();
        }
        active
    }

    pub(super) fn unpin(&self) {
        // Pairs with the acquire in `vacate`: what was done under the pin is over.
        self.pins.fetch_sub(1, Ordering::Release);
    }

    /// Who registered. The caller holds a pin, or the registrants' lock.
    pub(super) fn with_registered<R>(&self, look: impl FnOnce(&Registered) -> R) -> Option<R> {
        // SAFETY: a pin keeps `vacate` waiting, the lock keeps registrants out, and nobody else
        // writes.
        self.registered
            .with(|place| unsafe { (*place).as_ref() }.map(look))
    }

    /// An invalidation begins.
    pub(super) fn count(&self) {
        self.open.fetch_add(1, Ordering::Relaxed);
        // Release: who sees the new sequence sees the count.
        self.sequence.fetch_add(1, Ordering::Release);
    }

    /// One that began while this was being registered; its changes cannot have been seen yet.
    pub(super) fn count_late(&self) {
        self.open.fetch_add(1, Ordering::Relaxed);
    }

    /// An invalidation ends. Release: who sees the count go sees what was changed.
    pub(super) fn uncount(&self, matching: Matching) {
        if matching == Matching::Clamped {
            let down = |open: u64| (open as i64 > 0).then(|| open - 1);
            let _ = self
                .open
                .fetch_update(Ordering::Release, Ordering::Relaxed, down);
        } else {
            self.open.fetch_sub(1, Ordering::Release);
        }
    }

    /// Invalidations in progress; negative in busted forms.
    pub(super) fn open(&self) -> i64 {
        self.open.load(Ordering::Acquire) as i64
    }

    pub(super) fn sequence(&self) -> u64 {
        self.sequence.load(Ordering::Acquire)
    }

    /// Whether an invalidation is open that was so before this was registered.
    pub(super) fn awaits(&self, pool: &Pool) -> bool {
        let mask = self.awaits.load(Ordering::Acquire);
        mask != 0 && self.look_again(mask, pool)
    }

    #[cold]
    fn look_again(&self, mask: u64, pool: &Pool) -> bool {
        let mut open = 0;
        for (slot, word) in self.awaited.iter().enumerate() {
            let word = word.load(Ordering::Relaxed);
            if mask & 1 << slot != 0 && pool.is_open(Ticket { slot, word }) {
                open |= 1 << slot;
            }
        }
        // Release: who finds the mask empty has seen those ends too.
        self.awaits.fetch_and(open, Ordering::AcqRel);
        open != 0
    }

    pub(super) fn is_late(&self) {
        self.late.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn times_late(&self) -> u64 {
        self.late.load(Ordering::Relaxed)
    }
}
