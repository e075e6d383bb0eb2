//! The word that says what the halves of a page are.
//!
//! Each half has three bits: A, it is allocated; P, it is pending: freed, and waiting for its grace
//! period; H, the page's one callback head is in use for it. One more bit says that the page is on
//! its owner's list.
//!
//! | A P H | the half is | and becomes |
//! | --- | --- | --- |
//! | 0 0 0 | free | allocated by [`PageState::take`] |
//! | 1 0 0 | allocated: a table | pending by [`PageState::defer`], with the head if the other half has it not |
//! | 0 1 1 | pending, its callback queued | free by [`PageState::settle`], in that callback |
//! | 0 1 0 | pending, waiting for the head | pending with the head, by the other half's [`PageState::settle`] |
//! | any other | misused | |
//!
//! A table that nobody else ever saw becomes free at once, by [`PageState::settle_now`].
//!
//! All but `defer` are done under the lock of the owner's list, and so is every change of the list:
//! a page is listed while a half of it is free and the other is not, as long as its owner lives.
//! `defer` takes no lock; that each change is one read-modify-write is what makes exactly one party
//! queue the head. Whoever makes the word 0 has the page to itself and gives it back: it was taken
//! off the list before (Linux's commit c2c224932fd0 repaired a race in which it was not).

use crate::sync::atomic::{
    AtomicU32,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};

/// One half of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Half {
    /// The lower addresses.
    First = 0,
    /// The higher addresses.
    Second = 1,
}

impl Half {
    const BOTH: [Self; 2] = [Self::First, Self::Second];

    const fn allocated(self) -> u32 {
        1 << self as u32
    }

    const fn pending(self) -> u32 {
        4 << self as u32
    }

    const fn head(self) -> u32 {
        16 << self as u32
    }

    const fn other(self) -> Self {
        match self {
            Self::First => Self::Second,
            Self::Second => Self::First,
        }
    }
}

const LISTED: u32 = 64;
/// Some half is in use.
const USED: u32 = 0b1111;
const ANY_HEAD: u32 = 0b11_0000;

/// Whether `half` is free in `word`.
const fn is_free(word: u32, half: Half) -> bool {
    word & (half.allocated() | half.pending() | half.head()) == 0
}

/// The list of pages with a free half, as the state needs it; its lock is held.
pub trait List {
    /// Adds the page.
    fn push(&mut self);
    /// Takes the page off.
    fn remove(&mut self);
}

/// Who queues the head after [`PageState::defer`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deferred {
    /// The caller.
    Queue,
    /// The callback that is queued for the other half.
    Later,
    /// Nobody: the half is not allocated, or pending already.
    Misuse(u32),
}

/// What is to be done after a half became free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settled {
    /// The head is to be queued again, for the other half.
    pub requeue: bool,
    /// The page is the caller's to give back.
    pub over: bool,
    /// The half was what it should have been.
    pub sound: bool,
}

impl Settled {
    /// Whether the page is given back: one that was misused is kept for ever.
    #[must_use]
    pub const fn gives_back(self) -> bool {
        self.over && self.sound
    }
}

/// The word.
#[derive(Debug, Default)]
#[repr(transparent)]
pub struct PageState(AtomicU32);

impl PageState {
    /// Makes it that of a new page, whose first half is allocated; `list` is told of the second, if
    /// that is to be given out at all.
    pub fn reset(&self, list: Option<&mut impl List>) {
        let listed = if list.is_some() { LISTED } else { 0 };
        // Release: pairs with the acquire of whoever finds the page on the list.
        self.0.store(Half::First.allocated() | listed, Release);
        if let Some(list) = list {
            list.push();
        }
    }

    /// Allocates a free half of a listed page; one that is pending is not free, but in the busted
    /// form without `check_pending`. `None` if there is none: then it should not be listed.
    pub fn take(&self, check_pending: bool, list: &mut impl List) -> Option<Half> {
        let pick = |word: u32| {
            Half::BOTH.into_iter().find(|&half| {
                let pending = if check_pending { half.pending() } else { 0 };
                word & (half.allocated() | pending) == 0
            })
        };
        let word = self
            .0
            .fetch_update(AcqRel, Acquire, |word| {
                pick(word).map(|half| word | half.allocated())
            })
            .ok()?;
        let half = pick(word)?;
        if word & LISTED != 0 && !is_free(word, half.other()) {
            list.remove();
            self.0.fetch_and(!LISTED, AcqRel);
        }
        Some(half)
    }

