//! The guest's grace periods: which is in progress, whom it waits for, and asking for one.

use crate::shared::SharedRegion;
use std::sync::atomic::{AtomicU64, Ordering, fence};
use underfoot_migrator::clock::Tsc;

/// Who can ask: movers, and a pool of frames.
const ASKERS: usize = 65;

/// A grace period in progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Running {
    /// Its number, which no other has.
    pub(super) number: u64,
    /// The CPUs that it waits for still, a bit each.
    pub(super) cpus: u64,
    /// When it began.
    pub(super) since: Tsc,
}

/// What a mover waits for that asked for a grace period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Awaited {
    /// For this one, or for one after it.
    Running(Running),
    /// For one that has not begun, after `number`.
    NotBegun { number: u64 },
}

/// What movers asked for.
#[derive(Debug)]
pub(super) struct Asked(Box<[AtomicU64]>);

impl Default for Asked {
    fn default() -> Self {
        Self((0..ASKERS).map(|_| AtomicU64::new(0)).collect())
    }
}

impl Asked {
    /// Asks for a grace period that begins after this call.
    pub(super) fn ask(&self, shared: &SharedRegion, mover: u16) -> u64 {
        let header = shared.header();
        // What the caller did before is seen by whoever is told of a later grace period.
        fence(Ordering::SeqCst);
        let number = header.grace_number.load(Ordering::Acquire);
        // The one in progress began before this call, and one may be in progress that is not told yet.
        let target = (number & !1) + 4;
        if let Some(asked) = self.0.get(usize::from(mover)) {
            asked.store(target, Ordering::Relaxed);
        }
        header.grace_wanted.fetch_max(target, Ordering::SeqCst);
        target
    }

    /// What `mover` waits for, if what it asked for is not over.
    pub(super) fn awaited(&self, shared: &SharedRegion, mover: u16) -> Option<Awaited> {
        let asked = self.0.get(usize::from(mover))?.load(Ordering::Relaxed);
        let number = shared.header().grace_number.load(Ordering::Acquire);
        match number {
            number if number >= asked => None,
            number if number.is_multiple_of(2) => Some(Awaited::NotBegun { number }),
            number => running(shared, number).map(Awaited::Running),
        }
    }
}

/// Whether all grace periods up to this number are over.
pub(super) fn is_over(shared: &SharedRegion, number: u64) -> bool {
    shared.header().grace_number.load(Ordering::Acquire) >= number
}

/// The one that has this number, unless it has ended meanwhile.
fn running(shared: &SharedRegion, number: u64) -> Option<Running> {
    let header = shared.header();
    // Acquire, as the number before: see `published.rs` in the guest.
    let began = header.grace_cpus.load(Ordering::Acquire);
    let since = header.grace_began_tsc.load(Ordering::Acquire);
    let waits = |cpu: &u32| {
        let passed = &shared.vcpu(*cpu).grace_passed;
        began & 1 << cpu != 0 && passed.load(Ordering::Acquire) != number
    };
    let cpus = (0..shared.cpus())
        .filter(waits)
        .fold(0, |mask, cpu| mask | 1 << cpu);
    let same = header.grace_number.load(Ordering::Acquire) == number;
    same.then_some(Running {
        number,
        cpus,
        since,
    })
}
