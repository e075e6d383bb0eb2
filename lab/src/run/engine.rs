//! The engine's threads: one for faults, one for each mover.

use super::observer::EventRecorder;
use super::replug::Replugger;
use super::watch::{FaultObserver, Watch};
use super::{RunError, dma};
use crate::experiment::Experiment;
use crate::histogram::Histogram;
use crate::names::{FramesAfter, Role, Variant, Verify};
use crate::record::{EngineCost, WatchdogRecord};
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::thread::{Builder, JoinHandle};
use underfoot_abi::{PAGE_SIZE, PageKind};
use underfoot_migrator::{
    Class, ClassSet, Counters, FrameCounters, Gfn, Handler, HandlerError, Inject, InjectAction,
    Invalidations, Members, Migrator, Mover, MoverError, PageRange, Phase, PlugCounters, PlugError,
    Rate, RefillerError, Stop, StrategyKind, Torment, Translate, WaitingFaults,
};
use underfoot_vmm::placement::{CpuSet, Fair, Placement, SchedPolicy};
use underfoot_vmm::{GuestWaits, Machine, PageMapView, PoolGrace};

/// Window in which the variant that panics does so: late enough that many have closed before.
const PANIC_IN_WINDOW: u64 = 1_000;

/// Nice value of movers on an overcommitted host, as [`overcommitted`] says.
const OVERCOMMIT_NICE: i32 = -10;

/// The engine at work on one machine.
pub struct Engine {
    migrator: Arc<Migrator>,
    movers: Vec<Mover>,
    recorders: Vec<Arc<EventRecorder>>,
    fault_recorders: Vec<Arc<EventRecorder>>,
    /// One for each userfaultfd.
    handlers: Vec<Thread<HandlerError>>,
    /// If there is a pool of frames.
    refiller: Option<Thread<RefillerError>>,
    running: Vec<Thread<MoverError>>,
    /// Before the movers: it waits for their windows.
    replug: Option<Replugger>,
    /// After the movers: it ends their deadlocks.
    watch: Watch,
}

/// A thread that runs until it is asked to end, or fails.
pub(super) struct Thread<E> {
    stop: Arc<Stop>,
    thread: Option<JoinHandle<Result<(), E>>>,
}

impl<E: Send + 'static> Thread<E> {
    pub(super) fn spawn(
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

    pub(super) fn has_ended(&self) -> bool {
        self.thread.as_ref().is_some_and(JoinHandle::is_finished)
    }

    /// Asks the thread to end and waits for it; what it says, once.
    pub(super) fn join(&mut self) -> Result<(), E> {
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
        let waits = Arc::new(machine.waits());
        let migrator = Arc::new(build(experiment, machine, &waits)?);
        waits.set_windows(migrator.windows());
        machine.set_window(waits.clone());
        let policy = overcommitted(experiment);
        let (mut handlers, mut fault_recorders) = (Vec::new(), Vec::new());
        for (index, handler) in migrator.handlers().into_iter().enumerate() {
            let recorder = Arc::new(EventRecorder::new(machine.tsc_khz()));
            let observer = FaultObserver {
                recorder: recorder.clone(),
                waits: waits.clone(),
            };
            let handler = handler.with_observer(Arc::new(observer));
            handlers.push(serve(index, handler, policy)?);
            fault_recorders.push(recorder);
        }
        let refiller = migrator
            .refiller()
            .map(|refiller| Thread::spawn("refiller".into(), move |stop| refiller.run(stop)))
            .transpose()?;
        let watch = Watch::start(&migrator, machine)?;
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
            fault_recorders,
            handlers,
            refiller,
            running: Vec::new(),
            replug: None,
            watch,
        })
    }

    /// Sets the movers going, and who plugs and unplugs.
    pub fn begin_moving(
        &mut self,
        experiment: &Experiment,
        machine: &Machine,
    ) -> Result<(), RunError> {
        self.replug = Replugger::start(experiment, machine, &self.migrator)?;
        let asked = experiment.placement(Role::Mover);
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
        self.handlers.iter().any(Thread::has_ended)
            || self.watch.has_ended()
            || self.running.iter().any(Thread::has_ended)
            || self.replug.as_ref().is_some_and(Replugger::has_ended)
    }

    /// What was plugged and unplugged; exact once movers and fault service were ended.
    pub fn plug_counters(&self) -> PlugCounters {
        self.migrator.plug_counters()
    }

    /// Who plugs and unplugs.
    pub fn replug(&self) -> Option<&Replugger> {
        self.replug.as_ref()
    }

    /// Ends who plugs and unplugs, with all of guest memory plugged.
    pub fn end_replugging(&mut self) -> Option<PlugError> {
        self.replug.as_mut()?.join().err()
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
        self.watch.end();
        if let Some(refiller) = &mut self.refiller {
            // Without it those who fall short refilled the pool themselves.
            let _ = refiller.join();
        }
        // Every one is joined, whatever another said.
        let ends: Vec<_> = self.handlers.iter_mut().map(Thread::join).collect();
        ends.into_iter().find_map(Result::err)
    }

    /// What was taken from the pool of frames, if there is one.
    pub fn frames(&self) -> Option<FrameCounters> {
        self.migrator.frames()
    }

    /// Threads that sleep in faults; `None` where the kernel does not tell.
    pub fn waiting_faults(&self) -> Option<WaitingFaults> {
        self.migrator.waiting_faults()
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

    /// What the watchdog found; exact once the service of faults was ended.
    pub fn watchdog(&self) -> WatchdogRecord {
        self.watch.record(&self.migrator)
    }

    /// From the closing of each cycle to its detection.
    pub fn cycles_found(&self) -> Histogram {
        self.watch.found()
    }

    /// What the engine takes for itself.
    pub fn cost(&self) -> EngineCost {
        let counters = self.counters();
        EngineCost {
            pages: self.migrator.pages().into(),
            state_bytes: self.migrator.state_bytes() as u64,
            limbo_stride: self.migrator.limbo_stride(),
            uncounted_pages: counters.uncounted_pages,
            moved_along: counters.moved_along,
            conflicts: counters.conflicts,
            wasted_copies: counters.wasted_copies,
            fallbacks: counters.fallbacks,
        }
    }

    /// One recorder per mover.
    pub fn recorders(&self) -> &[Arc<EventRecorder>] {
        &self.recorders
    }

    /// One recorder per fault handler.
    pub fn fault_recorders(&self) -> &[Arc<EventRecorder>] {
        &self.fault_recorders
    }
}

