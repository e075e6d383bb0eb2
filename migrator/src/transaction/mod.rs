//! The migration of one batch: its phases, and the way back from each.

mod grace;
mod lazy;
mod order;
mod pause;
mod steps;
mod window;

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::time::Duration;

use crate::sync::AtomicU32;
use lazy::Returns;

use crate::backend::Backend;
use crate::batch::Claim;
use crate::clock::Tsc;
use crate::counters::LiveCounters;
use crate::frames::FramePool;
use crate::inject::Injector;
use crate::page_word::Leave;
use crate::uffd::UffdError;
use crate::watchdog::Waiter;
use crate::windows::Windows;
use crate::{
    AbortReason, Event, Gfn, GracePeriods, Observer, OpenRange, PAGE_SIZE, PageRange, Phase,
    SkipReason, StrategyKind, Times, Variant, clock,
};

/// What a migration works with.
pub(crate) struct Tools<'a> {
    pub(crate) backend: &'a mut dyn Backend,
    pub(crate) injector: &'a mut Injector,
    pub(crate) counters: &'a LiveCounters,
    pub(crate) windows: &'a Windows,
    /// What a busted variant takes a frame of.
    pub(crate) frames: Option<&'a FramePool>,
    pub(crate) consumers: Pin<&'a OpenRange<'a>>,
    /// The mover's number, or the last that there is.
    pub(crate) nth: u16,
    /// Says what the migration waits for.
    pub(crate) waiter: Option<&'a mut Waiter>,
    /// What a busted variant waits for.
    pub(crate) grace: Option<&'a dyn GracePeriods>,
    pub(crate) observer: &'a dyn Observer,
    /// The page number that was last demanded of those that are away, and that of the first page
    /// of the claim.
    pub(crate) demanded: (&'a AtomicU32, u32),
    pub(crate) strategy: StrategyKind,
    /// With [`StrategyKind::Transactional`] more pages than these are compared while they are
    /// write-protected, so that readers go on; up to so many after they were unmapped.
    pub(crate) compared_unmapped: u32,
    /// The longest window before its new frames are mapped, in TSC ticks.
    pub(crate) max_window: Option<u64>,
    /// How long pages that are away are left to those who touch them.
    pub(crate) prefetch_after: Duration,
    pub(crate) variant: Variant,
}

/// What could not be mended: the run must end.
#[derive(Debug)]
pub(crate) enum Fatal {
    /// Old frames could not be put back.
    Lost { range: PageRange, errno: i32 },
    /// Old frames could not be given back.
    Discard(io::Error),
    /// Waiters could not be woken.
    Wake(UffdError),
    /// Pages stay write-protected.
    Protected { range: PageRange, errno: i32 },
}

/// An open migration. Dropped unfinished, by a panic too, it lets the pages go, wakes who waits and
/// counts the pages as aborted.
pub(crate) struct Transaction<'a> {
    claim: Claim<'a>,
    tools: Tools<'a>,
    phase: Phase,
    /// Pages of the claim that are worked on, from its start: those before a hole that is known.
    reach: u32,
    /// Pages are or may be write-protected.
    protected: bool,
    /// Pages taken out of the guest's memory, from the start of the claim.
    out: u32,
    /// Pages of those with a new frame mapped.
    mapped: u32,
    /// Pages after those that are in their old frames again.
    restored: u32,
    /// Pages after `out` that were tried in vain.
    tried: u32,
    hole: bool,
    abort: Option<AbortReason>,
    /// Pages of `mapped` that are in their old frames, as a busted variant has it.
    forged: bool,
    lost: Option<Fatal>,
    /// With [`StrategyKind::Lazy`]: how the pages of `out` came back, from when they were sent away.
    away: Option<Returns>,
    retried: u32,
    /// When the last window was opened.
    opened: Tsc,
    times: Times,
    settled: bool,
}

