//! Watermarks: who may take a page when few are left, and who must make room first.
//!
//! The levels and what they ask for are those of Linux (Documentation/admin-guide/mm/concepts.rst,
//! "Reclaim"); what a speculative fast path may do is from the thread "Memory allocation on
//! speculative fastpaths" (2022-05): `GFP_NOWAIT | __GFP_NOMEMALLOC | __GFP_NOWARN`.

use super::{page::PageAllocator, without_bottom_halves};
use crate::{
    Cpu,
    sync::{Rcu, lockdep},
};
use core::{
    fmt,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};
use underfoot_abi::PageByte;

/// Pages asked of a direct reclaim at once (Linux's `SWAP_CLUSTER_MAX`).
const BATCH: usize = 32;
/// Direct reclaims without progress before an allocation fails.
const ATTEMPTS: usize = 4;

/// What an allocation may do.
///
/// | free pages | `Kernel` | `FastPath` | `Emergency` |
/// | --- | --- | --- | --- |
/// | above low | takes one | takes one | takes one |
/// | from min to low | wakes the reclaimer, takes one | the same | takes one |
/// | below min | reclaims itself, then again | fails | takes one |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// An ordinary allocation: may reclaim, and so sleep. Not in a read section, nor under a spinlock.
    Kernel,
    /// Never sleeps, never reclaims, leaves the emergency reserve alone, and may fail.
    FastPath,
    /// Of those who make room themselves: the reserve is for them.
    Emergency,
}

/// Why no page was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Only the emergency reserve is left.
    Reserve {
        /// Pages free.
        free: usize,
        /// The reserve.
        min: usize,
    },
    /// Nothing is left.
    Empty,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reserve { free, min } => write!(
                f,
                "{free} pages are free, and {min} are kept for emergencies; give the guest more memory"
            ),
            Self::Empty => write!(f, "no page is free; give the guest more memory"),
        }
    }
}

impl core::error::Error for Refused {}

/// Who makes room.
pub trait Reclaim: Sync {
    /// Wakes the background reclaimer. From anywhere.
    fn wake(&self, cpu: &Cpu);
    /// Makes room for about `pages` pages; how many became free. May sleep: not in a read section,
    /// nor under a spinlock.
    fn reclaim(&self, cpu: &Cpu, pages: usize) -> usize;
}

/// Makes no room.
#[derive(Clone, Copy, Debug)]
pub struct NoReclaim;

impl Reclaim for NoReclaim {
    fn wake(&self, _cpu: &Cpu) {}
    fn reclaim(&self, _cpu: &Cpu, _pages: usize) -> usize {
        0
    }
}

/// Makes room by waiting for a grace period and running this CPU's callbacks, which free pages.
pub struct AfterGracePeriod {
    /// Whose callbacks.
    pub rcu: &'static Rcu,
}

/// Batches of callbacks that one reclaim runs at most.
const CALLBACK_BATCHES: usize = 64;

impl Reclaim for AfterGracePeriod {
    fn wake(&self, _cpu: &Cpu) {}

    /// What it returns is how many callbacks ran: most of them free a page, or half of one.
    fn reclaim(&self, cpu: &Cpu, pages: usize) -> usize {
        let ran = || cpu.area.callbacks[1].load(Relaxed) as usize;
        let before = ran();
        self.rcu.synchronize(cpu);
        for _ in 0..CALLBACK_BATCHES {
            let already = ran();
            without_bottom_halves(cpu, || self.rcu.process(cpu));
            if ran() == already || ran() - before >= pages {
                break;
            }
        }
        ran() - before
    }
}

/// The three levels, in pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Levels {
    /// Below this only emergencies are served.
    pub min: usize,
    /// Below this the reclaimer is woken.
    pub low: usize,
    /// At this the reclaimer rests.
    pub high: usize,
}

impl Levels {
    /// Levels that keep `min` pages for emergencies, in Linux's proportions (mm/page_alloc.c,
    /// `__setup_per_zone_wmarks`).
    #[must_use]
    pub const fn with_reserve(min: usize) -> Self {
        Self {
            min,
            low: min + min.div_ceil(4),
            high: min + min.div_ceil(2),
        }
    }
}

/// What happened at the levels since the start.
#[derive(Debug, Default)]
pub struct Pressure {
    /// The reclaimer was woken.
    pub wakes: AtomicU64,
    /// An allocation reclaimed by itself.
    pub direct: AtomicU64,
    /// An allocation was refused.
    pub refused: AtomicU64,
}

/// Single pages, given out by the rules of [`Mode`].
pub struct Watermarks {
    /// Where the pages come from; those who free them give them back there.
    pub pages: &'static PageAllocator,
    levels: Levels,
    reclaimer: &'static dyn Reclaim,
    /// What happened.
    pub pressure: Pressure,
}

impl Watermarks {
    /// The pages of `pages`, with these levels; `reclaimer` makes room.
    #[must_use]
    pub const fn new(
        pages: &'static PageAllocator,
        levels: Levels,
        reclaimer: &'static dyn Reclaim,
    ) -> Self {
        Self {
            pages,
            levels,
            reclaimer,
            pressure: Pressure {
                wakes: AtomicU64::new(0),
                direct: AtomicU64::new(0),
                refused: AtomicU64::new(0),
            },
        }
    }

    /// The levels.
    #[must_use]
    pub const fn levels(&self) -> Levels {
        self.levels
    }

    /// A page published as `byte`; its content is arbitrary.
    ///
    /// # Errors
    /// [`Refused`], by the table at [`Mode`].
    pub fn allocate(&self, cpu: &Cpu, byte: PageByte, mode: Mode) -> Result<usize, Refused> {
        // The checker is told that it may reclaim, whether it has to or not.
        let _may_reclaim = (mode == Mode::Kernel).then(|| lockdep::enter::<lockdep::Reclaim>(cpu));
        let mut attempts = 0;
        loop {
            let refused = match self.attempt(cpu, byte, mode) {
                Ok(page) => return Ok(page),
                Err(refused) => refused,
            };
            if mode != Mode::Kernel || attempts == ATTEMPTS {
                self.pressure.refused.fetch_add(1, Relaxed);
                return Err(refused);
            }
            if self.direct(cpu, BATCH) == 0 {
                attempts += 1;
            }
        }
    }

    /// Has the caller make room: what a fast path owes that found none. How many pages became free.
    /// Not in a read section, nor under a spinlock.
    pub fn make_room(&self, cpu: &Cpu, pages: usize) -> usize {
        let _reclaims = lockdep::enter::<lockdep::Reclaim>(cpu);
        self.direct(cpu, pages)
    }

    fn direct(&self, cpu: &Cpu, pages: usize) -> usize {
        self.pressure.direct.fetch_add(1, Relaxed);
        self.reclaimer.reclaim(cpu, pages)
    }

    fn attempt(&self, cpu: &Cpu, byte: PageByte, mode: Mode) -> Result<usize, Refused> {
        let free = self.pages.free_estimate();
        if mode != Mode::Emergency {
            if free < self.levels.min {
                return Err(Refused::Reserve {
                    free,
                    min: self.levels.min,
                });
            }
            if free < self.levels.low {
                self.pressure.wakes.fetch_add(1, Relaxed);
                self.reclaimer.wake(cpu);
            }
        }
        self.pages.allocate(cpu, 0, byte).ok_or(Refused::Empty)
    }
}

#[cfg(test)]
mod tests;
