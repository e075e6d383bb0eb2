//! The phases of a run, in order, and whatever ends them early.

mod cut_short;
mod end;
mod host_waits;
mod signs;
mod stuck;

pub use end::SILENCE;

use super::antagonists::Antagonists;
use super::backlog::BacklogReader;
use super::dma::{self, RegistryState};
use super::engine::Engine;
use super::guest_frames::Compared;
use super::header::header;
use super::holder::Holder;
use super::host_load::CpuTicks;
use super::interval::{Interval, Intervals};
use super::snapshot::snapshot;
use super::stalls::{OwnWindow, StallReader, Waiter};
use super::witness::Witness;
use super::{ProcessStart, RunError, Setting};
use crate::experiment::Experiment;
use crate::histogram::Histogram;
use crate::names::{Mover, Role};
use crate::record::{
    AntagonistRecord, Attribution, BacklogRecord, LoadRecord, Outcome, Snapshot, Stalls,
};
use crate::units::Size;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};
use underfoot_abi::{GuestState, Phase};
use underfoot_migrator::PageSize;
use underfoot_vmm::dma::{DmaCounts, DmaDevice};
use underfoot_vmm::stats::Stats;
use underfoot_vmm::{
    Backing, Boot, HostInfo, Machine, MachineConfig, MemorySize, Progress, TscRelation, Wake,
};

const KVM: &str = "/dev/kvm";
/// How often stalls are read and threads are looked at.
const DRAIN: Duration = Duration::from_millis(4);
/// How often each vCPU's progress is sampled.
const PROGRESS: Duration = Duration::from_millis(1);
/// A guest that is not up by then will not come. Boxes without hardware support are slow.
const UP: Duration = Duration::from_secs(120);
/// A guest that was measured for so long has done something, and has had a tick.
pub const WORKED_AFTER_NS: u64 = 1_000_000_000;

/// What a run is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The guest boots.
    Boot,
    /// It works; nothing is recorded.
    Warmup,
    /// Nothing moves.
    Control,
    /// Pages move.
    Moving,
    /// The guest verifies its objects.
    Audit,
    /// It does nothing, though it was asked to verify them and to stop.
    Silent,
}

/// What guest memory must lie in.
fn backing(experiment: &Experiment) -> Backing {
    match experiment.hugepages {
        _ if experiment.backend.needs_file() => Backing::File,
        true => Backing::Huge,
        false => Backing::Small,
    }
}

/// Whether guest and host share one TSC.
pub fn one_clock(machine: &Machine) -> bool {
    machine.tsc().iter().all(TscRelation::is_same)
}

/// KVM's counters of the VM and of each vCPU at one moment.
pub struct KvmCounters {
    pub vm: Stats,
    pub vcpus: Vec<Stats>,
}

/// A run that has begun.
pub struct Session<'a> {
    pub experiment: &'a Experiment,
    pub process_start: ProcessStart,
    pub host: HostInfo,
    progress: &'a mut dyn FnMut(Stage, u64),
    interval: Option<Interval<'a>>,
    /// Before the machine, so that it goes first: whoever the kernel still keeps waiting for a page
    /// is let go by that.
    pub engine: Option<Engine>,
    pub dma: Option<DmaDevice>,
    /// What the device had done when pages began to move.
    pub dma_before: DmaCounts,
    /// What the registry of consumers said at the end.
    pub registry: RegistryState,
    pub machine: Machine,
    /// After the machine: it may wait for a vCPU.
    holder: Option<Holder>,
    /// From the warm-up to the end of the moving phase.
    antagonists: Option<Antagonists>,
    /// What they took, once they have ended.
    pub antagonist_records: Vec<AntagonistRecord>,
    stalls: Option<StallReader>,
    backlog: BacklogReader,
    ended: Option<Outcome>,
    /// What went wrong as movers ended.
    causes: Vec<String>,
    /// Reports of the guest's checkers when the run was ended before its time.
    pub reports_before_end: Option<u32>,
    pub started: SystemTime,
    pub kvm_before: Option<KvmCounters>,
    /// What the host was set to, and how busy it was while it was measured.
    pub snapshot: Snapshot,
    pub load: Option<LoadRecord>,
    /// By vCPU, when the control phase began: operations and ticks.
    pub begun: Vec<(u64, u64)>,
    pub control_ns: u64,
    pub moving_ns: u64,
    /// By vCPU, over control and moving phase.
    pub gaps: Vec<Progress>,
    /// How long no vCPU had got on when the moving phase ended.
    standstill_ns: u64,
    pub audited: bool,
    /// Times that a vCPU was held at random.
    pub holds: u64,
    pub stall_counts: Stalls,
    pub own_window: OwnWindow,
    pub windows_dropped: u64,
    /// Who stole the time, and lengths of the times in which vCPUs wanted a CPU, or why nobody knows.
    pub attribution: Option<Attribution>,
    pub preempted: Option<[Result<Histogram, String>; 2]>,
    /// What waited for the guest's grace periods; `None` if nothing ever did.
    pub backlog_record: Option<BacklogRecord>,
    /// Where the guest's own mover put pages, as the host found it; `None` if it could not look.
    pub compared: Option<Compared>,
}

