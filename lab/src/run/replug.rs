//! Unplugs blocks of guest memory from the engine and plugs them again, while the guest keeps what they hold.

use super::RunError;
use super::engine::{Engine, Thread};
use super::session::Session;
use crate::experiment::Experiment;
use crate::histogram::Histogram;
use crate::record::{Histograms, PlugRecord};
use fastrand::Rng;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use underfoot_abi::PAGE_SIZE;
use underfoot_migrator::{BLOCK_PAGES, Gfn, Migrator, PageRange, PlugError, Stop};
use underfoot_vmm::Machine;
use vm_memory::{Address, GuestMemoryBackend, GuestMemoryRegion};

/// How long a window is waited for; the block then has its turn another time.
const PATIENCE: Duration = Duration::from_millis(100);
/// A request to end is seen after this.
const NAP: Duration = Duration::from_millis(2);
/// Sets these choices apart from others of the same seed.
const STREAM: u64 = 0x7265_706c_7567_0000;

/// How long it takes, a block at a time.
#[derive(Default)]
struct Lengths {
    unplug: Histogram,
    plug: Histogram,
}

/// A thread that plugs and unplugs.
pub struct Replugger {
    thread: Thread<PlugError>,
    lengths: Arc<Mutex<Lengths>>,
}

impl Replugger {
    /// Starts it, if there is to be one.
    pub fn start(
        experiment: &Experiment,
        machine: &Machine,
        migrator: &Arc<Migrator>,
    ) -> Result<Option<Self>, RunError> {
        let Some(rate) = experiment.replug else {
            return Ok(None);
        };
        let lengths = Arc::new(Mutex::new(Lengths::default()));
        let (migrator, theirs) = (Arc::clone(migrator), Arc::clone(&lengths));
        let blocks = blocks(machine);
        let rng = Rng::with_seed(experiment.seed.0 ^ STREAM);
        let period = Duration::from_secs(1) / u32::from(rate.get());
        let thread = Thread::spawn("replug".into(), move |stop| {
            replug_until(stop, &migrator, &blocks, period, rng, &theirs)
        })?;
        Ok(Some(Self { thread, lengths }))
    }

    /// Whether it has ended, though nobody asked it to.
    pub fn has_ended(&self) -> bool {
        self.thread.has_ended()
    }

    /// Ends it, with every block plugged unless it failed.
    pub fn join(&mut self) -> Result<(), PlugError> {
        self.thread.join()
    }

    /// What `unplug` and `plug` took.
    pub fn histograms(&self) -> Histograms {
        let lengths = self.lengths.lock().unwrap_or_else(PoisonError::into_inner);
        [
            ("plug.unplug", &lengths.unplug),
            ("plug.plug", &lengths.plug),
        ]
        .map(|(name, histogram)| (name.to_owned(), histogram.clone()))
        .into()
    }
}

/// Every block of guest memory.
fn blocks(machine: &Machine) -> Vec<PageRange> {
    let size = u64::from(BLOCK_PAGES);
    let regions = machine.ram().memory().iter();
    regions
        .flat_map(|region| {
            let first = Gfn::containing(region.start_addr().raw_value()).0;
            let end = first + region.len() / PAGE_SIZE as u64;
            (first / size..end.div_ceil(size)).map(move |block| {
                let (start, end) = ((block * size).max(first), ((block + 1) * size).min(end));
                PageRange::new(Gfn(start), (end - start) as u32)
            })
        })
        .collect()
}

fn replug_until(
    stop: &Stop,
    migrator: &Migrator,
    blocks: &[PageRange],
    period: Duration,
    mut rng: Rng,
    lengths: &Mutex<Lengths>,
) -> Result<(), PlugError> {
    let mut next = Instant::now();
    while !stop.is_requested() {
        let wait = next.saturating_duration_since(Instant::now());
        if !wait.is_zero() {
            std::thread::sleep(wait.min(NAP));
            continue;
        }
        // One that comes too late does not make up for it.
        next = (next + period).max(Instant::now());
        let block = blocks[rng.usize(..blocks.len())];
        let began = Instant::now();
        match migrator.unplug(block, PATIENCE) {
            Ok(()) => {}
            // The engine counts it.
            Err(PlugError::Busy { .. } | PlugError::InUse { .. }) => continue,
            Err(error) => return Err(error),
        }
        let unplugged = Instant::now();
        migrator.plug(block)?;
        let ns = |length: Duration| length.as_nanos() as u64;
        let mut lengths = lengths.lock().unwrap_or_else(PoisonError::into_inner);
        lengths.unplug.record(ns(unplugged - began));
        lengths.plug.record(ns(unplugged.elapsed()));
    }
    Ok(())
}

/// What it did; `None` if nothing was asked for.
pub fn record(session: &Session<'_>) -> Option<PlugRecord> {
    session.experiment.replug?;
    Some(session.engine.as_ref()?.plug_counters().into())
}

/// What it took.
pub fn histograms(engine: &Engine) -> Histograms {
    engine
        .replug()
        .map(Replugger::histograms)
        .unwrap_or_default()
}
