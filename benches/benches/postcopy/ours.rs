//! The guest in this process, whose pages move lazily.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use underfoot_benches::attached::Attached;
use underfoot_benches::flat::{FlatMachine, Stalls};
use underfoot_migrator::{
    BackendKind, Event, MAX_BATCH, Migrator, Observer, Served, Silent, StrategyKind, clock,
};

const SLICE: Duration = Duration::from_millis(500);
/// Long enough for the guest to demand every page of a range.
const DELAY: Duration = Duration::from_millis(50);
/// A handler that looks for faults for so long before it sleeps hardly ever sleeps here.
const LINGER: Duration = Duration::from_micros(200);
/// How the vCPU waits, how long the handler looks for faults before it sleeps, and how long pages are left to those who
/// demand them.
#[derive(Clone, Copy)]
pub struct Way {
    pub name: &'static str,
    halts: bool,
    linger: Duration,
    delay: Duration,
}

const POLLS: Duration = Duration::ZERO;
pub const WAYS: [Way; 4] = [
    Way::new("halt, handler polls", true, POLLS, DELAY),
    Way::new("block, handler polls", false, POLLS, DELAY),
    Way::new("block, handler lingers", false, LINGER, DELAY),
    Way::new(
        "block, polls, prefetch at once",
        false,
        POLLS,
        Duration::ZERO,
    ),
];

impl Way {
    const fn new(name: &'static str, halts: bool, linger: Duration, delay: Duration) -> Self {
        Self {
            name,
            halts,
            linger,
            delay,
        }
    }
}

/// One guest from reset on, whose pages move for a slice.
///
/// # Panics
/// If anything is refused, or the guest read what it did not write.
pub fn round(way: Way) -> Stalls {
    let machine = FlatMachine::boot(1, way.halts);
    let since = machine.logs()[0].cursor();
    let demanded = move_lazily(way, &machine);
    Stalls::of_ticks(&machine.logs()[0].ticks_of(&demanded, since))
}

/// The pages of the area that the guest demanded.
fn move_lazily(way: Way, machine: &FlatMachine) -> HashSet<u64> {
    let area = machine.area();
    let first = area.gfns.start;
    let builder = Migrator::builder(Arc::clone(machine.memory()))
        .page_map(Arc::new(area))
        .strategy(StrategyKind::Lazy)
        .backend(BackendKind::Copy)
        .batch(MAX_BATCH)
        .prefetch_after(way.delay)
        .linger(way.linger)
        .tsc_hz(clock::measured_hz());
    let demands = Arc::new(Demands::default());
    Attached::watched(builder, demands.clone()).move_for(SLICE, &[Arc::new(Silent)], |_| ());
    let demanded = demands.0.lock().unwrap_or_else(PoisonError::into_inner);
    demanded.iter().map(|gfn| gfn - first).collect()
}

/// The frame number of each page that the handler brought.
#[derive(Default)]
struct Demands(Mutex<Vec<u64>>);

impl Observer for Demands {
    fn on(&self, event: &Event) {
        if let Event::Fault {
            gfn,
            served: Served::Fetched,
            ..
        } = event
        {
            // The handler's thread alone takes it.
            self.0
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(gfn.0);
        }
    }
}
