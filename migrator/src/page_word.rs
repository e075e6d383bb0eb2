//! The state of one guest page: one atomic word on which movers and the fault handler race.
//!
//! | from | to | who |
//! | --- | --- | --- |
//! | idle | moving | a mover, if the page has rested |
//! | moving | idle, hole | that mover: committed, aborted or nothing was there |
//! | moving | lost | that mover: the old frame could not be put back |
//! | moving | away | that mover: the contents wait at an address of its own, to be fetched |
//! | idle, hole | populating | the fault handler |
//! | away | populating | the fault handler, or that mover |
//! | populating | idle | whoever populates |
//! | populating | away | whoever populates, in vain |
//! | away | moving | that mover, which gives up |
//!
//! Fixed pages never change, and neither do lost ones: a frame that somebody gave them would hold
//! zeroes where the guest left its data. A fault that finds a page moving (or being populated by somebody else)
//! leaves the *waited* mark; whoever ends that state sees the mark and wakes.

use crate::Served;
use crate::clock::{self, Tsc};
use crate::sync::{AtomicU64, Ordering, yield_now};

const TAG: u64 = 0b111;
const WAITED: u64 = 1 << 3;
const SIGNALLED: u64 = 1 << 4;
const STAMP: u64 = !0b1_1111;

const IDLE: u64 = 0;
const HOLE: u64 = 1;
const POPULATING: u64 = 2;
const MOVING: u64 = 3;
const FIXED: u64 = 4;
const LOST: u64 = 5;
const AWAY: u64 = 6;

/// Which userfaultfd a page belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    /// Whoever meets a window sleeps.
    Blocking,
    /// Whoever meets a window is sent a signal.
    Signalling,
}

/// What became of a page when its mover let go of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leave {
    /// Mapped; it rests from this moment on.
    Idle(Tsc),
    /// As it was before the claim.
    Untouched,
    /// Nothing is mapped there.
    Hole,
    /// What it held cannot be brought back.
    Lost,
    /// Nothing is mapped there; what it held is at this address, a multiple of the page size, until
    /// somebody fetches it.
    Away(usize),
}

/// What a mover finds of a page that it sent away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Away {
    /// It is the caller's now.
    Claimed,
    /// The fault handler has it.
    Busy,
    /// It is back.
    Back,
}

/// What the fault handler has to do about a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Populate {
    /// The page is the handler's until [`PageWord::end_populate`].
    Claimed,
    /// So is this one, and what it holds is at this address.
    Away(usize),
    /// Somebody else will wake who waits.
    Left,
    /// Nobody ever will.
    Lost,
}

/// The state of one page. Bits 0..3 tag, 3 waited, 4 signalled, 5.. time of the last move, or where the
/// contents of a page are that is away.
pub(crate) struct PageWord(AtomicU64);

impl PageWord {
    pub(crate) fn new(lane: Lane) -> Self {
        Self(AtomicU64::new(match lane {
            Lane::Blocking => IDLE,
            Lane::Signalling => IDLE | SIGNALLED,
        }))
    }

    /// A page that is never touched.
    pub(crate) fn fixed() -> Self {
        Self(AtomicU64::new(FIXED))
    }

    /// Notes whether nothing is mapped there, while no mover can claim the page. A fault handler that has it is about to
    /// let it go, and is waited for.
    pub(crate) fn set_hole(&self, hole: bool) {
        let mut word = self.0.load(Ordering::Relaxed);
        loop {
            let tag = match word & TAG {
                IDLE | HOLE if hole => HOLE,
                IDLE | HOLE => IDLE,
                POPULATING => {
                    yield_now();
                    word = self.0.load(Ordering::Relaxed);
                    continue;
                }
                _ => return,
            };
            match self.0.compare_exchange(
                word,
                word & !TAG | tag,
                Ordering::AcqRel,
                Ordering::Relaxed,
            ) {
                Ok(_) => return,
                Err(now) => word = now,
            }
        }
    }

    /// Whether it is one that is never touched.
    pub(crate) fn is_fixed(&self) -> bool {
        self.0.load(Ordering::Relaxed) & TAG == FIXED
    }

    /// Whether nothing is mapped there. It may be populated at any moment.
    pub(crate) fn is_hole(&self) -> bool {
        self.0.load(Ordering::Relaxed) & TAG == HOLE
    }

    /// Whether its contents are lost.
    pub(crate) fn is_lost(&self) -> bool {
        self.0.load(Ordering::Relaxed) & TAG == LOST
    }

    /// Whether a mover has it, or what it holds.
    pub(crate) fn is_moving(&self) -> bool {
        matches!(self.0.load(Ordering::Acquire) & TAG, MOVING | AWAY)
    }

    /// Whether somebody populates it. Acquire pairs with the release in `settle`.
    pub(crate) fn is_populating(&self) -> bool {
        self.0.load(Ordering::Acquire) & TAG == POPULATING
    }

