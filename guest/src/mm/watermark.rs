//! Watermarks: who may take a page when few are left, and who must make room first.
//!
//! The levels and what they ask for are those of Linux (Documentation/admin-guide/mm/concepts.rst,
//! "Reclaim"); what a speculative fast path may do is from the thread "Memory allocation on
//! speculative fastpaths" (2022-05): `GFP_NOWAIT | __GFP_NOMEMALLOC | __GFP_NOWARN`.

mod after_grace;
mod rules;
mod want;

pub use after_grace::AfterGracePeriod;

use super::page::PageAllocator;
use crate::{
    Cpu,
    sync::{Background, lockdep},
};
use core::{
    fmt,
    panic::Location,
    sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
};
use underfoot_abi::{MAX_CPUS, PageByte, Variant};
use want::{Found, Want};

/// Pages asked of a reclaim at once (Linux's `SWAP_CLUSTER_MAX`).
pub const BATCH: usize = 32;
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

/// Why no page was given, nor what lies in one.
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
    /// There are as many objects of the kind as there may be, those that wait for their grace period
    /// among them. Pages may be free.
    Full,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reserve { free, min } => write!(
                f,
                "{free} pages are free, and {min} are kept for emergencies; give the guest more memory"
            ),
            Self::Empty => write!(f, "no page is free; give the guest more memory"),
            Self::Full => write!(
                f,
                "there are as many as there may be; wait for those that wait for a grace period, or use fewer"
            ),
        }
    }
}

impl core::error::Error for Refused {}

/// Who makes room.
pub trait Reclaim: Sync {
    /// Makes room for about `pages` pages; how many became free. May sleep: not in a read section,
    /// nor under a spinlock.
    fn reclaim(&self, cpu: &Cpu, pages: usize) -> usize;

    /// What it could make room of, as of now: slow, and asked only when memory has run out.
    fn reclaimable(&self) -> Reclaimable {
        Reclaimable::default()
    }
}

/// What could become free.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reclaimable {
    /// Pages that address spaces map, which can be taken away.
    pub mapped: usize,
    /// Callbacks that wait for a grace period; most free a page, or half of one.
    pub callbacks: u64,
}

/// Makes no room.
#[derive(Clone, Copy, Debug)]
pub struct NoReclaim;

impl Reclaim for NoReclaim {
    fn reclaim(&self, _cpu: &Cpu, _pages: usize) -> usize {
        0
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
    /// A task reclaimed by itself.
    pub direct: AtomicU64,
    /// An allocation was refused.
    pub refused: AtomicU64,
    /// Pages that the background reclaimer made free.
    pub background: AtomicU64,
}

/// What a task paid for a page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Paid {
    /// Times that it reclaimed.
    pub rounds: u64,
    /// Pages that it made free by that.
    pub pages: u64,
}

