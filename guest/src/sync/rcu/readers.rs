//! Readers that were switched out in a section: a list for each CPU, which runs through what the
//! threads keep.
//!
//! Threads belong to a CPU for life, so a list is touched by its own CPU only, with interrupts
//! masked: there is no lock. The atomics are for the stall detector of other CPUs, which reads a
//! place or a number that may be old.

use super::StalledReader;
use crate::{
    Cpu,
    sched::{Priority, ThreadId},
};
use core::sync::atomic::{
    AtomicPtr, AtomicU32, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};
use core::{panic::Location, ptr::null_mut};

/// What a thread keeps for preemptible RCU. Zero is that of a thread in no section.
#[derive(Debug, Default)]
pub struct ReaderState {
    /// Sections that the thread is in.
    pub(super) nesting: AtomicU32,
    /// What its outermost section's end has to see to: [`BLOCKED`], [`BOOSTED`], [`NEED_QS`].
    pub(super) special: AtomicU32,
    /// Neighbours in its CPU's list, by thread number plus one; 0 at the ends.
    newer: AtomicU32,
    older: AtomicU32,
    /// The first grace period that the section holds up.
    holds: AtomicU64,
    /// Where its outermost section began; null before its first.
    entered: AtomicPtr<Location<'static>>,
}

/// It is in its CPU's list.
pub(super) const BLOCKED: u32 = 1;
/// Its priority was raised.
pub(super) const BOOSTED: u32 = 2;
/// A grace period waits for this very section.
pub(super) const NEED_QS: u32 = 4;

impl ReaderState {
    /// That of a new thread.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            nesting: AtomicU32::new(0),
            special: AtomicU32::new(0),
            newer: AtomicU32::new(0),
            older: AtomicU32::new(0),
            holds: AtomicU64::new(0),
            entered: AtomicPtr::new(null_mut()),
        }
    }

    /// Notes that the outermost section begins here.
    pub(super) fn enter(&self, here: &'static Location<'static>) {
        let place = core::ptr::from_ref(here).cast_mut();
        self.entered.store(place, Relaxed);
    }

    fn entered(&self) -> Option<&'static Location<'static>> {
        // SAFETY: null, or stored by `enter` from a reference to what lives for ever.
        unsafe { self.entered.load(Relaxed).as_ref() }
    }

    /// Adds `bits` to `special`. Only its own CPU writes it, with interrupts masked.
    pub(super) fn mark(&self, bits: u32) {
        self.special
            .store(self.special.load(Relaxed) | bits, Relaxed);
    }
}

/// One CPU's readers that were switched out, the newest first, and what it has reported itself.
///
/// The order is that of the grace periods that they hold up (as that of Linux's `->blkd_tasks`, whose
/// tail from `->gp_tasks` on holds up the one in progress), so that the oldest answers for all.
#[derive(Debug)]
pub(super) struct Readers {
    newest: AtomicU32,
    oldest: AtomicU32,
    /// The last grace period in which the CPU itself was quiescent.
    pub(super) passed: AtomicU64,
    /// Readers boosted so far.
    pub(super) boosts: AtomicU64,
}

impl Readers {
    pub(super) const fn new() -> Self {
        Self {
            newest: AtomicU32::new(0),
            oldest: AtomicU32::new(0),
            passed: AtomicU64::new(0),
            boosts: AtomicU64::new(0),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.oldest.load(Relaxed) == 0
    }

    /// Enlists `thread`, whose state is `reader`, as holding up grace periods from `holds` on.
    pub(super) fn push(&self, cpu: &Cpu, (reader, thread): (&ReaderState, ThreadId), holds: u64) {
        let link = thread.0 + 1;
        let newest = self.newest.load(Relaxed);
        reader.mark(BLOCKED);
        reader.newer.store(0, Relaxed);
        reader.older.store(newest, Relaxed);
        reader.holds.store(holds, Relaxed);
        match state(cpu, newest) {
            Some(next) => next.newer.store(link, Relaxed),
            // Release: pairs with the acquire in `oldest`.
            None => self.oldest.store(link, Release),
        }
        self.newest.store(link, Relaxed);
    }

    /// Takes `reader` out.
    pub(super) fn remove(&self, cpu: &Cpu, reader: &ReaderState) {
        let (newer, older) = (reader.newer.load(Relaxed), reader.older.load(Relaxed));
        match state(cpu, newer) {
            Some(next) => next.older.store(older, Relaxed),
            None => self.newest.store(older, Relaxed),
        }
        match state(cpu, older) {
            Some(next) => next.newer.store(newer, Relaxed),
            None => self.oldest.store(newer, Release),
        }
    }

    /// Whether some reader holds grace period `number` up.
    pub(super) fn hold_up(&self, cpu: &Cpu, number: u64) -> bool {
        state(cpu, self.oldest.load(Relaxed))
            .is_some_and(|reader| reader.holds.load(Relaxed) <= number)
    }

    /// The oldest reader. On any CPU.
    pub(super) fn oldest(&self, cpu: &Cpu) -> Option<StalledReader> {
        let link = self.oldest.load(Acquire);
        Some(StalledReader {
            thread: ThreadId(link.checked_sub(1)?),
            entered: state(cpu, link)?.entered()?,
        })
    }

    /// Raises the priority of those that hold grace period `number` up.
    pub(super) fn boost(&self, cpu: &Cpu, number: u64) {
        let mut link = self.oldest.load(Relaxed);
        while let Some(reader) = state(cpu, link) {
            if reader.holds.load(Relaxed) > number {
                return;
            }
            if reader.special.load(Relaxed) & BOOSTED == 0 {
                reader.mark(BOOSTED);
                self.boosts.store(self.boosts.load(Relaxed) + 1, Relaxed);
                cpu.sched
                    .boost(cpu, ThreadId(link - 1), Some(Priority::BOOST));
            }
            link = reader.newer.load(Relaxed);
        }
    }
}

/// The state of the thread that `link` names.
fn state(cpu: &Cpu, link: u32) -> Option<&ReaderState> {
    (link != 0).then(|| &cpu.sched.local_of(ThreadId(link - 1)).rcu)
}