impl<'a> Session<'a> {
    /// Makes the machine and lets the guest boot.
    pub fn start(experiment: &'a Experiment, setting: Setting<'a>) -> Result<Self, RunError> {
        let Setting {
            image,
            console,
            process_start,
            progress,
            interval,
        } = setting;
        let host = HostInfo::detect(Path::new("/"))?;
        let mut machine = Machine::new(MachineConfig {
            kvm: PathBuf::from(KVM),
            memory: MemorySize::new(experiment.memory.bytes(), u64::MAX)
                .map_err(underfoot_vmm::MachineError::from)?,
            backing: backing(experiment),
            slot_size: experiment.slot_size.map(Size::bytes),
            cpus: experiment.cpus.get().into(),
            boot: Boot { image, cmdline: "" },
            header: header(experiment),
            console,
            wait: experiment.wait,
            placement: experiment.placement(Role::Vcpu),
            signals: true,
        })?;
        // Where the guest is the mover, it visits every page: its windows are not to hold the host's
        // first touches. And where huge pages move, a hole that is filled later is a small page.
        if experiment.mover == Mover::Guest || experiment.page_size == PageSize::Huge {
            let populated = machine.ram().populate();
            populated.map_err(underfoot_vmm::MachineError::from)?;
        }
        machine.start();
        let backlog = BacklogReader::new(experiment.memory.bytes(), machine.tsc_khz());
        Ok(Self {
            experiment,
            process_start,
            host,
            progress,
            interval,
            machine,
            engine: None,
            dma: None,
            dma_before: DmaCounts::default(),
            registry: RegistryState::default(),
            holder: None,
            antagonists: None,
            antagonist_records: Vec::new(),
            stalls: None,
            backlog,
            ended: None,
            causes: Vec::new(),
            reports_before_end: None,
            started: SystemTime::now(),
            kvm_before: None,
            snapshot: snapshot(Path::new("/")),
            load: None,
            begun: Vec::new(),
            control_ns: 0,
            moving_ns: 0,
            gaps: Vec::new(),
            standstill_ns: 0,
            audited: false,
            holds: 0,
            stall_counts: Stalls::default(),
            own_window: OwnWindow::default(),
            windows_dropped: 0,
            attribution: None,
            preempted: None,
            backlog_record: None,
            compared: None,
        })
    }

    /// Goes through the phases; when it returns, nothing runs any more.
    pub fn run(&mut self) -> Result<Outcome, RunError> {
        (self.progress)(Stage::Boot, 0);
        self.wait_until_up()?;
        if self.ended.is_none() {
            self.measure()?;
        }
        Ok(self.end())
    }

    /// Of each vCPU, as of now.
    pub fn operations_and_ticks(&self) -> Vec<(u64, u64)> {
        let shared = self.machine.shared();
        (0..shared.cpus())
            .map(|vcpu| {
                let area = shared.vcpu(vcpu);
                let [operations, ticks] =
                    [&area.progress, &area.ticks].map(|word| word.load(Ordering::Relaxed));
                (operations, ticks)
            })
            .collect()
    }

    /// Whether no vCPU finished an operation, in a time in which any workload does.
    pub fn did_nothing(&self) -> bool {
        let now = self.operations_and_ticks();
        let mut vcpus = self.begun.iter().zip(&now);
        // Held and kept waiting at random, a guest on a slow host may finish no operation in a second; that
        // it was not stuck is shown by its audit.
        !self.experiment.torment
            && self.control_ns + self.moving_ns >= WORKED_AFTER_NS
            && vcpus.all(|(before, now)| before.0 == now.0)
    }

    fn measure(&mut self) -> Result<(), RunError> {
        let experiment = self.experiment;
        let engine = Engine::start(experiment, &self.machine)?;
        self.dma = dma::start(experiment, &self.machine, &engine)?;
        let reader = StallReader::new(
            engine.recorders().to_vec(),
            self.machine.shared().cpus(),
            self.machine.tsc_khz(),
            match experiment.mover {
                Mover::Host => Waiter::Vcpu(experiment.wait),
                Mover::Guest => Waiter::Guest,
            },
        );
        (self.engine, self.stalls) = (Some(engine), Some(reader));
        self.antagonists = Some(Antagonists::start(experiment)?);
        self.phase(Stage::Warmup, Phase::Warmup, experiment.warmup.duration())?;
        self.machine
            .watch_progress(PROGRESS)
            .map_err(RunError::Machine)?;
        self.started = SystemTime::now();
        self.kvm_before = self.kvm_counters();
        self.begun = self.operations_and_ticks();
        let ticks = CpuTicks::now(Path::new("/"));
        let witness =
            one_clock(&self.machine).then(|| Witness::start(&self.machine, experiment.seed.0));
        if let Some(reader) = &mut self.stalls {
            reader.begin_control(self.machine.shared(), witness);
        }
        let control = experiment.control_span().duration();
        self.control_ns = self.phase(Stage::Control, Phase::Control, control)?;
        if self.ended.is_some() {
            return Ok(());
        }
        let moving = experiment.moving_span().duration();
        self.begin_moving(moving)?;
        self.moving_ns = self.phase(Stage::Moving, Phase::Moving, moving)?;
        let end = CpuTicks::now(Path::new("/"));
        self.load = ticks.zip(end).and_then(|(begin, end)| begin.until(&end));
        if let Some(witness) = self.stalls.as_mut().and_then(StallReader::witness) {
            witness.end_moving();
        }
        // Before the audit, in which no vCPU gets on.
        if let Some(watch) = self.machine.progress() {
            self.gaps = watch.vcpus().collect();
            self.standstill_ns = watch.standstill_ns();
        }
        Ok(())
    }

