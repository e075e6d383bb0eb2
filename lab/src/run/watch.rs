//! The engine's watchdog: the thread that looks who waits for whom, and what it found.

use super::RunError;
use super::engine::Thread;
use super::observer::EventRecorder;
use super::waiting;
use crate::histogram::Histogram;
use crate::record::WatchdogRecord;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use underfoot_migrator::{Event, Migrator, Observer, Served, Verdict};
use underfoot_vmm::placement::{Placement, SchedPolicy};
use underfoot_vmm::{GuestWaits, Machine, SharedRegion};

/// It sleeps nearly always; where vCPUs and movers have every CPU, it must not wait for one of them.
const POLICY: SchedPolicy = SchedPolicy::Fifo(1);
/// Verdicts of each sort that are kept word by word.
const TOLD: usize = 16;

/// What the watchdog has found.
#[derive(Default)]
struct Found {
    /// From the closing of each cycle to its detection.
    found: Histogram,
    deadlocks: Vec<String>,
    stalls: Vec<String>,
}

/// Keeps verdicts, on the watchdog's thread: not on the hot path.
pub struct VerdictRecorder {
    found: Mutex<Found>,
    shared: SharedRegion,
    ns_per_tick: f64,
}

impl VerdictRecorder {
    fn new(machine: &Machine) -> Self {
        Self {
            found: Mutex::default(),
            shared: machine.shared().clone(),
            ns_per_tick: 1e6 / f64::from(machine.tsc_khz()),
        }
    }

    fn with<T>(&self, with: impl FnOnce(&mut Found) -> T) -> T {
        // What it holds is whole whatever panicked meanwhile.
        with(&mut self.found.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Observer for VerdictRecorder {
    fn on(&self, _: &Event) {}

    fn on_verdict(&self, verdict: &Verdict) {
        self.with(|all| match verdict {
            Verdict::Deadlock { cycle, found, .. } => {
                let ticks = found.saturating_sub(cycle.closed());
                all.found.record((ticks as f64 * self.ns_per_tick) as u64);
                if all.deadlocks.len() < TOLD {
                    all.deadlocks.push(verdict.to_string());
                }
            }
            Verdict::Stall(_) if all.stalls.len() < TOLD => {
                // What its end does not say, the vCPUs may.
                let vcpus = waiting::describe(&self.shared);
                all.stalls.push(format!("{verdict} ({vcpus})"));
            }
            Verdict::Stall(_) => {}
        });
    }
}

/// Records faults, and tells those that meet a window to those who keep who waits for whom.
pub struct FaultObserver {
    pub recorder: Arc<EventRecorder>,
    pub waits: Arc<GuestWaits>,
}

impl Observer for FaultObserver {
    fn on(&self, event: &Event) {
        if let Event::Fault {
            gfn,
            served: Served::Window,
            thread,
            read,
            ..
        } = *event
        {
            self.waits.slept(gfn, thread, read);
        }
        self.recorder.on(event);
    }
}

/// The watchdog at work.
pub struct Watch {
    recorder: Arc<VerdictRecorder>,
    thread: Thread<Infallible>,
}

impl Watch {
    /// Looks from here on at who waits for whom.
    pub fn start(migrator: &Migrator, machine: &Machine) -> Result<Self, RunError> {
        let recorder = Arc::new(VerdictRecorder::new(machine));
        let mut watchdog = migrator.watchdog().with_observer(recorder.clone());
        let thread = Thread::spawn("watchdog".into(), move |stop| {
            let placement = Placement {
                policy: Some(POLICY),
                ..Placement::default()
            };
            // A host that refuses it has it look later, now and then.
            let _ = placement.apply(0);
            watchdog.run(stop);
            Ok(())
        })?;
        Ok(Self { recorder, thread })
    }

    /// Whether its thread has ended.
    pub fn has_ended(&self) -> bool {
        self.thread.has_ended()
    }

    /// Ends it.
    pub fn end(&mut self) {
        let Ok(()) = self.thread.join();
    }

    /// What it found.
    pub fn record(&self, migrator: &Migrator) -> WatchdogRecord {
        let verdicts = migrator.verdicts();
        WatchdogRecord {
            cycles: verdicts.cycles,
            members: verdicts.members,
            broken: verdicts.broken,
            stalls: verdicts.stalls,
            verdicts: self.recorder.with(|found| {
                let both = found.deadlocks.iter().chain(&found.stalls);
                both.cloned().collect()
            }),
        }
    }

    /// From the closing of each cycle to its detection.
    pub fn found(&self) -> Histogram {
        self.recorder.with(|found| found.found.clone())
    }
}
