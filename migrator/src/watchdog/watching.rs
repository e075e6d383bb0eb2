//! The thread that looks at who waits for whom.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::{Cycle, Stalls, Verdict};
use crate::engine::Engine;
use crate::{Observer, Stop, clock};

/// Between two looks: a cycle is found within 10 ms of closing, with room for a thread that gets its CPU
/// late.
const LOOK: Duration = Duration::from_millis(4);
/// Between two looks while nobody moves pages, for those who wait for something else.
const IDLE_LOOK: Duration = Duration::from_millis(50);
/// Waits that are taken for stalls, unless something else is asked for.
const STALL: Duration = Duration::from_secs(1);

/// Looks for deadlocks, and has the migration in each of them give up, on the thread that runs it.
pub struct Watchdog {
    engine: Arc<Engine>,
    observer: Arc<dyn Observer>,
    stalls: Stalls,
    /// The cycles of the last look, which are not told again.
    told: Vec<Cycle>,
}

impl Watchdog {
    pub(crate) fn new(engine: Arc<Engine>) -> Self {
        Self {
            observer: Arc::clone(&engine.observer),
            stalls: Stalls::new(STALL),
            told: Vec::new(),
            engine,
        }
    }

    /// Has it tell `observer` what it finds ([`Observer::on_verdict`]), in place of the migrator's
    /// observer.
    #[must_use]
    pub fn with_observer(mut self, observer: Arc<dyn Observer>) -> Self {
        self.observer = observer;
        self
    }

    /// How long somebody must have waited, without a deadlock, to be told of; a second unless set.
    #[must_use]
    pub fn stall_after(mut self, patience: Duration) -> Self {
        self.stalls = Stalls::new(patience);
        self
    }

    /// Looks every 4 ms while movers run, every 50 ms else, until `stop` is requested.
    pub fn run(&mut self, stop: &Stop) {
        let engine = Arc::clone(&self.engine);
        while !stop.is_requested() {
            self.look();
            if engine.activity.is_any() {
                thread::sleep(LOOK);
            } else {
                engine.activity.wait(IDLE_LOOK);
            }
        }
    }

    fn look(&mut self) {
        let engine = Arc::clone(&self.engine);
        let cycles = engine.waits.find_cycles();
        for cycle in &cycles {
            let (found, asked) = (clock::now(), engine.waits.break_cycle(cycle));
            if !self.told.contains(cycle) {
                self.tell(&Verdict::Deadlock {
                    cycle: cycle.clone(),
                    asked,
                    found,
                });
            }
        }
        self.told = cycles;
        for stall in self.stalls.look(&engine.waits, Instant::now()) {
            self.tell(&Verdict::Stall(stall));
        }
    }

    fn tell(&self, verdict: &Verdict) {
        self.engine.verdicts.count(verdict);
        self.observer.on_verdict(verdict);
    }
}
