//! The pool: frames that are free, old ones in limbo, and empty slots.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use super::counters::{Lowest, Shared, UserCells};
use super::error::open_pagemap;
use super::ledger::{Ledger, OnFastPath, State};
use super::slot_set::{Form, SlotSet};
use super::{Fallback, FrameCounters, FrameError, FrameOptions, FrameUser, Grace};
use crate::arena::Arena;
use crate::lock_order::{Class, Ordered, may_wait};
use crate::pagemap::Pagemap;
use crate::sample::Sample;
use crate::{Node, PageSize, Variant, pattern};

/// Windows that may be open at the same time without a wait for empty slots.
const WINDOWS: u32 = 16;

/// Frames that movers and the fault path share.
///
/// A slot is free (it holds a frame to take), taken, in limbo (it holds an old frame), or empty. Each of the three that
/// are nobody's is a [`SlotSet`], so that nothing here locks.
pub(crate) struct FramePool {
    pub(super) options: FrameOptions,
    pub(super) variant: Variant,
    pub(super) arena: Arena,
    pub(super) free: SlotSet,
    pub(super) limbo: SlotSet,
    pub(super) empty: SlotSet,
    pub(super) ledger: Ledger,
    /// By slot in limbo: how many frames had come before it, and the ticket of its grace period.
    pub(super) entered: Box<[AtomicU64]>,
    pub(super) tickets: Box<[AtomicU64]>,
    /// Frames that ever came into limbo.
    pub(super) entrants: AtomicU64,
    /// The youngest so many stay, unless frames are short.
    pub(super) rests: u64,
    /// The old frames that are checked.
    pub(super) sample: Sample,
    pub(super) grace: Option<Arc<dyn Grace>>,
    /// Since when somebody misses frames who was refused, and none has come; 0 if nobody does.
    dry_since: AtomicU64,
    /// Frames in its slots.
    pub(super) held: AtomicI64,
    /// Somebody has taken it below low.
    wanted: AtomicBool,
    pub(super) bell: EventFd,
    /// For what the kernel says of single slots, in case of doubt.
    pagemap: Ordered<Pagemap>,
    pub(super) users: [UserCells; FrameUser::ALL.len()],
    lowest: Lowest,
    pub(super) background_refills: Shared,
    pub(super) background_refilled: Shared,
    pub(super) fresh: Shared,
    without: Shared,
    /// Old frames that were found written, and were not told yet.
    pub(super) stale: Shared,
}

/// What the pool is made for.
pub(crate) struct Purpose {
    /// Pages of a window.
    pub(crate) batch: u32,
    /// Old frames that stay in limbo.
    pub(crate) limbo: u32,
    /// One old frame in so many is checked.
    pub(crate) stride: u32,
    pub(crate) variant: Variant,
    pub(crate) grace: Option<Arc<dyn Grace>>,
}

impl FramePool {
    pub(crate) fn new(options: FrameOptions, purpose: Purpose) -> Result<Self, FrameError> {
        options.check(purpose.batch, purpose.limbo)?;
        let size = options.size;
        let slots = size + WINDOWS * purpose.batch;
        let form = match purpose.variant {
            Variant::FramesTwice => Form::Keeps,
            _ => Form::Right,
        };
        let words = || (0..slots).map(|_| AtomicU64::new(0)).collect();
        Ok(Self {
            arena: Arena::placed(
                slots as usize,
                size as usize,
                PageSize::Small,
                |start, bytes| options.placement.bind(start, bytes),
            )?,
            free: SlotSet::new(slots, 0..size, form),
            limbo: SlotSet::new(slots, 0..0, Form::Right),
            empty: SlotSet::new(slots, size..slots, Form::Right),
            ledger: Ledger::new(slots, size),
            entered: words(),
            tickets: words(),
            entrants: AtomicU64::new(0),
            rests: purpose.limbo.into(),
            sample: Sample::one_in(purpose.stride),
            grace: purpose.grace,
            dry_since: AtomicU64::new(0),
            held: AtomicI64::new(size.into()),
            wanted: AtomicBool::new(false),
            bell: EventFd::new(EFD_CLOEXEC | EFD_NONBLOCK).map_err(FrameError::Bell)?,
            pagemap: Ordered::new(Class::Pagemap, open_pagemap()?),
            users: Default::default(),
            lowest: Lowest::new(size.into()),
            background_refills: Shared::default(),
            background_refilled: Shared::default(),
            fresh: Shared::default(),
            without: Shared::default(),
            stale: Shared::default(),
            variant: purpose.variant,
            options,
        })
    }

