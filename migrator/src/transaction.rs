//! The migration of one batch: its phases, and the way back from each.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use crate::backend::{Backend, Source};
use crate::batch::Claim;
use crate::clock::Tsc;
use crate::counters::LiveCounters;
use crate::inject::Injector;
use crate::page_word::Leave;
use crate::uffd::{Transfer, UffdError};
use crate::windows::Windows;
use crate::{
    AbortReason, Event, Gfn, Observer, PAGE_SIZE, PageRange, Phase, SkipReason, Times, Variant,
    clock,
};

/// Tries of a call that the kernel asks to repeat.
const TRIES: u32 = 16;
/// Tries of the call that puts old frames back: without it guest memory is lost.
const TRIES_BACK: u32 = 1 << 16;

/// Between the copy and the second unmap of [`Variant::NoUnmap`].
const BUSTED_GAP: Duration = Duration::from_micros(20);

/// What a migration works with.
pub(crate) struct Tools<'a> {
    pub(crate) backend: &'a mut dyn Backend,
    pub(crate) injector: &'a mut Injector,
    pub(crate) counters: &'a LiveCounters,
    pub(crate) windows: &'a Windows,
    pub(crate) observer: &'a dyn Observer,
    pub(crate) variant: Variant,
}

/// What could not be mended: the run must end.
#[derive(Debug)]
pub(crate) enum Fatal {
    /// Old frames could not be put back.
    Lost { range: PageRange, errno: i32 },
    /// Waiters could not be woken.
    Wake(UffdError),
}

/// An open migration. Dropped unfinished, by a panic too, it lets the pages go, wakes who waits and
/// counts the pages as aborted.
pub(crate) struct Transaction<'a> {
    claim: Claim<'a>,
    tools: Tools<'a>,
    phase: Phase,
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
    retried: u32,
    times: Times,
    settled: bool,
}

