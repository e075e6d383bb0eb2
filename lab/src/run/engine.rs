//! The engine's threads: one for faults, one for each mover.

use super::observer::EventRecorder;
use super::{RunError, dma};
use crate::experiment::Experiment;
use crate::names::{Role, Variant, Verify};
use crate::placement::placement;
use crate::record::EngineCost;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::thread::{Builder, JoinHandle};
use underfoot_abi::{PAGE_SIZE, PageKind};
use underfoot_migrator::{
    Class, ClassSet, Counters, Gfn, Handler, HandlerError, Inject, InjectAction, Invalidations,
    Migrator, Mover, MoverError, PageRange, Phase, Rate, Stop, StrategyKind, Torment, Translate,
};
use underfoot_vmm::placement::{CpuSet, Placement, SchedPolicy};
use underfoot_vmm::{Machine, PageMapView};

/// Window in which the variant that panics does so: late enough that many have closed before.
const PANIC_IN_WINDOW: u64 = 1_000;

/// Nice value of movers on an overcommitted host, as [`overcommitted`] says.
const OVERCOMMIT_NICE: i32 = -10;

/// The engine at work on one machine.
pub struct Engine {
    migrator: Migrator,
    movers: Vec<Mover>,
    recorders: Vec<Arc<EventRecorder>>,
    fault_recorder: Arc<EventRecorder>,
    handler: Thread<HandlerError>,
    running: Vec<Thread<MoverError>>,
}

/// A thread that runs until it is asked to end, or fails.
struct Thread<E> {
    stop: Arc<Stop>,
    thread: Option<JoinHandle<Result<(), E>>>,
}

impl<E: Send + 'static> Thread<E> {
    fn spawn(
        name: String,
        body: impl FnOnce(&Stop) -> Result<(), E> + Send + 'static,
    ) -> Result<Self, RunError> {
        let failed = |source| RunError::Thread {
            name: name.clone(),
            source,
        };
        let stop = Arc::new(Stop::new().map_err(failed)?);
        let theirs = Arc::clone(&stop);
        let thread = Builder::new()
            .name(name.clone())
            .spawn(move || body(&theirs))
            .map_err(failed)?;
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }

    fn has_ended(&self) -> bool {
        self.thread.as_ref().is_some_and(JoinHandle::is_finished)
    }

    /// Asks the thread to end and waits for it; what it says, once.
    fn join(&mut self) -> Result<(), E> {
        // A sleeper that cannot be told looks every few milliseconds all the same.
        let _ = self.stop.request();
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(result)) => result,
            Some(Err(panic)) => std::panic::resume_unwind(panic),
            None => Ok(()),
        }
    }
}

impl<E> Drop for Thread<E> {
    fn drop(&mut self) {
        let _ = self.stop.request();
        if let Some(thread) = self.thread.take() {
            // Only reached on the way out of another failure, which is told instead.
            let _ = thread.join();
        }
    }
}

impl Engine {
    /// Puts the machine's memory under the engine; faults are served from here on.
    pub fn start(experiment: &Experiment, machine: &Machine) -> Result<Self, RunError> {
        let migrator = build(experiment, machine)?;
        machine.set_window(migrator.windows());
        let fault_recorder = Arc::new(EventRecorder::new(machine.tsc_khz()));
        let handler = serve(migrator.handler().with_observer(fault_recorder.clone()))?;
        let recorders: Vec<_> = (0..experiment.movers.get())
            .map(|_| Arc::new(EventRecorder::new(machine.tsc_khz())))
            .collect();
        let movers = recorders
            .iter()
            .map(|recorder| Ok(migrator.mover()?.with_observer(recorder.clone())))
            .collect::<Result<_, RunError>>()?;
        Ok(Self {
            migrator,
            movers,
            recorders,
            fault_recorder,
            handler,
            running: Vec::new(),
        })
    }

    /// Sets the movers going.
    pub fn begin_moving(&mut self, experiment: &Experiment) -> Result<(), RunError> {
        let asked = placement(
            Role::Mover,
            experiment.affinity.as_ref(),
            experiment.sched.as_ref(),
        );
        let policy = asked.policy.or_else(|| overcommitted(experiment));
        for (index, mut mover) in self.movers.drain(..).enumerate() {
            let (asked, wanted) = (
                asked.clone(),
                Placement {
                    policy,
                    ..asked.clone()
                },
            );
            let (told, placed) = sync_channel(1);
            let thread = Thread::spawn(format!("mover-{index}"), move |stop| {
                // Only what the user asked for is an error when the host refuses it.
                let applied = wanted.apply(index).or_else(|_| asked.apply(index));
                let go = applied.is_ok();
                // The receiver waits for exactly this.
                let _ = told.send(applied);
                if go { mover.run(stop) } else { Ok(()) }
            })?;
            self.running.push(thread);
            if let Ok(applied) = placed.recv() {
                applied?;
            }
        }
        Ok(())
    }

