//! What the engine tells about what it does.

use std::fmt;

use crate::clock::Tsc;
use crate::{Gfn, PageRange, Phase, Verdict};

/// When the steps of a migration were, in TSC ticks; 0 for a step that was not reached.
///
/// The window, an upper bound of the time in which the pages were unavailable, is `window` to
/// `mapped`. An abort before any page was taken away had no window: both are 0. Otherwise neither is.
/// Who writes waits from `protect` on where pages were write-protected, to `mapped`, or to `end` if
/// they never were away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Times {
    /// The pages were claimed.
    pub start: Tsc,
    /// Right before consumers with translations of their own were told
    /// ([`Invalidations`](crate::Invalidations)); this and the next two are 0 where none has registered a
    /// page of these, or one did not acknowledge.
    pub told: Tsc,
    /// The invalidation was counted: what it takes to keep track of it.
    pub counted: Tsc,
    /// No consumer used the pages any more.
    pub quiet: Tsc,
    /// Right before the call that write-protects; 0 where there is none.
    pub protect: Tsc,
    /// Right after it.
    pub protected: Tsc,
    /// Right before the call that unmaps; 0 if it took nothing.
    pub window: Tsc,
    /// Right after it; 0 if it took nothing.
    pub unmapped: Tsc,
    /// The new frames hold the contents, and with [`Transactional`](crate::StrategyKind::Transactional)
    /// that was checked; before `window` with strategies that copy under protection. With the backend
    /// [`Copy`](crate::BackendKind::Copy) nothing is copied then: its mapping call does.
    pub copied: Tsc,
    /// Right after the last call that maps: the new frames, or the old ones that an abort put back.
    /// If some could not be put back ([`MoverError::Lost`](crate::MoverError::Lost)), when that was
    /// given up.
    pub mapped: Tsc,
    /// The old frames are in limbo and the pages are free to be claimed again.
    pub end: Tsc,
}

/// Why pages went back to their old frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AbortReason {
    /// The kernel went on refusing with this errno (EBUSY: a page is pinned or shared).
    Errno(i32),
    /// A test or [`Torment`](crate::Torment) asked for it.
    Injected,
    /// The mover panicked.
    Panicked,
    /// The vCPUs could not be stopped.
    NotPaused,
    /// A consumer with translations of its own did not acknowledge in time:
    /// [`Invalidations::laggards`](crate::Invalidations::laggards) names it.
    Unacknowledged,
    /// It was in a deadlock ([`Verdict::Deadlock`](crate::Verdict::Deadlock)).
    Deadlock,
    /// The grace period of the guest that it waited for did not end within two seconds
    /// ([`Variant::WindowWaitsGracePeriod`](crate::Variant::WindowWaitsGracePeriod)).
    NoGracePeriod,
    /// The window was open for longer than [`Builder::max_window`](crate::Builder::max_window) before
    /// the new frames were mapped.
    OverBudget,
}

impl AbortReason {
    /// A word for each, in the order of [`AbortReason::index`].
    pub const NAMES: [&'static str; 8] = [
        "refused",
        "injected",
        "panicked",
        "not-paused",
        "unacknowledged",
        "deadlock",
        "no-grace-period",
        "over-budget",
    ];

    /// Its place in [`AbortReason::NAMES`].
    #[must_use]
    pub const fn index(self) -> usize {
        match self {
            Self::Errno(_) => 0,
            Self::Injected => 1,
            Self::Panicked => 2,
            Self::NotPaused => 3,
            Self::Unacknowledged => 4,
            Self::Deadlock => 5,
            Self::NoGracePeriod => 6,
            Self::OverBudget => 7,
        }
    }
}

impl fmt::Display for AbortReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Errno(errno) => write!(f, "{}", std::io::Error::from_raw_os_error(*errno)),
            Self::Injected => f.write_str("injected"),
            Self::Panicked => f.write_str("the mover panicked"),
            Self::NotPaused => f.write_str("the vCPUs could not be stopped"),
            Self::Unacknowledged => f.write_str("a consumer did not acknowledge in time"),
            Self::Deadlock => f.write_str("it was in a deadlock"),
            Self::NoGracePeriod => f.write_str("the guest's grace period did not end"),
            Self::OverBudget => f.write_str("the window was longer than it may be"),
        }
    }
}