impl<'a> Transaction<'a> {
    pub(crate) fn new(claim: Claim<'a>, tools: Tools<'a>, start: Tsc) -> Self {
        debug_assert_eq!(claim.words.len(), claim.classes.len());
        Self {
            claim,
            tools,
            phase: Phase::Claimed,
            out: 0,
            mapped: 0,
            restored: 0,
            tried: 0,
            hole: false,
            abort: None,
            forged: false,
            lost: None,
            retried: 0,
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

    /// Pages that lie in new frames.
    pub(crate) fn mapped(&self) -> u32 {
        self.mapped
    }

    pub(crate) fn backend(&self) -> &dyn Backend {
        self.tools.backend
    }

    /// The page that the kernel stopped at without saying why.
    pub(crate) fn doubtful(&self) -> Option<usize> {
        let stopped = self.out > 0 && self.out < self.pages() && !self.hole;
        stopped.then(|| self.claim.hva + self.out as usize * PAGE_SIZE)
    }

    /// The doubtful page is a hole.
    pub(crate) fn set_hole(&mut self) {
        self.hole = true;
    }

    /// Runs the window: at its end each page is in its new frame or in its old one. The claims are
    /// kept until [`Transaction::finish`].
    pub(crate) fn run(&mut self) {
        if self.tools.injector.strikes(Phase::Claimed) {
            return self.give_up(AbortReason::Injected);
        }
        let window = OpenWindow::new(self);
        window.0.unmap();
        if window.0.out > 0 {
            window.0.refill();
        }
        drop(window);
        if self.mapped == self.out && self.out > 0 {
            self.phase = Phase::Committed;
            self.tools.injector.strikes(Phase::Committed);
        }
    }

    /// Aborts before anything was done.
    pub(crate) fn give_up(&mut self, reason: AbortReason) {
        self.tried = self.pages();
        self.abort = Some(reason);
    }

    fn unmap(&mut self) {
        let (hva, pages) = (self.claim.hva, self.pages());
        let mut tries = 1;
        let taken = loop {
            self.times.window = clock::now();
            let taken = self.tools.backend.unmap(hva, pages);
            self.times.unmapped = clock::now();
            if taken.done > 0 || !is_transient(taken.errno) || tries == TRIES {
                break taken;
            }
            tries += 1;
            self.retried += 1;
        };
        self.out = pages_done(taken);
        match taken.errno {
            0 => {}
            libc::ENOENT => self.hole = true,
            errno if self.out == 0 => {
                self.tried = 1;
                self.abort = Some(AbortReason::Errno(errno));
            }
            // Some went: those are migrated, and the page after them is looked at later.
            _ => {}
        }
        if self.out > 0 {
            self.phase = Phase::Unmapped;
        } else {
            // Nothing was away: there was no window to report.
            (self.times.window, self.times.unmapped) = (0, 0);
        }
    }

    fn refill(&mut self) {
        if self.tools.injector.strikes(Phase::Unmapped) {
            self.abort = Some(AbortReason::Injected);
            return;
        }
        if self.tools.variant == Variant::NoUnmap {
            if !self.bust_unmap() {
                return;
            }
        } else {
            let bytes = self.tools.variant.copied_bytes();
            self.tools.backend.copy(Source::Limbo, self.out, bytes);
        }
        self.times.copied = clock::now();
        self.phase = Phase::Copied;
        if self.tools.injector.strikes(Phase::Copied) {
            self.abort = Some(AbortReason::Injected);
            return;
        }
        if self.tools.variant == Variant::SameFrame {
            self.forge();
        } else {
            self.map();
        }
        self.times.mapped = clock::now();
    }

    fn map(&mut self) {
        let mut tries = 1;
        while self.mapped < self.out {
            let given = self.tools.backend.map(
                self.claim.lane,
                self.claim.hva,
                self.mapped,
                self.out - self.mapped,
            );
            self.mapped += pages_done(given);
            if given.errno == 0 {
                continue;
            }
            if !is_transient(given.errno) || tries == TRIES {
                self.abort = Some(AbortReason::Errno(given.errno));
                return;
            }
            tries += 1;
            self.retried += 1;
        }
    }

    /// Maps the pages again, copies them as the guest may write them, and unmaps them again.
    #[cold]
    fn bust_unmap(&mut self) -> bool {
        let out = self.out;
        self.restore();
        if self.lost.is_some() {
            return false;
        }
        (self.out, self.restored) = (0, 0);
        self.hole = false;
        let source = Source::Mapped(self.claim.hva);
        self.tools.backend.copy(source, out, PAGE_SIZE);
        // Long enough for a vCPU to write, whatever else the host does.
        std::thread::sleep(BUSTED_GAP);
        let taken = self.tools.backend.unmap(self.claim.hva, out);
        self.out = pages_done(taken);
        if self.out == 0 {
            self.tried = 1;
            self.abort = Some(AbortReason::Errno(taken.errno));
        }
        self.out > 0
    }

    /// Puts the old frames back and takes that for a commit.
    #[cold]
    fn forge(&mut self) {
        self.restore();
        if self.lost.is_none() {
            self.forged = true;
            (self.mapped, self.restored) = (self.out, 0);
        }
    }

    /// Puts back the old frames of what has no new one.
    fn restore(&mut self) {
        if self.present() < self.out {
            self.put_back();
        }
    }

    #[cold]
    fn put_back(&mut self) {
        let mut tries = 1;
        // Once it failed, old frames are where they are.
        while self.present() < self.out && self.lost.is_none() {
            let (back, left) = (self.present(), self.out - self.present());
            let given = self
                .tools
                .backend
                .put_back(self.claim.lane, self.claim.hva, back, left);
            self.restored += pages_done(given);
            if given.errno == 0 {
                continue;
            }
            if !is_transient(given.errno) || tries == TRIES_BACK {
                self.lost = Some(Fatal::Lost {
                    range: self.range(self.present(), self.lost_pages()),
                    errno: given.errno,
                });
                self.abort.get_or_insert(AbortReason::Errno(given.errno));
            }
            tries += 1;
            std::thread::yield_now();
        }
        self.times.mapped = clock::now();
    }

    /// Pages of `out` that are mapped, from the start of the claim.
    fn present(&self) -> u32 {
        self.mapped + self.restored
    }

    /// The rest of them, once the window is closed.
    fn lost_pages(&self) -> u32 {
        self.out - self.present()
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
        if !self.forged {
            self.tools.backend.commit(self.mapped);
        }
        if self.tools.variant == Variant::StaleFrame && self.mapped > 0 {
            self.tools.backend.scribble();
        }
        let woken = self.let_go();
        self.times.end = clock::now();
        self.count();
        self.lost.take().map_or(woken, Err)
    }

    fn let_go(&mut self) -> Result<(), Fatal> {
        // Read when the pages were mapped, in whichever frames.
        let now = self.times.mapped;
        let mut waited = false;
        for (nth, word) in self.claim.words.iter().enumerate() {
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
            let cells = &self.tools.counters.by_class[class.index()];
            cells.attempted.add(1);
            if nth < self.mapped {
                cells.committed.add(1);
            } else if nth == self.out && self.hole {
                cells.skipped.add(1);
            } else {
                cells.aborted.add(1);
            }
        }
        self.tools.counters.windows.add(u64::from(self.mapped > 0));
        self.tools.counters.retried.add(self.retried.into());
        self.tools.counters.lost_pages.add(self.lost_pages().into());
    }

    fn range(&self, skip: u32, pages: u32) -> PageRange {
        PageRange::new(Gfn(self.claim.gfn.0 + u64::from(skip)), pages)
    }

    /// Reports what was counted.
    fn tell(&self) {
        let on = |event| self.tools.observer.on(&event);
        if self.retried > 0 {
            on(Event::Retried {
                range: self.range(0, self.attempted()),
                times: self.retried,
            });
        }
        if self.mapped > 0 {
            on(Event::Committed {
                range: self.range(0, self.mapped),
                times: self.times,
            });
        }
        let hole = u32::from(self.hole);
        let aborted = self.attempted() - self.mapped - hole;
        if let (1.., Some(reason)) = (aborted, self.abort) {
            on(Event::Aborted {
                range: self.range(self.mapped, aborted),
                phase: self.phase,
                reason,
                times: self.times,
            });
        }
        if self.hole {
            on(Event::Skipped {
                range: self.range(self.out, 1),
                reason: SkipReason::Hole,
            });
        }
    }
}

/// The window of a migration. However it ends, by a panic too, the old frames are put back where
/// there is no new one, before those who spin are told and before stopped vCPUs go on.
struct OpenWindow<'t, 'a>(&'t mut Transaction<'a>);

impl<'t, 'a> OpenWindow<'t, 'a> {
    fn new(transaction: &'t mut Transaction<'a>) -> Self {
        transaction.tools.windows.open();
        Self(transaction)
    }
}

impl Drop for OpenWindow<'_, '_> {
    fn drop(&mut self) {
        self.0.restore();
        self.0.tools.windows.close();
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
            self.tried = self.pages();
        }
        // The panic that is under way ends the run; pages lost on top of it are in the counters.
        let _ = self.settle();
        // An observer that panics as well would end the process while pages are in order.
        let _ = catch_unwind(AssertUnwindSafe(|| self.tell()));
    }
}

fn is_transient(errno: i32) -> bool {
    matches!(errno, libc::EAGAIN | libc::EBUSY)
}

fn pages_done(transfer: Transfer) -> u32 {
    (transfer.done / PAGE_SIZE) as u32
}