impl<'a> Transaction<'a> {
    pub(crate) fn new(claim: Claim<'a>, tools: Tools<'a>, start: Tsc) -> Self {
        debug_assert_eq!(claim.words.len(), claim.classes.len());
        Self {
            reach: claim.words.len() as u32,
            claim,
            tools,
            phase: Phase::Claimed,
            protected: false,
            out: 0,
            mapped: 0,
            restored: 0,
            tried: 0,
            hole: false,
            abort: None,
            forged: false,
            lost: None,
            away: None,
            retried: 0,
            opened: start,
            times: Times {
                start,
                ..Times::default()
            },
            settled: false,
        }
    }

    fn pages(&self) -> u32 {
        self.claim.words.len() as u32
    }

    /// Pages that lie in new frames, from the start of the claim; 0 if they are not the first ones.
    pub(crate) fn mapped(&self) -> u32 {
        match &self.away {
            Some(returns) if !returns.all_fetched() => 0,
            _ => self.mapped,
        }
    }

    pub(crate) fn backend(&self) -> &dyn Backend {
        self.tools.backend
    }

    /// The page that the kernel stopped at without saying why.
    pub(crate) fn doubtful(&self) -> Option<usize> {
        let stopped = self.out > 0 && self.out < self.reach && !self.hole;
        stopped.then(|| self.claim.hva + self.out as usize * PAGE_SIZE)
    }

    /// The doubtful page is a hole.
    pub(crate) fn set_hole(&mut self) {
        self.hole = true;
    }

    /// Only the first `pages` pages of the claim are there; after them comes a hole.
    pub(crate) fn stop_at_hole(&mut self, pages: u32) {
        debug_assert!(pages < self.pages() && self.phase == Phase::Claimed);
        self.reach = pages;
    }

    /// Aborts before anything was done.
    pub(crate) fn give_up(&mut self, reason: AbortReason) {
        self.tried = self.reach;
        self.abort = Some(reason);
    }

    /// Pages of `out` that are mapped, from the start of the claim.
    fn present(&self) -> u32 {
        self.mapped + self.restored
    }

    /// The rest of them, once the window is closed.
    fn lost_pages(&self) -> u32 {
        match &self.away {
            Some(returns) => returns.lost(),
            None => self.out - self.present(),
        }
    }

    /// Ends the migration: the pages are let go, who waits is woken, and all is counted.
    ///
    /// # Errors
    /// What could not be mended.
    pub(crate) fn finish(mut self) -> Result<(), Fatal> {
        let result = self.settle();
        self.tell();
        result
    }

    fn settle(&mut self) -> Result<(), Fatal> {
        self.settled = true;
        self.keep_old_frames();
        if self.tools.variant == Variant::StaleFrame && self.mapped > 0 {
            self.tools.backend.scribble();
        }
        let woken = self.let_go();
        self.times.end = clock::now();
        self.count();
        self.lost.take().map_or(woken, Err)
    }

    fn keep_old_frames(&mut self) {
        match &self.away {
            // Frames that could not be put back stay where they are.
            Some(returns) if !returns.all_fetched() && self.lost.is_none() => {
                if let Err(error) = self.tools.backend.forget(self.out) {
                    self.lost = Some(Fatal::Discard(error));
                }
            }
            _ if self.forged => {}
            _ => self.tools.backend.commit(self.mapped),
        }
    }

    fn let_go(&mut self) -> Result<(), Fatal> {
        // Read when the pages were mapped, in whichever frames.
        let now = self.times.mapped;
        let mut waited = false;
        // Pages that were sent away were let go one by one.
        let kept = if self.away.is_some() { self.out } else { 0 };
        for (nth, word) in self.claim.words.iter().enumerate().skip(kept as usize) {
            let nth = nth as u32;
            waited |= word.leave(if nth < self.present() {
                Leave::Idle(now)
            } else if nth < self.out {
                Leave::Lost
            } else if nth == self.out && self.hole {
                Leave::Hole
            } else {
                Leave::Untouched
            });
        }
        // Faults that the handler left to this migration. Those that were queued before the map are
        // awake already, the others are not.
        if waited {
            let (lane, hva, pages) = (self.claim.lane, self.claim.hva, self.pages());
            self.tools
                .backend
                .wake(lane, hva, pages)
                .map_err(Fatal::Wake)?;
        }
        Ok(())
    }

