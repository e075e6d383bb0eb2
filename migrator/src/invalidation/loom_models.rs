//! Every interleaving of movers, a consumer's faults and its registration.
//!
//! The registry and the cache are the real ones. Memory is one page in one of two frames, in loom's
//! cells: two that touch a frame at once fail the model, and so does a count that is lost in a frame
//! that was left.

use std::pin::pin;
use std::ptr::{NonNull, without_provenance_mut};
use std::sync::Arc;
use std::time::Duration;

use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use loom::thread;

use super::*;
use crate::{Gfn, PAGE_SIZE, PageRange, Translate, Variant};

const PAGE: PageRange = PageRange::new(Gfn(0), 1);
/// What a frame holds that nobody may use.
const POISON: u64 = 1 << 32;

struct Memory {
    /// Which frame holds the page.
    lookup: AtomicUsize,
    frames: [UnsafeCell<u64>; 2],
}

// SAFETY: loom's cells check that accesses are apart: that is the model.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Memory {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            lookup: AtomicUsize::new(0),
            frames: [0, POISON].map(UnsafeCell::new),
        })
    }

    /// Moves the page to the other frame, and spoils the old one.
    fn relocate(&self) {
        let from = self.lookup.load(Ordering::Relaxed);
        let [old, new] = [&self.frames[from], &self.frames[1 - from]];
        // SAFETY: whoever is here as well fails the model.
        let value = old.with(|value| unsafe { *value });
        // SAFETY: as above.
        new.with_mut(|place| unsafe { *place = value });
        self.lookup.store(1 - from, Ordering::Relaxed);
        // SAFETY: as above.
        old.with_mut(|place| unsafe { *place = POISON });
    }

    fn add_one(&self, at: NonNull<u8>) {
        let frame = &self.frames[at.addr().get() - 1];
        // SAFETY: as above.
        frame.with_mut(|value| unsafe { *value += 1 });
    }

    fn value(&self) -> u64 {
        let frame = &self.frames[self.lookup.load(Ordering::Relaxed)];
        // SAFETY: as above.
        frame.with(|value| unsafe { *value })
    }
}

impl Translate for Memory {
    fn translate(&self, _: Gfn) -> Option<NonNull<u8>> {
        NonNull::new(without_provenance_mut(
            self.lookup.load(Ordering::Relaxed) + 1,
        ))
    }
}

/// A consumer, right or not.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Manners {
    Right,
    /// It forgets nothing.
    Forgets,
    /// It says that it is quiet without looking.
    Waits,
}

struct Device {
    view: CacheView,
    manners: Manners,
}

impl Consumer for Device {
    fn name(&self) -> &str {
        "device"
    }

    fn forget(&self, range: PageRange) {
        if self.manners != Manners::Forgets {
            self.view.forget(range);
        }
    }

    fn is_quiet(&self, range: PageRange) -> bool {
        self.manners == Manners::Waits || self.view.is_quiet(range)
    }
}

#[derive(Clone, Copy)]
struct Model {
    tracking: Tracking,
    variant: Variant,
    manners: Manners,
    /// Slots of the pool.
    pool: usize,
    exhausted: Exhausted,
    /// Moves one after the other.
    moves: usize,
    /// Another mover opens the range and changes nothing.
    bystander: bool,
    /// The consumer registers while movers are at work.
    late: bool,
    accesses: usize,
}

const PLAIN: Model = Model {
    tracking: Tracking::Pool,
    variant: Variant::None,
    manners: Manners::Right,
    pool: 1,
    exhausted: Exhausted::CountSpace,
    moves: 1,
    bystander: false,
    late: false,
    accesses: 2,
};

impl Model {
    fn check(self, preemptions: usize) {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(preemptions);
        // Those who wait for each other take turns at that for long.
        builder.max_branches = 20_000;
        builder.check(move || self.run());
    }

    fn run(self) {
        let options = InvalidationOptions {
            tracking: self.tracking,
            patience: Duration::ZERO,
            variant: self.variant,
            exhausted: self.exhausted,
            ..InvalidationOptions::default()
        };
        let registry = Arc::new(Invalidations::sized([PAGE], options, self.pool, 1));
        let memory = Memory::new();
        let cache = TranslationCache::new(1);
        let early = (!self.late).then(|| self.register(&registry, &cache));
        let consumer = {
            let (registry, memory) = (Arc::clone(&registry), Arc::clone(&memory));
            thread::spawn(move || self.consume(&registry, &memory, cache, early))
        };
        let bystander = self.bystander.then(|| {
            let registry = Arc::clone(&registry);
            thread::spawn(move || {
                let open = pin!(OpenRange::new(&registry));
                open.as_ref().start(PAGE).expect("loom has patience");
            })
        });
        let open = pin!(OpenRange::new(&registry));
        for _ in 0..self.moves {
            open.as_ref().start(PAGE).expect("loom has patience");
            memory.relocate();
            open.end();
        }
        let (subscription, done) = consumer.join().expect("no panic");
        if let Some(thread) = bystander {
            thread.join().expect("no panic");
        }
        assert_eq!(memory.value(), done, "an update was lost");
        if self.variant == Variant::None {
            assert!(subscription.read_begin().is_some(), "open for ever");
            assert!(registry.unbalanced().is_empty());
        }
    }

    fn register(self, registry: &Arc<Invalidations>, cache: &TranslationCache) -> Subscription {
        let device = Arc::new(Device {
            view: cache.view(),
            manners: self.manners,
        });
        registry
            .register(device, 0, PAGE_SIZE as u64, Sharing::Shared)
            .expect("a good range")
    }

