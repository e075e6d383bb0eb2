//! Where each CPU's tick last found it, for whoever asks why a CPU gets nowhere.

use crate::arch::tsc;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use underfoot_abi::MAX_CPUS;

/// Where the last tick of each CPU interrupted it, and when.
#[derive(Debug)]
pub struct Sightings([Slot; MAX_CPUS]);

/// A cache line of its own: its CPU writes it at each tick.
#[derive(Debug)]
#[repr(align(64))]
struct Slot {
    position: AtomicU64,
    /// 0 before the first tick.
    tsc: AtomicU64,
}

/// Where a CPU was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// The instruction that the tick interrupted (RIP).
    pub position: u64,
    /// When, in TSC ticks.
    pub tsc: u64,
}

impl Sightings {
    /// No CPU has ticked.
    #[must_use]
    pub const fn new() -> Self {
        Self(
            [const {
                Slot {
                    position: AtomicU64::new(0),
                    tsc: AtomicU64::new(0),
                }
            }; MAX_CPUS],
        )
    }

    /// CPU `id`, which calls this, was interrupted by its tick at `position`.
    ///
    /// Both words are relaxed: who reads them meanwhile may get the position of one tick with the time of the next.
    #[inline]
    pub fn note(&self, id: usize, position: u64) {
        self.put(id, position, tsc());
    }

    #[inline]
    fn put(&self, id: usize, position: u64, tsc: u64) {
        self.0[id].position.store(position, Relaxed);
        self.0[id].tsc.store(tsc, Relaxed);
    }

    /// As [`Self::note`], at `tsc`.
    #[cfg(all(test, not(loom)))]
    pub fn note_at(&self, id: usize, position: u64, tsc: u64) {
        self.put(id, position, tsc);
    }

    /// Where CPU `id` was; `None` before its first tick.
    #[must_use]
    pub fn of(&self, id: usize) -> Option<Sighting> {
        let tsc = self.0[id].tsc.load(Relaxed);
        (tsc != 0).then(|| Sighting {
            position: self.0[id].position.load(Relaxed),
            tsc,
        })
    }
}

impl Default for Sightings {
    fn default() -> Self {
        Self::new()
    }
}