/// Whoever meets a window is not seen to wait before this thread had its turn: it goes first where movers do.
fn serve(
    index: usize,
    handler: Handler,
    policy: Option<SchedPolicy>,
) -> Result<Thread<HandlerError>, RunError> {
    let placement = Placement {
        policy,
        ..Placement::default()
    };
    Thread::spawn(format!("faults-{index}"), move |stop| {
        // A host that refuses it has it serve later, now and then.
        let _ = placement.apply(0);
        handler.run(stop)
    })
}

fn build(
    experiment: &Experiment,
    machine: &Machine,
    waits: &Arc<GuestWaits>,
) -> Result<Migrator, RunError> {
    let shared = machine.shared();
    let region = PageRange::new(
        Gfn(shared.gpa() / PAGE_SIZE as u64),
        (shared.size() / PAGE_SIZE) as u32,
    );
    let mut builder = Migrator::builder(Arc::clone(machine.ram().memory()))
        .page_map(Arc::new(PageMapView::new(shared.clone())))
        .vcpus(machine.vcpus().clone())
        .memory_slots(machine.slots().clone())
        .strategy(experiment.engine_strategy())
        .backend(experiment.backend)
        .allocate(experiment.allocate)
        .fault_lock(experiment.fault_lock)
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
        .wait_source(waits.clone())
        .members(members(experiment))
        .grace_periods(waits.clone())
        .exclude(region);
    if let Some(longest) = experiment.max_window {
        builder = builder.max_window(longest.duration());
    }
    builder = builder.uffds(experiment.uffds.get().into());
    if let Some(frames) = experiment.frames {
        builder = builder.frames(frames);
    }
    if experiment.frames_after == FramesAfter::Grace {
        let number = experiment.movers.get();
        builder = builder.grace(Arc::new(PoolGrace::new(waits.clone(), number)));
    }
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

/// Who can wait for whom.
fn members(experiment: &Experiment) -> Members {
    let movers = experiment.movers.get();
    Members {
        vcpus: experiment.cpus.get(),
        migrations: movers,
        frame_pools: 1,
        // The last is the pool's.
        grace_periods: movers + 1,
        handlers: 1,
        ..Members::default()
    }
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
    (wanted > available).then_some(SchedPolicy::Other(Fair::nice(OVERCOMMIT_NICE)))
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
