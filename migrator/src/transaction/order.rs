//! The order of the steps, by strategy.

use std::time::Duration;

use super::Transaction;
use super::window::OpenWindow;
use crate::backend::Source;
use crate::frames::FrameUser;
use crate::{AbortReason, Event, Phase, StrategyKind, Times, Variant, clock};

/// Copies of [`StrategyKind::Transactional`] before the page is copied under protection.
const ATTEMPTS: u32 = 3;
/// The wait after the first conflict; it doubles with each.
const BACK_OFF: Duration = Duration::from_micros(20);
/// How an attempt of [`StrategyKind::Transactional`] ended.
enum Attempt {
    /// The pages are in new frames, or the migration is given up.
    Over,
    /// The guest wrote meanwhile; it has its pages back.
    Conflict,
}

impl Transaction<'_> {
    /// Runs the migration: at its end each page is in its new frame or in its old one. The claims
    /// are kept until [`Transaction::finish`].
    pub(crate) fn run(&mut self) {
        if self.strikes(Phase::Claimed) {
            return self.give_up(AbortReason::Injected);
        }
        if self.reach == 0 {
            self.hole = true;
            return;
        }
        if self.tools.variant == Variant::FramesInWindow {
            self.take_a_frame();
        }
        match self.tools.strategy {
            StrategyKind::None | StrategyKind::UnmapCopy | StrategyKind::StopWorld => {
                self.unmap_copy();
            }
            StrategyKind::ProtectCopy => self.protect_copy(),
            StrategyKind::Transactional => self.transact(),
            StrategyKind::Lazy => self.move_lazily(),
        }
        self.hole |= self.out == self.reach && self.reach < self.pages() && self.abort.is_none();
        if self.mapped == self.out && self.out > 0 {
            self.phase = Phase::Committed;
            self.strikes(Phase::Committed);
        }
    }

    /// What must be done before pages are held: whoever is to make a frame free may wait for them.
    #[cold]
    fn take_a_frame(&self) {
        if let Some(frames) = self.tools.frames {
            frames.take(FrameUser::Mover, 1, |slot| frames.give_free(&[slot]));
        }
    }

    /// Unmaps, copies what nobody can write any more, maps.
    fn unmap_copy(&mut self) {
        let mut window = OpenWindow::new(self);
        let this = window.inside();
        if this.unmap()
            && !this.stops_in_window(Phase::Unmapped)
            && this.copy_unmapped()
            && !this.stops_in_window(Phase::Copied)
        {
            this.map();
        }
    }

    /// Copies while nobody can write, and unmaps for no longer than it takes to map.
    fn protect_copy(&mut self) {
        let mut window = OpenWindow::new(self);
        let this = window.inside();
        if !this.protect() || this.stops_in_window(Phase::Protected) {
            return;
        }
        if this.tools.variant == Variant::NoProtect {
            this.unprotect();
        }
        this.copy(Source::Mapped(this.claim.hva), this.reach);
        if !this.stops_in_window(Phase::Copied)
            && this.unmap()
            && !this.stops_in_window(Phase::Unmapped)
        {
            this.map();
        }
    }

    /// Copies while the guest writes, and commits if it did not.
    fn transact(&mut self) {
        let mut wait = BACK_OFF;
        for _ in 0..ATTEMPTS {
            self.copy(Source::Mapped(self.claim.hva), self.reach);
            if self.strikes(Phase::Copied) {
                return self.give_up(AbortReason::Injected);
            }
            match self.attempt() {
                Attempt::Over => return,
                Attempt::Conflict => self.conflict(),
            }
            std::thread::sleep(wait);
            wait *= 2;
        }
        self.tools.counters.fallbacks.add(1);
        self.protect_copy();
    }

    fn attempt(&mut self) -> Attempt {
        let mut window = OpenWindow::new(self);
        let this = window.inside();
        if this.reach > this.tools.compared_unmapped {
            if !this.protect() || this.stops_in_window(Phase::Protected) {
                return Attempt::Over;
            }
            if !this.is_copied(Source::Mapped(this.claim.hva), this.reach) {
                return Attempt::Conflict;
            }
            if !this.unmap() {
                return Attempt::Over;
            }
        } else {
            if !this.unmap() {
                return Attempt::Over;
            }
            if !this.is_copied(Source::Limbo, this.out) {
                this.restore();
                return if this.lost.is_some() {
                    Attempt::Over
                } else {
                    Attempt::Conflict
                };
            }
        }
        if !this.stops_in_window(Phase::Unmapped) {
            this.map();
        }
        Attempt::Over
    }

    /// Reports an attempt in vain, and forgets it.
    #[cold]
    fn conflict(&mut self) {
        self.times.end = clock::now();
        self.tools.counters.conflicts.add(1);
        self.tools.counters.wasted_copies.add(self.reach.into());
        self.tools.observer.on(&Event::Conflicted {
            range: self.range(0, self.reach),
            times: self.times,
        });
        let start = self.times.start;
        self.times = Times {
            start,
            ..Times::default()
        };
        (self.out, self.restored, self.hole) = (0, 0, false);
        self.phase = Phase::Claimed;
    }

    /// Whether the test aborts here, outside of any window.
    pub(super) fn strikes(&mut self, phase: Phase) -> bool {
        self.tools.injector.strikes(phase, self.tools.counters)
    }

    /// Whether the migration ends here, in the window: a test has it so, or it has taken too long.
    pub(super) fn stops_in_window(&mut self, phase: Phase) -> bool {
        let strikes = self.strikes(phase);
        if strikes {
            self.stop_in_window(AbortReason::Injected);
        }
        strikes || self.is_over_budget()
    }

    /// Ends the migration in the window, whatever is out by now.
    pub(super) fn stop_in_window(&mut self, reason: AbortReason) {
        self.abort = Some(reason);
        if self.out == 0 {
            self.tried = self.reach;
        }
    }
}