/// Why a claimed page was not moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SkipReason {
    /// Nothing was mapped there: the guest has not touched the page yet.
    Hole,
}

/// How a fault that reached the handler ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Served {
    /// A page that had never been touched was given a zeroed frame.
    Hole,
    /// The page was away ([`Lazy`](crate::StrategyKind::Lazy)) and was brought.
    Fetched,
    /// The page is in a window; the map at its end wakes who waits.
    Window,
    /// The page was mapped in the meantime; whoever waited was woken.
    Present,
    /// The page was lost ([`MoverError::Lost`](crate::MoverError::Lost)): whoever touched it waits
    /// on.
    Lost,
}

/// Something that happened. All times are TSC ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// Pages lie in new frames.
    Committed {
        /// Which.
        range: PageRange,
        /// When.
        times: Times,
    },
    /// Pages are back in their old frames.
    Aborted {
        /// Which.
        range: PageRange,
        /// How far they were.
        phase: Phase,
        /// Why.
        reason: AbortReason,
        /// When, as far as it went. If `window` is 0, the pages were never away; else `mapped` is
        /// when the old frames were back.
        times: Times,
    },
    /// A migration was in a deadlock and gave up: told before [`Event::Aborted`].
    DeadlockBroken {
        /// Its pages.
        range: PageRange,
        /// When the last wait of the cycle had begun ([`Cycle::closed`](crate::Cycle::closed)).
        closed: Tsc,
        /// When the old frames were back, so that whoever waited goes on.
        restored: Tsc,
    },
    /// Pages were claimed and left alone.
    Skipped {
        /// Which.
        range: PageRange,
        /// Why.
        reason: SkipReason,
    },
    /// The guest wrote pages while they were copied ([`Transactional`](crate::StrategyKind::Transactional)):
    /// it has them back, and they are copied once more.
    Conflicted {
        /// Which.
        range: PageRange,
        /// When, as in [`Event::Aborted`]; `end` is after the pages were given back.
        times: Times,
    },
    /// The kernel asked to try again, and the mover did.
    Retried {
        /// The pages that it was about.
        range: PageRange,
        /// How often.
        times: u32,
    },
    /// A call of the migration that is told next took the address-space lock for writing
    /// ([`Remap`](crate::BackendKind::Remap), [`Memslot`](crate::BackendKind::Memslot)): faults of every page waited for it.
    Locked {
        /// The mover called.
        began: Tsc,
        /// It was over.
        done: Tsc,
    },
    /// Frame numbers were compared.
    Verified {
        /// The pages committed.
        range: PageRange,
        /// Of them, proved to lie in another frame.
        changed: u32,
        /// Of them, still in the frame in which they were: an integrity error each.
        same: u32,
    },
    /// Old frames were written after commit: an integrity error each.
    StaleWrite {
        /// How many frames.
        frames: u32,
        /// When it was found.
        tsc: Tsc,
    },
    /// A fault reached the handler.
    Fault {
        /// The page.
        gfn: Gfn,
        /// How it ended.
        served: Served,
        /// The thread that sleeps, by the kernel's id, or the worker of KVM's that does so for a vCPU
        /// that is halted.
        thread: i32,
        /// The handler had read it.
        read: Tsc,
        /// The handler was done with it.
        done: Tsc,
    },
}

/// Is told every [`Event`], on the thread on which it happened.
///
/// It is called outside of windows, but on the hot path: it should neither allocate nor lock.
pub trait Observer: Send + Sync {
    /// Takes note of `event`.
    fn on(&self, event: &Event);

    /// Takes note of what the [`Watchdog`](crate::Watchdog) has found, on its thread; not on the hot
    /// path.
    fn on_verdict(&self, verdict: &Verdict) {
        let _ = verdict;
    }
}

/// Takes note of nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Observer for Silent {
    fn on(&self, _: &Event) {}
}