    /// Takes `frames` frames for `user`: at once, or after it has refilled the pool. False, and none is taken, if
    /// there are not so many.
    pub(crate) fn take(&self, user: FrameUser, frames: u32, each: impl FnMut(u32)) -> bool {
        if user == FrameUser::Mover || self.options.fallback != Fallback::Kernel {
            may_wait(Class::Frames);
        }
        let mut each = each;
        for attempt in 1..=self.tries(user) {
            if self.take_fast(user, frames, &mut each) {
                return true;
            }
            if attempt < self.tries(user) {
                std::thread::yield_now();
            }
        }
        self.users[user.index()].fell_back.add(1);
        self.take_slow(user, frames, &mut each)
    }

    /// Faults are tried once: somebody waits for them.
    fn tries(&self, user: FrameUser) -> u32 {
        match user {
            FrameUser::Mover => self.options.tries,
            FrameUser::Fault => 1,
        }
    }

    /// Neither sleeps nor calls the kernel, refills nothing, and leaves `min` frames.
    fn take_fast(&self, user: FrameUser, frames: u32, each: &mut impl FnMut(u32)) -> bool {
        let floor = match self.variant {
            Variant::FramesReserve => 0,
            _ => self.options.min,
        };
        let _fast = OnFastPath::enter();
        if self.variant == Variant::FramesReclaims && self.free.count() < self.options.low.into() {
            self.refill_directly(user, frames);
        }
        let cells = &self.users[user.index()];
        let Some(left) = self.hand_out(frames, floor, each) else {
            cells.refused.add(1);
            return false;
        };
        cells.fast.add(frames.into());
        self.ledger.check_fast(left, self.options.min);
        true
    }

    /// Whoever is here pays: it refills the pool before it takes what the fast path must leave.
    #[cold]
    fn take_slow(&self, user: FrameUser, frames: u32, each: &mut impl FnMut(u32)) -> bool {
        if user == FrameUser::Fault && self.options.fallback == Fallback::Kernel {
            return false;
        }
        let cells = &self.users[user.index()];
        let pays = self.variant != Variant::FramesUnpaid;
        if pays {
            self.refill_directly(user, frames);
        }
        self.ledger.check_paid(pays);
        let floor = match user {
            FrameUser::Mover => self.options.reserve,
            FrameUser::Fault => 0,
        };
        let Some(left) = self.hand_out(frames, floor, each) else {
            cells.short.add(1);
            self.note_dry();
            return false;
        };
        cells.slow.add(frames.into());
        let of_reserve = u64::from(self.options.reserve).saturating_sub(left);
        cells.reserve.add(of_reserve.min(frames.into()));
        true
    }

    /// Takes frames if `floor` stay; how many did.
    fn hand_out(&self, frames: u32, floor: u32, each: &mut impl FnMut(u32)) -> Option<u64> {
        let left = self.free.take(frames, floor, |slot| {
            // A slot that is another's is not handed on: the finding is enough.
            if self.ledger.pass(slot, State::Free, State::Taken) {
                each(slot);
            }
        })?;
        if left < self.options.low.into() {
            self.wanted.store(true, Ordering::Relaxed);
        }
        self.lowest.note(left);
        Some(left)
    }

    /// Somebody was refused.
    #[cold]
    fn note_dry(&self) {
        let now = crate::clock::now();
        // Release pairs with the acquire in `waits_for`. Whoever was refused first says since when.
        let _ = self
            .dry_since
            .compare_exchange(0, now, Ordering::Release, Ordering::Relaxed);
    }

    /// A frame has come.
    pub(super) fn note_frame(&self) {
        if self.dry_since.load(Ordering::Relaxed) != 0 {
            self.dry_since.store(0, Ordering::Release);
        }
    }

    /// Since when the pool is dry, and what it waits for: the end of what its old frames wait for.
    pub(super) fn waits_for(&self) -> Option<(u64, Node)> {
        let since = self.dry_since.load(Ordering::Acquire);
        let node = self.grace.as_ref()?.node()?;
        (since != 0 && self.limbo.count() > 0).then_some((since, node))
    }

    /// Whether old frames wait for an end.
    pub(crate) fn has_grace(&self) -> bool {
        self.grace.is_some()
    }

    /// Whether movers would get a frame now. If not, the refiller is woken to look again: for a busted variant, which
    /// waits for that.
    pub(crate) fn has_spare(&self) -> bool {
        let has = self.free.count() > self.options.reserve.into();
        if !has {
            self.note_dry();
            let _ = self.bell.write(1);
        }
        has
    }