    pub(crate) fn lane(&self) -> Lane {
        // Never changes after construction.
        if self.0.load(Ordering::Relaxed) & SIGNALLED == 0 {
            Lane::Blocking
        } else {
            Lane::Signalling
        }
    }

    fn movable(word: u64, now: Tsc, rest: u64) -> bool {
        // Saturating: another mover may have left the page after `now` was read.
        word & TAG == IDLE && now.saturating_sub(word & STAMP) >= rest
    }

    /// Whether [`PageWord::try_claim`] is likely to succeed.
    pub(crate) fn is_movable(&self, now: Tsc, rest: u64) -> bool {
        Self::movable(self.0.load(Ordering::Relaxed), now, rest)
    }

    /// Claims the page for a move, if it is idle and was last moved `rest` ticks before `now`.
    pub(crate) fn try_claim(&self, now: Tsc, rest: u64) -> bool {
        let word = self.0.load(Ordering::Relaxed);
        // Acquire pairs with the release in `leave` and `end_populate`: what the last owner did to
        // the mapping is done.
        Self::movable(word, now, rest)
            && self
                .0
                .compare_exchange(
                    word,
                    word & !TAG | MOVING,
                    Ordering::Acquire,
                    Ordering::Relaxed,
                )
                .is_ok()
    }

    /// Ends a claim; true if somebody waits and must be woken *after* this call.
    ///
    /// A fault that comes later finds the new state, so that no waiter falls between the two.
    #[must_use]
    pub(crate) fn leave(&self, how: Leave) -> bool {
        self.settle(MOVING, how)
    }

    fn settle(&self, from: u64, how: Leave) -> bool {
        // The other bits are the owner's alone meanwhile; only WAITED may be added, and the swap
        // returns it.
        let word = self.0.load(Ordering::Relaxed);
        let (stamp, tag) = match how {
            Leave::Idle(tsc) => (tsc & STAMP, IDLE),
            Leave::Untouched => (word & STAMP, IDLE),
            Leave::Hole => (word & STAMP, HOLE),
            Leave::Lost => (word & STAMP, LOST),
            Leave::Away(address) => (address as u64, AWAY),
        };
        debug_assert_eq!(stamp & !STAMP, 0, "addresses of pages end in zeroes");
        // Release pairs with the acquire of the next claim. Acquire pairs with the release in
        // `begin_populate`, so that the wake comes after the fault that asked for it.
        let old = self
            .0
            .swap(word & SIGNALLED | stamp | tag, Ordering::AcqRel);
        debug_assert_eq!(old & TAG, from, "only its owner lets go of a page");
        old & WAITED != 0
    }

    /// Claims the page for the fault handler, or leaves the mark that somebody waits.
    pub(crate) fn begin_populate(&self) -> Populate {
        let mut word = self.0.load(Ordering::Relaxed);
        loop {
            let (next, outcome) = match word & TAG {
                IDLE | HOLE => (word & !TAG | POPULATING, Populate::Claimed),
                // The address stays in the word: the mover knows its page by it.
                AWAY => (
                    word & !TAG | POPULATING,
                    Populate::Away((word & STAMP) as usize),
                ),
                FIXED => return Populate::Left,
                LOST => return Populate::Lost,
                _ => (word | WAITED, Populate::Left),
            };
            match self
                .0
                .compare_exchange(word, next, Ordering::AcqRel, Ordering::Relaxed)
            {
                Ok(_) => return outcome,
                Err(now) => word = now,
            }
        }
    }

    /// Ends a claim of [`PageWord::begin_populate`] or [`PageWord::fetch`]; true if somebody else
    /// waits and must be woken after this call.
    #[must_use]
    pub(crate) fn end_populate(&self, how: Leave) -> bool {
        self.settle(POPULATING, how)
    }

    /// Claims a page that the caller sent away to `address`, to populate it.
    pub(crate) fn fetch(&self, address: usize) -> Away {
        self.claim_away(address, POPULATING)
    }

    /// Claims a page that the caller sent away to `address`, to have it as before that.
    pub(crate) fn call_back(&self, address: usize) -> Away {
        self.claim_away(address, MOVING)
    }

    fn claim_away(&self, address: usize, tag: u64) -> Away {
        // Acquire pairs with the release in `settle`: who brought the page back is done with what is
        // at the address.
        let word = self.0.load(Ordering::Acquire);
        if word & STAMP != address as u64 {
            return Away::Back;
        }
        match word & TAG {
            AWAY => {
                let claimed = self.0.compare_exchange(
                    word,
                    word & !TAG | tag,
                    Ordering::Acquire,
                    Ordering::Relaxed,
                );
                // Whoever was quicker is the handler.
                if claimed.is_ok() {
                    Away::Claimed
                } else {
                    Away::Busy
                }
            }
            POPULATING => Away::Busy,
            _ => Away::Back,
        }
    }
}

