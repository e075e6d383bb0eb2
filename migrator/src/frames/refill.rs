//! Where free frames come from: old ones whose time has come, and the kernel.

use std::sync::atomic::Ordering;

use super::FrameUser;
use super::ledger::State;
use super::pool::FramePool;
use crate::lock_order::{Class, hold};
use crate::{PAGE_SIZE, pattern};

/// What a direct refill gets on top of what its payer needs, as the kernel's direct reclaim does.
const CLUSTER: u32 = 32;
/// Old frames that a direct refill looks at for each that it is to make free.
const LOOKS: u64 = 8;

/// Contents of fresh frames; whoever takes one writes it.
#[repr(C, align(4096))]
struct Fill([u8; PAGE_SIZE]);
static FILL: Fill = Fill([0; PAGE_SIZE]);

impl FramePool {
    /// Refills for `user`, which pays, until there are `frames` and some more.
    pub(super) fn refill_directly(&self, user: FrameUser, frames: u32) {
        let goal = u64::from(self.options.min) + u64::from(frames + CLUSTER);
        let looks = LOOKS * u64::from(frames + CLUSTER);
        let refilled = self.refill(goal, 0, looks);
        let cells = &self.users[user.index()];
        cells.refills.add(1);
        cells.refilled.add(refilled);
    }

    /// Refills up to the high watermark; whether there is anything to show for it.
    pub(super) fn refill_in_background(&self) {
        let refilled = self.refill(self.options.high.into(), self.rests, u64::MAX);
        if refilled > 0 {
            self.background_refills.add(1);
            self.background_refilled.add(refilled);
        }
    }

    /// Makes frames free until `goal` are; how many. The youngest `rests` old ones stay. Each old one is looked at
    /// once, and no more than `looks`.
    fn refill(&self, goal: u64, rests: u64, looks: u64) -> u64 {
        self.ledger.check_refill();
        let _held = hold(Class::Frames);
        let mut refilled = 0;
        let mut looks = self.limbo.count().min(looks);
        while looks > 0 && self.free.count() < goal {
            looks -= 1;
            refilled += u64::from(self.recycle_one(rests));
        }
        while self.free.count() < goal && self.add_fresh() {
            refilled += 1;
        }
        if refilled > 0 {
            self.note_frame();
        }
        refilled
    }

    /// Makes an old frame free, if its time has come.
    fn recycle_one(&self, rests: u64) -> bool {
        let mut recycled = false;
        self.limbo.take(1, 0, |slot| {
            if !self.is_ripe(slot, rests) {
                self.limbo.put([slot].into_iter());
                return;
            }
            // While it is ours: the next owner may be there as soon as it is free.
            self.check(slot);
            if self.ledger.pass(slot, State::Limbo, State::Free) {
                self.free.put([slot].into_iter());
                recycled = true;
            }
        });
        recycled
    }

    fn is_ripe(&self, slot: u32, rests: u64) -> bool {
        let position = self.entered[slot as usize].load(Ordering::Relaxed);
        let followers = self
            .entrants
            .load(Ordering::Relaxed)
            .saturating_sub(position + 1);
        if followers < rests {
            return false;
        }
        let ticket = self.tickets[slot as usize].load(Ordering::Relaxed);
        self.grace
            .as_ref()
            .is_none_or(|grace| grace.is_over(ticket))
    }

    /// Counts an old frame that was written after commit.
    fn check(&self, slot: u32) {
        let position = self.entered[slot as usize].load(Ordering::Relaxed);
        // SAFETY: the slot was taken out of limbo by the caller, and was filled if it is checked.
        if self.is_checked(position) && unsafe { pattern::is_changed(self.address(slot)) } {
            self.stale.add(1);
        }
    }

    /// Gets a frame from the kernel, if the pool holds fewer than it is to.
    fn add_fresh(&self) -> bool {
        let size = i64::from(self.options.size);
        let admitted = self
            .held
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |held| {
                (held < size).then_some(held + 1)
            });
        if admitted.is_err() {
            return false;
        }
        let mut added = false;
        self.empty.take(1, 0, |slot| {
            let source = FILL.0.as_ptr() as usize;
            if self.arena.fill_empty(slot as usize, source).errno == 0
                && self.ledger.pass(slot, State::Empty, State::Free)
            {
                self.free.put([slot].into_iter());
                added = true;
            } else {
                self.empty.put([slot].into_iter());
            }
        });
        if added {
            self.fresh.add(1);
        } else {
            self.account(-1);
        }
        added
    }

    /// Checks every old frame in limbo, those that stay as well; returns how many were written, with those that
    /// were found before and not told.
    pub(crate) fn audit(&self) -> u32 {
        let mut kept = Vec::new();
        for _ in 0..self.limbo.count() {
            self.limbo.take(1, 0, |slot| {
                self.check(slot);
                // SAFETY: as in `check`; what was found is found once.
                unsafe { pattern::fill(self.address(slot), 1) };
                kept.push(slot);
            });
        }
        self.limbo.put(kept.into_iter());
        self.take_stale()
    }
}