    /// Whether a thread of the engine has ended, though nobody asked it to.
    pub fn has_failed(&self) -> bool {
        self.handler.has_ended() || self.running.iter().any(Thread::has_ended)
    }

    /// Ends the movers and waits for them. Every one is joined, whatever another said.
    pub fn end_moving(&mut self) -> Vec<MoverError> {
        self.running.iter().for_each(|mover| {
            let _ = mover.stop.request();
        });
        self.running
            .iter_mut()
            .filter_map(|mover| mover.join().err())
            .collect()
    }

    /// Ends the service of faults, once the guest no longer runs.
    pub fn end_serving(&mut self) -> Option<HandlerError> {
        self.handler.join().err()
    }

    /// Where consumers register.
    pub fn invalidations(&self) -> Arc<Invalidations> {
        self.migrator.invalidations()
    }

    /// Where consumers find pages.
    pub fn translate(&self) -> Arc<dyn Translate> {
        self.migrator.translate()
    }

    /// What the movers counted; exact once they have ended.
    pub fn counters(&self) -> Counters {
        self.migrator.counters()
    }

    /// What the engine takes for itself.
    pub fn cost(&self) -> EngineCost {
        let counters = self.counters();
        EngineCost {
            pages: self.migrator.pages().into(),
            state_bytes: self.migrator.state_bytes() as u64,
            limbo_stride: self.migrator.limbo_stride(),
            uncounted_pages: counters.uncounted_pages,
            conflicts: counters.conflicts,
            wasted_copies: counters.wasted_copies,
            fallbacks: counters.fallbacks,
        }
    }

    /// One recorder per mover.
    pub fn recorders(&self) -> &[Arc<EventRecorder>] {
        &self.recorders
    }

    /// The fault handler's recorder.
    pub fn fault_recorder(&self) -> &EventRecorder {
        &self.fault_recorder
    }
}

fn serve(handler: Handler) -> Result<Thread<HandlerError>, RunError> {
    Thread::spawn("faults".into(), move |stop| handler.run(stop))
}

fn build(experiment: &Experiment, machine: &Machine) -> Result<Migrator, RunError> {
    let shared = machine.shared();
    let region = PageRange::new(
        Gfn(shared.gpa() / PAGE_SIZE as u64),
        (shared.size() / PAGE_SIZE) as u32,
    );
    let mut builder = Migrator::builder(Arc::clone(machine.ram().memory()))
        .page_map(Arc::new(PageMapView::new(shared.clone())))
        .vcpus(machine.vcpus().clone())
        .strategy(experiment.engine_strategy())
        .backend(experiment.backend)
        .allocate(experiment.allocate)
        .variant(experiment.variant.engine())
        .targets(targets(experiment))
        .batch(experiment.batch.get().into())
        .page_size(experiment.page_size)
        .rate(rate(experiment))
        .seed(experiment.seed.0)
        .verify(match experiment.verify {
            Verify::Sample => underfoot_migrator::Verify::Sample,
            Verify::Full => underfoot_migrator::Verify::Full,
        })
        .tsc_hz(u64::from(machine.tsc_khz()) * 1000)
        .signal_faults(experiment.wait.signals() && experiment.strategy != StrategyKind::StopWorld)
        .exclude(region);
    builder = dma::configure(experiment, builder);
    if experiment.torment {
        builder = builder.torment(Torment::default());
    }
    if experiment.variant == Variant::MoverPanic {
        builder = builder.inject(Inject {
            phase: Phase::Unmapped,
            nth: PANIC_IN_WINDOW,
            on: false,
            action: InjectAction::Panic,
        });
    }
    Ok(builder.build()?)
}

fn targets(experiment: &Experiment) -> ClassSet {
    let class = |kind: &PageKind| Class::new(*kind as u8).expect("page kinds are classes");
    experiment.targets.kinds().iter().map(class).collect()
}

/// A mover that shares its CPU with vCPUs is preempted in its windows, and the guest then waits for
/// its next time slice. So it goes first where there are not CPUs enough for all, unless the user
/// says otherwise.
fn overcommitted(experiment: &Experiment) -> Option<SchedPolicy> {
    let available = CpuSet::allowed().ok()?.cpus().len();
    let wanted = usize::from(experiment.cpus.get()) + usize::from(experiment.movers.get());
    (wanted > available).then_some(SchedPolicy::Other(OVERCOMMIT_NICE))
}

/// The rate asked for is that of all movers; each keeps its part.
fn rate(experiment: &Experiment) -> Rate {
    match experiment.rate.pages_per_second() {
        None => Rate::Max,
        Some(all) => {
            let movers = u64::from(experiment.movers.get());
            let part = all.get().div_ceil(movers.max(1));
            Rate::PagesPerSecond(NonZeroU64::new(part).unwrap_or(NonZeroU64::MIN))
        }
    }
}