    /// Between control and moving phase, in neither of which any of this is. Movers start if they have time to move.
    fn begin_moving(&mut self, moving: Duration) -> Result<(), RunError> {
        // A stall counts as the control's if its vCPU saw that phase after it: then it was over before any window. The
        // calls that start movers are full barriers between this and their windows.
        self.machine.shared().set_phase(Phase::Warmup);
        if let Some(reader) = &mut self.stalls {
            reader.begin(self.machine.shared());
        }
        if let Some(device) = &self.dma {
            self.dma_before = device.counts();
        }
        if let Some(engine) = &mut self.engine
            && !moving.is_zero()
        {
            engine.begin_moving(self.experiment, &self.machine)?;
            if self.experiment.torment {
                let vcpus = self.machine.vcpus();
                self.holder = Some(Holder::start(vcpus, self.experiment.seed.0)?);
            }
        }
        Ok(())
    }

    /// Lets the guest be in `phase` for `length`, or until something ends the run; says how long it
    /// was.
    fn phase(&mut self, stage: Stage, phase: Phase, length: Duration) -> Result<u64, RunError> {
        if length.is_zero() || self.ended.is_some() {
            return Ok(0);
        }
        self.machine.shared().set_phase(phase);
        let mut intervals = Intervals::begin(self, phase).filter(|_| self.interval.is_some());
        let spent = self.antagonists.as_ref().map(Antagonists::spent_ns);
        let began = Instant::now();
        while self.ended.is_none() && began.elapsed() < length {
            let deadline = (began + length).min(Instant::now() + DRAIN);
            let wake = self.machine.wait(deadline).map_err(RunError::Machine)?;
            self.note(wake);
            if let Some(reader) = &mut self.stalls {
                reader.drain(self.machine.shared());
            }
            self.backlog.drain(self.machine.shared());
            self.look_after_threads();
            (self.progress)(stage, began.elapsed().as_nanos() as u64);
            self.tell(&mut intervals, false);
        }
        if phase == Phase::Moving {
            // What is moved until then, and felt, is of this phase, and so is its time.
            self.end_moving();
            self.machine.shared().set_phase(Phase::Warmup);
        }
        let ns = began.elapsed().as_nanos() as u64;
        self.tell(&mut intervals, true);
        if let (Some(antagonists), Some(spent)) = (&mut self.antagonists, spent) {
            antagonists.note(phase, &spent);
        }
        Ok(ns)
    }

    /// Tells of the interval that is over; of the `last` one however short it was.
    fn tell(&mut self, intervals: &mut Option<Intervals>, last: bool) {
        let every = self.interval.as_ref().map(|interval| interval.every);
        let record = intervals
            .as_mut()
            .and_then(|it| it.look(self, every.filter(|_| !last)));
        if let (Some(record), Some(interval)) = (record, &mut self.interval) {
            (interval.told)(&record);
        }
    }

    fn wait_until_up(&mut self) -> Result<(), RunError> {
        let deadline = Instant::now() + UP;
        while self.ended.is_none() {
            match self.machine.shared().state() {
                Some(GuestState::Running | GuestState::Done) => return Ok(()),
                Some(GuestState::RefusedCpl) => {
                    let ticks = self
                        .machine
                        .shared()
                        .header()
                        .ring0_ticks
                        .load(Ordering::Relaxed);
                    return Err(RunError::EmulatedRing0 { ticks });
                }
                Some(GuestState::TooLittleMemory) => {
                    return Err(RunError::TooLittleMemory(self.too_little_memory()));
                }
                Some(GuestState::Booting | GuestState::Failed) | None => {}
            }
            match self.machine.wait(deadline).map_err(RunError::Machine)? {
                Wake::Deadline => {
                    return Err(RunError::NotUp {
                        seconds: UP.as_secs(),
                    });
                }
                // The guest's word comes before that of the vCPU that it ended by.
                Wake::Exited(_)
                    if matches!(
                        self.machine.shared().state(),
                        Some(GuestState::RefusedCpl | GuestState::TooLittleMemory)
                    ) => {}
                wake => self.note(wake),
            }
        }
        Ok(())
    }

    /// KVM's counters now; `None` where it has none.
    pub fn kvm_counters(&self) -> Option<KvmCounters> {
        let vm = self.machine.vm_stats().snapshot().ok()?;
        let vcpus = self
            .machine
            .vcpu_stats()
            .iter()
            .map(|file| file.snapshot().ok())
            .collect::<Option<_>>()?;
        Some(KvmCounters { vm, vcpus })
    }
}