    /// Makes an allocated half pending. Without the lock.
    pub fn defer(&self, half: Half, check_head: bool) -> Deferred {
        let is_table = |word: u32| word & (half.allocated() | half.pending()) == half.allocated();
        let has_head = |word: u32| check_head && word & ANY_HEAD != 0;
        // Release: pairs with the acquire in `settle`, by which the callback sees the table as its
        // last user left it; acquire: if the head is this CPU's now, its last use is over.
        let update = self.0.fetch_update(AcqRel, Acquire, |word| {
            let head = if has_head(word) { 0 } else { half.head() };
            is_table(word).then_some(word & !half.allocated() | half.pending() | head)
        });
        match update {
            Ok(word) if has_head(word) => Deferred::Later,
            Ok(_) => Deferred::Queue,
            Err(word) => Deferred::Misuse(word),
        }
    }

    /// The half for which the head is queued: only the callback asks, and changes it.
    pub fn queued(&self) -> Option<Half> {
        let word = self.0.load(Acquire);
        Half::BOTH.into_iter().find(|half| word & half.head() != 0)
    }

    /// In the callback for `half`: the half becomes free, the page goes to the list if its owner is
    /// `alive`, or leaves it.
    pub fn settle(&self, half: Half, alive: bool, list: &mut impl List) -> Settled {
        let (before, requeue) = self.release(half);
        let bits = half.allocated() | half.pending() | half.head();
        Settled {
            requeue,
            over: self.place(half, alive, list),
            sound: before & bits == half.pending() | half.head(),
        }
    }

    /// The busted form of [`Self::settle`]: without the lock, and the page is over though it may be
    /// listed.
    pub fn settle_unlocked(&self, half: Half) -> Settled {
        let (before, requeue) = self.release(half);
        Settled {
            requeue,
            over: before & USED == half.pending(),
            sound: true,
        }
    }

    /// Ends the wait of `half`; the word before, and whether the head goes to the other half, which
    /// waited for it.
    fn release(&self, half: Half) -> (u32, bool) {
        let other = half.other();
        let waits = |word: u32| word & (other.pending() | other.head()) == other.pending();
        let free = |word: u32| {
            let head = if waits(word) { other.head() } else { 0 };
            Some(word & !(half.pending() | half.head()) | head)
        };
        // Pairs with `defer`: either it finds the head in use and this finds its half waiting, or it
        // finds the head free.
        let before = match self.0.fetch_update(AcqRel, Acquire, free) {
            Ok(before) | Err(before) => before,
        };
        (before, waits(before))
    }

    /// As [`Self::settle`], of an allocated half that nobody else ever saw.
    #[cfg(not(loom))]
    pub fn settle_now(&self, half: Half, alive: bool, list: &mut impl List) -> Settled {
        let before = self.0.fetch_and(!half.allocated(), AcqRel);
        let bits = half.allocated() | half.pending() | half.head();
        let sound = before & bits == half.allocated();
        Settled {
            requeue: false,
            over: sound && self.place(half, alive, list),
            sound,
        }
    }

    /// Puts the page, of which `half` became free, on the list or takes it off; whether it is over.
    fn place(&self, half: Half, alive: bool, list: &mut impl List) -> bool {
        let word = self.0.load(Acquire);
        if word & USED != 0 {
            if alive && word & LISTED == 0 && is_free(word, half) {
                list.push();
                self.0.fetch_or(LISTED, AcqRel);
            }
            return false;
        }
        // No half is in use, and none can be allocated while the lock is held: it stays so.
        if word & LISTED != 0 {
            list.remove();
            return self.0.fetch_and(!LISTED, AcqRel) == LISTED;
        }
        word == 0
    }

    /// The owner goes away and its list with it: the page is on no list from now on.
    #[cfg(not(loom))]
    pub fn abandon(&self) {
        self.0.fetch_and(!LISTED, AcqRel);
    }

    /// Whether the other half waits for its grace period.
    #[cfg(not(loom))]
    pub fn is_beside_pending(&self, half: Half) -> bool {
        self.0.load(Relaxed) & half.other().pending() != 0
    }

    /// Whether the page is on a list.
    #[cfg(not(loom))]
    pub fn is_listed(&self) -> bool {
        self.0.load(Relaxed) & LISTED != 0
    }

    /// The word, for reports.
    pub fn word(&self) -> u32 {
        self.0.load(Relaxed)
    }
}