/// Serves a fault of a page: `fill` gives it a frame, with what is at the address if there is one, and
/// wakes who waits, unless it has a frame.
///
/// # Errors
/// Those of `fill` and `wake`.
pub(crate) fn serve<E>(
    word: &PageWord,
    fill: impl FnOnce(Option<usize>) -> Result<Served, E>,
    wake: impl FnOnce() -> Result<(), E>,
) -> Result<Served, E> {
    let (filled, left) = match word.begin_populate() {
        // Whoever owns the page sees the mark that was left, and wakes.
        Populate::Left => return Ok(Served::Window),
        Populate::Lost => return Ok(Served::Lost),
        Populate::Claimed => (fill(None), Leave::Untouched),
        Populate::Away(address) => match fill(Some(address)) {
            Err(error) => (Err(error), Leave::Away(address)),
            filled => (filled, Leave::Idle(clock::now())),
        },
    };
    let waited = word.end_populate(left);
    // A fault of a page that is there by now, or that came while it was filled.
    if waited || !matches!(filled, Ok(Served::Hole | Served::Fetched)) {
        wake()?;
    }
    filled
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_page_rests_after_a_move_and_not_after_an_untouched_claim() {
        let word = PageWord::new(Lane::Signalling);
        assert!(word.try_claim(1000, 320));
        assert!(!word.try_claim(9000, 320), "claimed once");
        assert!(!word.leave(Leave::Idle(1024)));
        assert!(!word.try_claim(1024 + 319, 320));
        assert!(word.try_claim(1024 + 320, 320));
        assert!(!word.leave(Leave::Untouched));
        assert!(word.try_claim(1024 + 320, 320));
        assert_eq!(word.lane(), Lane::Signalling);
    }

    #[test]
    fn holes_come_back_when_populated() {
        let word = PageWord::new(Lane::Blocking);
        assert!(word.try_claim(0, 0));
        assert_eq!(word.begin_populate(), Populate::Left);
        assert!(word.leave(Leave::Hole), "the fault left its mark");
        assert!(!word.is_movable(u64::MAX, 0));
        assert_eq!(word.begin_populate(), Populate::Claimed);
        assert_eq!(word.begin_populate(), Populate::Left);
        assert!(word.end_populate(Leave::Untouched));
        assert!(word.try_claim(0, 0));
    }

    #[test]
    fn a_page_may_begin_as_a_hole() {
        let word = PageWord::new(Lane::Signalling);
        word.set_hole(true);
        assert!(word.is_hole() && !word.is_movable(u64::MAX, 0));
        assert_eq!(word.lane(), Lane::Signalling);
        assert_eq!(word.begin_populate(), Populate::Claimed);
        assert!(!word.end_populate(Leave::Untouched));
        assert!(!word.is_hole() && word.try_claim(0, 0));
        word.set_hole(true);
        assert!(word.is_moving() && !word.is_hole(), "somebody's");
    }

    #[test]
    fn a_lost_page_is_never_moved_nor_populated() {
        let word = PageWord::new(Lane::Signalling);
        assert!(word.try_claim(0, 0));
        assert_eq!(word.begin_populate(), Populate::Left);
        assert!(word.leave(Leave::Lost), "the fault left its mark");
        assert_eq!(word.begin_populate(), Populate::Lost);
        assert!(!word.is_hole() && !word.is_movable(u64::MAX, 0));
        assert!(!word.try_claim(u64::MAX, 0));
        let never = || -> Result<_, ()> { unreachable!("a frame of zeroes, or a wake for it") };
        let served = serve(&word, |_| never(), || never().map(drop));
        assert_eq!(served, Ok(Served::Lost));
        assert_eq!(word.lane(), Lane::Signalling);
    }

    #[test]
    fn a_page_that_is_away_is_fetched_once_by_whoever_comes_first() {
        const SLOT: usize = 0x7f00_0000_3000;
        let word = PageWord::new(Lane::Blocking);
        let send = |word: &PageWord| {
            assert!(word.try_claim(u64::MAX, 0));
            assert!(!word.leave(Leave::Away(SLOT)));
        };
        send(&word);
        assert!(!word.is_movable(u64::MAX, 0) && !word.is_hole());
        assert_eq!(word.fetch(SLOT + 0x1000), Away::Back, "somebody else's");
        assert_eq!(word.fetch(SLOT), Away::Claimed);
        assert_eq!(word.begin_populate(), Populate::Left);
        assert!(
            word.end_populate(Leave::Idle(64)),
            "the fault left its mark"
        );
        assert_eq!(word.fetch(SLOT), Away::Back);
        send(&word);
        assert_eq!(word.begin_populate(), Populate::Away(SLOT));
        assert_eq!(
            (word.fetch(SLOT), word.call_back(SLOT)),
            (Away::Busy, Away::Busy)
        );
        assert!(!word.end_populate(Leave::Away(SLOT)), "in vain");
        assert_eq!(word.call_back(SLOT), Away::Claimed);
        assert!(!word.leave(Leave::Idle(64)) && word.is_movable(64, 0));
    }

    #[test]
    fn fixed_pages_never_move() {
        let word = PageWord::fixed();
        assert!(!word.try_claim(u64::MAX, 0));
        assert_eq!(word.begin_populate(), Populate::Left);
    }
}