/// Single pages, given out by the rules of [`Mode`].
pub struct Watermarks {
    /// Where the pages come from; those who free them give them back there.
    pub pages: &'static PageAllocator,
    levels: Levels,
    reclaimer: &'static dyn Reclaim,
    background: Background,
    /// By CPU: refusals of fast paths since somebody there last paid.
    unpaid: [AtomicU32; MAX_CPUS],
    /// Of what was told that it was wanted in vain.
    want: Want,
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
            background: Background::new(),
            unpaid: [const { AtomicU32::new(0) }; MAX_CPUS],
            want: Want::new(),
            pressure: Pressure {
                wakes: AtomicU64::new(0),
                direct: AtomicU64::new(0),
                refused: AtomicU64::new(0),
                background: AtomicU64::new(0),
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
    /// [`Refused`], by the table at [`Mode`]. Of an ordinary allocation it is reported, as by
    /// [`Self::out_of_memory`].
    #[track_caller]
    pub fn allocate(&self, cpu: &Cpu, byte: PageByte, mode: Mode) -> Result<usize, Refused> {
        self.allocate_paying(cpu, byte, mode).0
    }

    /// As [`Self::allocate`]; also what the caller paid for it.
    #[track_caller]
    pub fn allocate_paying(
        &self,
        cpu: &Cpu,
        byte: PageByte,
        mode: Mode,
    ) -> (Result<usize, Refused>, Paid) {
        let may_reclaim = mode == Mode::Kernel && rules::may_sleep(cpu);
        let unpaid = &self.unpaid[cpu.id];
        if may_reclaim {
            unpaid.store(0, Relaxed);
        }
        // The checker is told that it may reclaim, whether it has to or not.
        let _may_reclaim = may_reclaim.then(|| lockdep::enter::<lockdep::Reclaim>(cpu));
        let mut paid = Paid::default();
        let mut fruitless = 0;
        loop {
            let refused = match self.attempt(cpu, byte, mode) {
                Ok(page) => return (Ok(page), paid),
                Err(refused) => refused,
            };
            if mode == Mode::FastPath {
                rules::somebody_pays(cpu, unpaid.fetch_add(1, Relaxed) + 1);
            }
            if !may_reclaim || fruitless == ATTEMPTS {
                self.pressure.refused.fetch_add(1, Relaxed);
                if may_reclaim {
                    let by = Location::caller();
                    let file = by.file().rsplit("src/").next().unwrap_or_default();
                    let what = format_args!("a {} page, {file}:{},", byte.kind().name(), by.line());
                    self.tell(cpu, what, paid);
                }
                return (Err(refused), paid);
            }
            let freed = self.direct(cpu);
            fruitless += usize::from(freed == 0);
            paid.rounds += 1;
            paid.pages += freed as u64;
        }
    }

    /// Reports that no memory was left for `what`, with the levels and what could become free: once, until
    /// `high` pages are free again, and once a second at most.
    pub fn out_of_memory(&self, cpu: &Cpu, what: &str) {
        self.tell(cpu, format_args!("{what}"), Paid::default());
    }

    #[cold]
    fn tell(&self, cpu: &Cpu, what: fmt::Arguments<'_>, paid: Paid) {
        self.want.tell(cpu, what, || Found {
            levels: self.levels,
            free: self.pages.free_estimate(),
            reclaimable: self.reclaimer.reclaimable(),
            paid,
        });
    }

    /// Has the caller make room for some pages: what a fast path owes that found none. How many became
    /// free. Not in a read section, nor under a spinlock.
    pub fn make_room(&self, cpu: &Cpu) -> usize {
        if !rules::may_sleep(cpu) {
            return 0;
        }
        self.unpaid[cpu.id].store(0, Relaxed);
        let _reclaims = lockdep::enter::<lockdep::Reclaim>(cpu);
        self.direct(cpu)
    }

    /// Keeps room free in the background until [`Self::stop_background`]: a thread does nothing else.
    pub fn run_background(&self, cpu: &Cpu) {
        self.background.run(cpu, || {
            let free = self.pages.free_estimate();
            let wanted = self.levels.high.saturating_sub(free);
            if wanted == 0 {
                return false;
            }
            let _reclaims = lockdep::enter::<lockdep::Reclaim>(cpu);
            // All at once: a grace period for each batch would be too slow.
            let freed = self.reclaim(cpu, wanted);
            self.pressure.background.fetch_add(freed as u64, Relaxed);
            freed > 0
        });
    }

    /// Ends [`Self::run_background`], now or when it begins.
    pub fn stop_background(&self, cpu: &Cpu) {
        self.background.stop(cpu);
    }

    fn direct(&self, cpu: &Cpu) -> usize {
        self.pressure.direct.fetch_add(1, Relaxed);
        self.reclaim(cpu, BATCH)
    }

    fn reclaim(&self, cpu: &Cpu, pages: usize) -> usize {
        cpu.header.reclaims.fetch_add(1, Relaxed);
        self.reclaimer.reclaim(cpu, pages)
    }

    fn attempt(&self, cpu: &Cpu, byte: PageByte, mode: Mode) -> Result<usize, Refused> {
        let min = self.levels.min;
        let variant = |wrong: Variant| mode == Mode::FastPath && cpu.header.variant == wrong as u32;
        let least = match mode {
            Mode::Emergency => 0,
            Mode::FastPath if variant(Variant::DipsIntoReserve) => 0,
            Mode::Kernel | Mode::FastPath => min,
        };
        let free = self.pages.free_estimate();
        if free >= self.levels.high {
            self.want.end();
        }
        if free < least {
            return Err(Refused::Reserve { free, min });
        }
        if mode != Mode::Emergency && free < self.levels.low && !variant(Variant::NeverPays) {
            self.pressure.wakes.fetch_add(1, Relaxed);
            self.background.wake(cpu);
        }
        let Some((page, kept)) = self.pages.allocate_above(cpu, byte, least) else {
            return Err(match least {
                0 => Refused::Empty,
                _ => Refused::Reserve { free, min },
            });
        };
        if mode != Mode::Emergency {
            rules::reserve_is_left(cpu, page, kept, min);
        }
        Ok(page)
    }
}

#[cfg(test)]
mod tests;
