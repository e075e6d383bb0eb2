//! How many pages went which way.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::Class;

/// Pages of one class, or of all. `attempted` = `committed` + `aborted` + `skipped` once no
/// migration is open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Claimed and tried.
    pub attempted: u64,
    /// In a new frame.
    pub committed: u64,
    /// Back in the old frame.
    pub aborted: u64,
    /// Left alone, as there was nothing to move.
    pub skipped: u64,
    /// Committed pages whose frame was proved to have changed.
    pub verified: u64,
}

impl Counts {
    /// Whether the counters add up.
    #[must_use]
    pub fn add_up(&self) -> bool {
        self.attempted == self.committed + self.aborted + self.skipped
            && self.verified <= self.committed
    }

    fn add(&mut self, other: &Self) {
        self.attempted += other.attempted;
        self.committed += other.committed;
        self.aborted += other.aborted;
        self.skipped += other.skipped;
        self.verified += other.verified;
    }
}

/// The counters of one mover or of several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// By class.
    pub by_class: [Counts; Class::COUNT],
    /// Windows in which at least one page was committed.
    pub windows: u64,
    /// Times that the kernel asked to try again, and the mover did.
    pub retried: u64,
    /// Committed pages whose frame numbers were compared.
    pub checked_frames: u64,
    /// Integrity errors: committed pages still in the same frame.
    pub same_frames: u64,
    /// Integrity errors: old frames that were written after commit, of those that are checked
    /// ([`Migrator::limbo_stride`](crate::Migrator::limbo_stride)).
    pub stale_writes: u64,
    /// Pages whose old frames could not be put back: they are never moved nor populated again, and
    /// whoever touches them waits until the migrator is dropped. Counted as aborted as well.
    pub lost_pages: u64,
    /// Pages that `UFFDIO_MOVE` moved and denied having moved, as Linux 6.18 does now and then. They
    /// are counted above as what they are; nothing is wrong with them.
    pub uncounted_pages: u64,
    /// Pages without a class that moved with the slot that they lie in; in none of the counters by class.
    pub moved_along: u64,
    /// Copies that the guest wrote behind, with [`Transactional`](crate::StrategyKind::Transactional).
    pub conflicts: u64,
    /// Pages of those copies.
    pub wasted_copies: u64,
    /// Migrations that copied under protection after too many conflicts.
    pub fallbacks: u64,
    /// Migrations that [`Torment`](crate::Torment) aborted; some were without a page to move.
    pub injected_aborts: u64,
    /// Sleeps of movers that [`Torment`](crate::Torment) asked for.
    pub pauses: u64,
    /// Migrations given up as their window was longer than
    /// [`Builder::max_window`](crate::Builder::max_window); their pages are tried again later.
    pub over_budget: u64,
}

impl Counters {
    /// All classes together.
    #[must_use]
    pub fn total(&self) -> Counts {
        let mut total = Counts::default();
        self.by_class.iter().for_each(|counts| total.add(counts));
        total
    }

    /// Same frames, stale writes and lost pages.
    #[must_use]
    pub fn integrity_errors(&self) -> u64 {
        self.same_frames + self.stale_writes + self.lost_pages
    }

    /// These and `other` together.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.by_class.iter_mut().zip(&other.by_class) {
            mine.add(theirs);
        }
        self.windows += other.windows;
        self.retried += other.retried;
        self.checked_frames += other.checked_frames;
        self.same_frames += other.same_frames;
        self.stale_writes += other.stale_writes;
        self.lost_pages += other.lost_pages;
        self.uncounted_pages += other.uncounted_pages;
        self.moved_along += other.moved_along;
        self.conflicts += other.conflicts;
        self.wasted_copies += other.wasted_copies;
        self.fallbacks += other.fallbacks;
        self.injected_aborts += other.injected_aborts;
        self.pauses += other.pauses;
        self.over_budget += other.over_budget;
    }
}

/// A counter with one writer at a time.
#[derive(Default)]
pub(crate) struct Cell(AtomicU64);

impl Cell {
    #[inline]
    pub(crate) fn add(&self, n: u64) {
        // One writer: a load and a store do what a locked add would, for a tenth of its price.
        self.0
            .store(self.0.load(Ordering::Relaxed) + n, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[derive(Default)]
pub(crate) struct ClassCells {
    pub(crate) attempted: Cell,
    pub(crate) committed: Cell,
    pub(crate) aborted: Cell,
    pub(crate) skipped: Cell,
    pub(crate) verified: Cell,
}

/// The counters of one mover while it runs: one writer, any number of readers.
#[derive(Default)]
pub(crate) struct LiveCounters {
    pub(crate) by_class: [ClassCells; Class::COUNT],
    pub(crate) windows: Cell,
    pub(crate) retried: Cell,
    pub(crate) checked_frames: Cell,
    pub(crate) same_frames: Cell,
    pub(crate) stale_writes: Cell,
    pub(crate) lost_pages: Cell,
    pub(crate) uncounted_pages: Cell,
    pub(crate) moved_along: Cell,
    pub(crate) conflicts: Cell,
    pub(crate) wasted_copies: Cell,
    pub(crate) fallbacks: Cell,
    pub(crate) injected_aborts: Cell,
    pub(crate) pauses: Cell,
    pub(crate) over_budget: Cell,
}

impl LiveCounters {
    /// The values now; exact if the mover does not run.
    pub(crate) fn snapshot(&self) -> Counters {
        Counters {
            by_class: std::array::from_fn(|class| {
                let cells = &self.by_class[class];
                Counts {
                    attempted: cells.attempted.get(),
                    committed: cells.committed.get(),
                    aborted: cells.aborted.get(),
                    skipped: cells.skipped.get(),
                    verified: cells.verified.get(),
                }
            }),
            windows: self.windows.get(),
            retried: self.retried.get(),
            checked_frames: self.checked_frames.get(),
            same_frames: self.same_frames.get(),
            stale_writes: self.stale_writes.get(),
            lost_pages: self.lost_pages.get(),
            uncounted_pages: self.uncounted_pages.get(),
            moved_along: self.moved_along.get(),
            conflicts: self.conflicts.get(),
            wasted_copies: self.wasted_copies.get(),
            fallbacks: self.fallbacks.get(),
            injected_aborts: self.injected_aborts.get(),
            pauses: self.pauses.get(),
            over_budget: self.over_budget.get(),
        }
    }
}