    /// Accesses that came through; those that found the page in flight are not tried again.
    fn consume(
        self,
        registry: &Arc<Invalidations>,
        memory: &Memory,
        mut cache: TranslationCache,
        early: Option<Subscription>,
    ) -> (Subscription, u64) {
        let subscription = early.unwrap_or_else(|| self.register(registry, &cache));
        let done = (0..self.accesses).filter(|_| {
            let add = |at| memory.add_one(at);
            cache.access(Gfn(0), &subscription, memory, add).is_ok()
        });
        let done = done.count() as u64;
        (subscription, done)
    }
}

#[test]
fn loom_no_update_is_lost_with_any_tracking() {
    for tracking in Tracking::ALL {
        Model { tracking, ..PLAIN }.check(3);
    }
}

#[test]
fn loom_late_registration_with_any_tracking() {
    for tracking in Tracking::ALL {
        Model {
            tracking,
            moves: 2,
            late: true,
            accesses: 1,
            ..PLAIN
        }
        .check(3);
    }
}

/// A late registration while one mover moves the page and another has it open as well.
fn among_two_movers(tracking: Tracking, pool: usize, preemptions: usize) {
    Model {
        tracking,
        pool,
        bystander: true,
        late: true,
        accesses: 1,
        ..PLAIN
    }
    .check(preemptions);
}

#[test]
fn loom_late_registration_among_two_movers_in_a_pool() {
    among_two_movers(Tracking::Pool, 2, 2);
}

#[test]
fn loom_late_registration_among_two_movers_one_of_which_found_no_slot() {
    among_two_movers(Tracking::Pool, 1, 2);
}

#[test]
fn loom_late_registration_among_two_movers_on_their_stacks() {
    among_two_movers(Tracking::Stack, 0, 1);
}

/// The one who finds no slot waits until the other ends.
#[test]
fn loom_late_registration_among_two_movers_one_of_which_waits_for_a_slot() {
    Model {
        exhausted: Exhausted::Wait,
        bystander: true,
        late: true,
        accesses: 1,
        ..PLAIN
    }
    .check(1);
}

/// Without the bound, which loom does not know: who holds the slot and wants another waits for himself.
#[test]
#[should_panic = "exceeded maximum number of branches"]
fn loom_catches_a_wait_for_a_slot_of_ones_own() {
    loom::model(|| {
        let options = InvalidationOptions {
            exhausted: Exhausted::Wait,
            ..InvalidationOptions::default()
        };
        let registry = Invalidations::sized([PAGE], options, 1, 1);
        let (outer, inner) = (
            pin!(OpenRange::new(&registry)),
            pin!(OpenRange::new(&registry)),
        );
        outer.as_ref().start(PAGE).expect("nobody is there");
        inner.as_ref().start(PAGE).expect("nobody is there");
    });
}

#[test]
#[should_panic = "Causality violation"]
fn loom_catches_an_end_without_a_match() {
    Model {
        variant: Variant::InvalidateUnmatched,
        moves: 2,
        late: true,
        accesses: 1,
        ..PLAIN
    }
    .check(3);
}

#[test]
#[should_panic = "Causality violation"]
fn loom_catches_an_end_that_stops_at_zero() {
    Model {
        variant: Variant::InvalidateClamp,
        pool: 2,
        bystander: true,
        late: true,
        accesses: 1,
        ..PLAIN
    }
    .check(3);
}

#[test]
#[should_panic = "an update was lost"]
fn loom_catches_a_fault_that_ignores_the_sequence() {
    Model {
        variant: Variant::InvalidateNoSequence,
        accesses: 1,
        ..PLAIN
    }
    .check(3);
}

#[test]
#[should_panic = "Causality violation"]
fn loom_catches_a_consumer_that_forgets_nothing() {
    Model {
        manners: Manners::Forgets,
        ..PLAIN
    }
    .check(3);
}

#[test]
#[should_panic = "Causality violation"]
fn loom_catches_a_consumer_that_acknowledges_at_once() {
    Model {
        manners: Manners::Waits,
        ..PLAIN
    }
    .check(3);
}

/// A subscription comes and goes while a mover looks for it; what it leaves behind is dropped once.
#[test]
fn loom_a_place_is_given_up_when_no_mover_uses_it() {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(|| {
        let options = InvalidationOptions::default();
        let registry = Arc::new(Invalidations::sized([PAGE], options, 1, 1));
        let dropped = Arc::new(AtomicU64::new(0));
        let consumer = {
            let (registry, dropped) = (Arc::clone(&registry), Arc::clone(&dropped));
            thread::spawn(move || {
                let register = || {
                    let guest = Arc::new(Guest(Arc::clone(&dropped)));
                    registry
                        .register(guest, 0, PAGE_SIZE as u64, Sharing::Shared)
                        .expect("a good range")
                };
                drop(register());
                register()
            })
        };
        {
            let open = pin!(OpenRange::new(&registry));
            open.as_ref().start(PAGE).expect("loom has patience");
        }
        let left = consumer.join().expect("no panic");
        assert_eq!(dropped.load(Ordering::Relaxed), 1);
        drop(left);
        assert_eq!(dropped.load(Ordering::Relaxed), 2);
    });
}

/// Nobody may ask it anything once it is gone.
struct Guest(Arc<AtomicU64>);

impl Consumer for Guest {
    fn name(&self) -> &str {
        "guest"
    }

    fn forget(&self, _: PageRange) {}

    fn is_quiet(&self, _: PageRange) -> bool {
        true
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}