    /// Pages of the claim that have an outcome; those after them were let go untried.
    fn attempted(&self) -> u32 {
        self.out + self.tried.max(self.hole.into())
    }

    fn count(&self) {
        let attempted = self.attempted() as usize;
        for (nth, class) in self.claim.classes[..attempted].iter().enumerate() {
            let nth = nth as u32;
            let Some(class) = class else {
                let moved = self.is_committed(nth);
                self.tools.counters.moved_along.add(moved.into());
                continue;
            };
            let cells = &self.tools.counters.by_class[class.index()];
            cells.attempted.add(1);
            if self.is_committed(nth) {
                cells.committed.add(1);
            } else if nth == self.out && self.hole {
                cells.skipped.add(1);
            } else {
                cells.aborted.add(1);
            }
        }
        let committed = (0..self.mapped).any(|nth| self.is_committed(nth));
        self.tools.counters.windows.add(committed.into());
        self.tools.counters.retried.add(self.retried.into());
        self.tools.counters.lost_pages.add(self.lost_pages().into());
    }

    /// Whether the `nth` page of the claim lies in a new frame.
    fn is_committed(&self, nth: u32) -> bool {
        nth < self.mapped && self.away.as_ref().is_none_or(|away| away.is_fetched(nth))
    }

    fn range(&self, skip: u32, pages: u32) -> PageRange {
        PageRange::new(Gfn(self.claim.gfn.0 + u64::from(skip)), pages)
    }

    /// Reports what was counted.
    fn tell(&self) {
        let on = |event| self.tools.observer.on(&event);
        if let (Some(AbortReason::Deadlock), Some(waiter)) = (self.abort, &self.tools.waiter) {
            on(Event::DeadlockBroken {
                range: self.range(0, self.attempted()),
                closed: waiter.cycle_closed(),
                restored: self.times.mapped.max(self.times.start),
            });
        }
        if self.retried > 0 {
            on(Event::Retried {
                range: self.range(0, self.attempted()),
                times: self.retried,
            });
        }
        for &(began, done) in self.tools.backend.locked() {
            on(Event::Locked { began, done });
        }
        let outcomes = self.attempted() - u32::from(self.hole);
        let mut first = 0;
        while first < outcomes {
            let committed = self.is_committed(first);
            let same = |nth: &u32| self.is_committed(*nth) == committed;
            let pages = (first..outcomes).take_while(same).count() as u32;
            let range = self.range(first, pages);
            if committed {
                let times = self.times;
                on(Event::Committed { range, times });
            } else if let Some(reason) = self.abort {
                on(Event::Aborted {
                    range,
                    phase: self.phase,
                    reason,
                    times: self.times,
                });
            }
            first += pages;
        }
        if self.hole {
            on(Event::Skipped {
                range: self.range(self.out, 1),
                reason: SkipReason::Hole,
            });
        }
    }
}

impl Drop for Transaction<'_> {
    fn drop(&mut self) {
        if self.settled {
            return;
        }
        if self.mapped < self.out || self.out == 0 {
            self.abort.get_or_insert(AbortReason::Panicked);
        }
        if self.out == 0 && self.tried == 0 && !self.hole {
            self.tried = self.reach;
        }
        // The panic that is under way ends the run; pages lost on top of it are in the counters.
        let _ = self.settle();
        // An observer that panics as well would end the process while pages are in order.
        let _ = catch_unwind(AssertUnwindSafe(|| self.tell()));
    }
}