    /// Wakes the refiller if frames have become few. For who has time: not in a window, nor while somebody waits.
    pub(crate) fn ring(&self) {
        if self.wanted.load(Ordering::Relaxed) && self.wanted.swap(false, Ordering::Relaxed) {
            // A bell that rings already is as good.
            let _ = self.bell.write(1);
        }
    }

    /// Takes `slots` empty slots for the old frames of a window; false if there are not so many.
    pub(crate) fn take_empty(&self, slots: u32, mut each: impl FnMut(u32)) -> bool {
        let taken = self.empty.take(slots, 0, |slot| {
            if self.ledger.pass(slot, State::Empty, State::Taken) {
                each(slot);
            }
        });
        taken.is_some()
    }

    /// Gives back taken slots that hold a frame, which nobody else can reach.
    pub(crate) fn give_free(&self, slots: &[u32]) {
        self.give(slots, State::Free, &self.free);
        self.note_frame();
    }

    /// Gives back taken slots that hold none.
    pub(crate) fn give_empty(&self, slots: &[u32]) {
        self.give(slots, State::Empty, &self.empty);
    }

    fn give(&self, slots: &[u32], state: State, set: &SlotSet) {
        if slots
            .iter()
            .all(|&slot| self.ledger.pass(slot, State::Taken, state))
        {
            set.put(slots.iter().copied());
        }
    }

    /// Gives back taken slots that hold old frames: of pages that were unmapped with a flush, by consumers that
    /// let go, and that have their new frames.
    pub(crate) fn retire(&self, slots: &[u32]) {
        let ticket = self.grace.as_ref().map_or(0, |grace| grace.begin());
        let first = self
            .entrants
            .fetch_add(slots.len() as u64, Ordering::Relaxed);
        for (position, &slot) in (first..).zip(slots) {
            if self.is_checked(position) {
                // SAFETY: an old frame in a slot that is the caller's.
                unsafe { pattern::fill(self.address(slot), 1) };
            }
            // The set's release makes these seen.
            self.entered[slot as usize].store(position, Ordering::Relaxed);
            self.tickets[slot as usize].store(ticket, Ordering::Relaxed);
        }
        self.give(slots, State::Limbo, &self.limbo);
    }

    /// Whether the `position`th old frame is filled and checked.
    pub(super) fn is_checked(&self, position: u64) -> bool {
        self.sample.among(position..position + 1).next().is_some()
    }

    /// Where a slot is.
    pub(crate) fn address(&self, slot: u32) -> *mut u8 {
        self.arena.address(slot as usize)
    }

    pub(crate) fn arena(&self) -> &Arena {
        &self.arena
    }

    /// Whether a slot holds a frame; `None` if the kernel does not say. Asked in case of doubt only.
    pub(crate) fn holds(&self, slot: u32) -> Option<bool> {
        let mut pagemap = self.pagemap.lock();
        self.arena.holds(&mut pagemap, slot as usize)
    }

    /// So many more frames lie in its slots, or fewer.
    pub(crate) fn account(&self, frames: i64) {
        self.held.fetch_add(frames, Ordering::Relaxed);
    }

    /// Gives what taken slots hold to the kernel, and the slots back.
    pub(crate) fn discard(&self, slots: &[u32]) -> io::Result<()> {
        for &slot in slots {
            let held = self.holds(slot) == Some(true);
            let piece = crate::ring::Piece {
                slot: slot as usize,
                pages: 1,
            };
            // SAFETY: the slot is the caller's, and nobody needs what it holds.
            unsafe { self.arena.discard(piece)? };
            self.account(-i64::from(held));
        }
        self.give_empty(slots);
        Ok(())
    }

    /// A fault was served without it.
    pub(crate) fn count_without(&self) {
        self.without.add(1);
    }

    /// Old frames that were found written since the last call.
    pub(crate) fn take_stale(&self) -> u32 {
        self.stale.take() as u32
    }

    /// The same, and they stay to be told.
    pub(crate) fn untold_stale(&self) -> u64 {
        self.stale.get()
    }

    pub(crate) fn counters(&self) -> FrameCounters {
        FrameCounters {
            size: self.options.size.into(),
            free: self.free.count(),
            lowest: self.lowest.get(),
            background_refills: self.background_refills.get(),
            background_refilled: self.background_refilled.get(),
            fresh: self.fresh.get(),
            without: self.without.get(),
            users: std::array::from_fn(|user| self.users[user].snapshot()),
            violations: self.ledger.violations(),
        }
    }
}
