//! One experiment: everything that a run depends on, validated once, at the edge.

mod check;
mod place;
mod want;

use crate::dma_variants;
use crate::frame_pool;
use crate::guest_mover;
use crate::host_limits::HostLimits;
use crate::names::{FramesAfter, Mover, Named, Variant, Verify, parse_backend, parse_name};
use crate::overcommit::Overcommit;
use crate::parameters::Parameters;
use crate::placement::{Affinity, Scheduling};
use crate::settings::{ExperimentError, Key, Settings, TOOL_TABLE};
use crate::targets::Targets;
use crate::tool;
use crate::units::{
    Antagonists, Batch, CpuCount, MoverCount, Percent, Rate, ReplugRate, Seed, Size, Span,
    UffdCount, ValueError,
};
use std::path::PathBuf;
use underfoot_abi::{Cpl, Layout, PAGE_SIZE, WorkloadId};
use underfoot_migrator::{
    Allocate, BackendKind, Combination, FaultLock, FrameOptions, MAX_SLOT_PAGES, PageSize,
    StrategyKind, WaitKind,
};

const LEAST_MEMORY: Size = Size::from_mib(16);
/// The guest maps a region by 2 MiB entries, and its memory ends on one.
const MEMORY_GRAIN: Size = Size::from_mib(2);
/// What the guest needs beside the region that it shares with the host.
const LEAST_GUEST_MEMORY: u64 = 8 << 20;
const LEAST_DURATION: Span = Span::from_ms(10);
const MOST_DURATION: Span = Span::from_ms(24 * 3600 * 1000);
const MOST_WARMUP: Span = Span::from_ms(600_000);
/// The contract with the guest carries these times in 32 bits of nanoseconds.
const MOST_GUEST_TIME: Span = Span::from_ns(u32::MAX as u64);
/// Blocks of guest memory are that large.
const LEAST_SLOT: Size = Size::from_mib(2);
const MOST_SLOT: Size = Size::from_kib(MAX_SLOT_PAGES as u64 * (PAGE_SIZE as u64 / 1024));
const DEFAULT_SLOT: Size = Size::from_mib(16);
/// No system call that unmaps is shorter.
const LEAST_MAX_WINDOW: Span = Span::from_ns(1_000);
const MOST_MAX_WINDOW: Span = Span::from_ms(10_000);
const LEAST_PROBE: Span = Span::from_ns(1_000);

/// What to run. Every field was checked; only [`Experiment::resolve`] makes one.
#[derive(Clone, Debug, PartialEq)]
pub struct Experiment {
    /// What the guest does.
    pub workload: WorkloadId,
    /// What it is told.
    pub parameters: Parameters,
    /// Who moves the pages. The guest does it without the engine: then `strategy` is `none`, and what
    /// else is said of the engine below is what it defaults to.
    pub mover: Mover,
    /// When what is copied.
    pub strategy: StrategyKind,
    /// How the new frame arrives.
    pub backend: BackendKind,
    /// When new frames are allocated.
    pub allocate: Allocate,
    /// What a vCPU does that meets a window.
    pub wait: WaitKind,
    /// How large the pages are that move.
    pub page_size: PageSize,
    /// Which kinds of pages move.
    pub targets: Targets,
    /// Pages per second over all movers.
    pub rate: Rate,
    /// Pages per window.
    pub batch: Batch,
    /// The pool that movers of the backend `move` and the fault path take frames from; without it movers have
    /// loops of their own.
    pub frames: Option<FrameOptions>,
    /// When old frames of that pool may be used again.
    pub frames_after: FramesAfter,
    /// userfaultfds that guest memory is shared among, and threads that serve faults.
    pub uffds: UffdCount,
    /// How a fault keeps its block of guest memory from being unplugged.
    pub fault_lock: FaultLock,
    /// Blocks that are unplugged and plugged again per second while pages move.
    pub replug: Option<ReplugRate>,
    /// The largest slot that KVM knows guest memory by; only where slots are moved.
    pub slot_size: Option<Size>,
    /// Threads that move pages.
    pub movers: MoverCount,
    /// The longest window: one that is open for longer is given up, and its pages are tried again later.
    pub max_window: Option<Span>,
    /// vCPUs.
    pub cpus: CpuCount,
    /// Guest memory: a multiple of 2 MiB, at least 16 MiB, at most what the host had available.
    pub memory: Size,
    /// Whether transparent huge pages may back guest memory.
    pub hugepages: bool,
    /// Length of the control phase and the moving phase together.
    pub duration: Span,
    /// Share of `duration` in which nothing moves; it comes first.
    pub control: Percent,
    /// Time before measuring, not part of `duration`.
    pub warmup: Span,
    /// Seed of every random choice.
    pub seed: Seed,
    /// Privilege level asked for.
    pub cpl: Cpl,
    /// Host CPUs by role, all online when they were checked.
    pub affinity: Option<Affinity>,
    /// Scheduling by role.
    pub sched: Option<Scheduling>,
    /// vCPUs that share host CPUs; then `affinity` binds none.
    pub overcommit: Option<Overcommit>,
    /// Threads that take CPU time on purpose, in control and moving phase alike.
    pub antagonists: Option<Antagonists>,
    /// Another PVH image than the embedded one.
    pub kernel: Option<PathBuf>,
    /// How many frame numbers are compared.
    pub verify: Verify,
    /// The right form, or a deliberately wrong one.
    pub variant: Variant,
    /// Whether migrations abort, movers pause and vCPUs are held at random, from the seed.
    pub torment: bool,
    /// Accesses that take longer are stalls: at most `u32::MAX` ns.
    pub stall_threshold: Span,
    /// Period of the paced probe: at most `u32::MAX` ns.
    pub probe_period: Span,
}

impl Experiment {
    /// Understands `settings` on a host with `limits`; what is not set has its default, and the
    /// seed is drawn.
    ///
    /// # Errors
    /// The first value that was refused, with where it was written, its bound and the remedy.
    pub fn resolve(settings: &Settings, limits: &HostLimits) -> Result<Self, ExperimentError> {
        let cpus = settings
            .get(Key::Cpus, str::parse)?
            .unwrap_or_else(|| CpuCount::clamped(limits.cpus.cpus().len()));
        let workload = named(settings, Key::Workload, WorkloadId::Walk)?;
        let mover = named(settings, Key::Mover, Mover::Host)?;
        let variant = named(settings, Key::Variant, Variant::None)?;
        let strategy = named(settings, Key::Strategy, StrategyKind::UnmapCopy)?;
        let batch = settings
            .get(Key::Batch, str::parse)?
            .unwrap_or_else(|| Batch::clamped(1));
        let mut experiment = Self {
            workload,
            mover,
            parameters: settings
                .get(Key::Parameters, |text| {
                    Parameters::parse(workload, variant.guest(), text)
                })?
                .unwrap_or_else(|| Parameters::defaults(workload, variant.guest())),
            strategy,
            backend: settings
                .get(Key::Backend, parse_backend)?
                .flatten()
                .unwrap_or(strategy.default_backend()),
            allocate: named(settings, Key::Allocate, Allocate::Ahead)?,
            wait: named(settings, Key::Wait, WaitKind::Halt)?,
            page_size: named(settings, Key::PageSize, PageSize::Small)?,
            targets: settings
                .get(Key::Target, str::parse)?
                .unwrap_or_else(Targets::all),
            rate: settings.get(Key::Rate, str::parse)?.unwrap_or(Rate::Max),
            batch,
            frames: settings.get(Key::Frames, |text| frame_pool::parse(text, batch))?,
            frames_after: named(settings, Key::FramesAfter, FramesAfter::Flush)?,
            uffds: settings
                .get(Key::Uffds, str::parse)?
                .unwrap_or_else(|| UffdCount::clamped(1)),
            fault_lock: named(settings, Key::FaultLock, FaultLock::default())?,
            replug: settings.get(Key::Replug, str::parse)?,
            slot_size: settings.get(Key::SlotSize, slot_size)?,
            movers: settings
                .get(Key::Movers, str::parse)?
                .unwrap_or_else(|| MoverCount::clamped(1)),
            max_window: settings.get(Key::MaxWindow, |text| {
                span(
                    text,
                    LEAST_MAX_WINDOW,
                    MOST_MAX_WINDOW,
                    "leave it out for windows of any length",
                )
            })?,
            cpus,
            memory: memory(settings, cpus, limits)?,
            hugepages: settings.get(Key::Hugepages, parse_switch)?.unwrap_or(false),
            duration: settings
                .get(Key::Duration, |text| {
                    span(
                        text,
                        LEAST_DURATION,
                        MOST_DURATION,
                        "choose a time in between",
                    )
                })?
                .unwrap_or(Span::from_ms(10_000)),
            control: settings
                .get(Key::Control, str::parse)?
                .unwrap_or(Percent::new(20)),
            warmup: settings
                .get(Key::Warmup, |text| {
                    span(
                        text,
                        Span::from_ns(0),
                        MOST_WARMUP,
                        "half a second is plenty",
                    )
                })?
                .unwrap_or(Span::from_ms(500)),
            seed: settings
                .get(Key::Seed, str::parse)?
                .unwrap_or_else(Seed::draw),
            cpl: named(settings, Key::Cpl, Cpl::Auto)?,
            affinity: settings.get(Key::Affinity, |text| affinity(text, limits))?,
            sched: settings.get(Key::Sched, str::parse)?,
            overcommit: settings
                .get(Key::Overcommit, str::parse)?
                .map(|per_cpu| Overcommit::new(per_cpu, cpus, &limits.cpus))
                .transpose()?,
            antagonists: settings.get(Key::Antagonists, str::parse)?,
            kernel: settings.get(Key::Kernel, kernel)?,
            verify: named(settings, Key::Verify, Verify::Sample)?,
            variant,
            torment: settings.get(Key::Torment, parse_switch)?.unwrap_or(false),
            stall_threshold: settings
                .get(Key::StallThreshold, |text| {
                    span(
                        text,
                        Span::from_ns(1),
                        MOST_GUEST_TIME,
                        "2us is the default",
                    )
                })?
                .unwrap_or(Span::from_ns(2_000)),
            probe_period: settings
                .get(Key::ProbePeriod, |text| {
                    span(text, LEAST_PROBE, MOST_GUEST_TIME, "100us is the default")
                })?
                .unwrap_or(Span::from_ns(100_000)),
        };
        guest_mover::check(&experiment, settings)?;
        dma_variants::check(&experiment)?;
        experiment.check_combination()?;
        experiment.check_memory()?;
        if experiment.backend == BackendKind::Memslot {
            experiment.slot_size.get_or_insert(DEFAULT_SLOT);
        }
        Ok(experiment)
    }

    /// How pages are moved, in the engine's terms.
    #[must_use]
    pub const fn combination(&self) -> Combination {
        Combination {
            strategy: self.strategy,
            backend: self.backend,
            wait: self.wait,
            page_size: self.page_size,
            variant: self.variant.engine(),
        }
    }

    /// What the engine does: it rests where the guest moves its pages itself.
    #[must_use]
    pub fn engine_strategy(&self) -> StrategyKind {
        match self.mover {
            Mover::Host => self.strategy,
            Mover::Guest => StrategyKind::None,
        }
    }

    /// Length of the control phase.
    #[must_use]
    pub fn control_span(&self) -> Span {
        Span::from_ns(self.control.of(self.duration.ns()))
    }

    /// Length of the moving phase.
    #[must_use]
    pub fn moving_span(&self) -> Span {
        Span::from_ns(self.duration.ns() - self.control_span().ns())
    }

    /// Every setting in effect, by [`Key`] name, in the types that experiment files have.
    #[must_use]
    pub fn to_table(&self) -> toml::Table {
        let mut table = toml::Table::new();
        let mut set = |key: Key, value: toml::Value| {
            table.insert(key.name().to_owned(), value);
        };
        let text = |value: String| toml::Value::String(value);
        let number = |value: u16| toml::Value::Integer(i64::from(value));
        set(Key::Workload, text(self.workload.name().into()));
        let parameters = self.parameters.to_table();
        if !parameters.is_empty() {
            set(Key::Parameters, toml::Value::Table(parameters));
        }
        set(Key::Mover, text(self.mover.name().into()));
        set(Key::Strategy, text(self.strategy.name().into()));
        set(Key::Target, text(self.targets.to_string()));
        set(Key::Rate, text(self.rate.to_string()));
        if self.mover == Mover::Host {
            set(Key::Backend, text(self.backend.name().into()));
            set(Key::Allocate, text(self.allocate.name().into()));
            set(Key::Wait, text(self.wait.name().into()));
            set(Key::PageSize, text(self.page_size.name().into()));
            set(Key::Batch, number(self.batch.get()));
            if let Some(frames) = &self.frames {
                set(Key::Frames, text(frame_pool::text(frames)));
                if self.frames_after != FramesAfter::Flush {
                    set(Key::FramesAfter, text(self.frames_after.name().into()));
                }
            }
            set(Key::Uffds, number(self.uffds.get()));
            set(Key::FaultLock, text(self.fault_lock.name().into()));
            if let Some(replug) = self.replug {
                set(Key::Replug, number(replug.get()));
            }
            if let Some(size) = self.slot_size {
                set(Key::SlotSize, text(size.to_string()));
            }
            set(Key::Movers, number(self.movers.get()));
            if let Some(longest) = self.max_window {
                set(Key::MaxWindow, text(longest.to_string()));
            }
            set(Key::Verify, text(self.verify.name().into()));
            set(Key::Torment, toml::Value::Boolean(self.torment));
        }
        set(Key::Cpus, number(self.cpus.get()));
        set(Key::Memory, text(self.memory.to_string()));
        set(Key::Hugepages, toml::Value::Boolean(self.hugepages));
        set(Key::Duration, text(self.duration.to_string()));
        set(Key::Control, text(self.control.to_string()));
        set(Key::Warmup, text(self.warmup.to_string()));
        // TOML integers have 63 bits; a seed that needs the last one is written as a string.
        let seed = i64::try_from(self.seed.0);
        set(
            Key::Seed,
            seed.map_or_else(|_| text(self.seed.to_string()), toml::Value::Integer),
        );
        set(Key::Cpl, text(self.cpl.name().into()));
        if let Some(affinity) = &self.affinity {
            set(Key::Affinity, text(affinity.to_string()));
        }
        if let Some(sched) = &self.sched {
            set(Key::Sched, text(sched.to_string()));
        }
        if let Some(overcommit) = &self.overcommit {
            set(Key::Overcommit, number(overcommit.per_cpu.get()));
        }
        if let Some(antagonists) = self.antagonists {
            set(Key::Antagonists, text(antagonists.to_string()));
        }
        if let Some(kernel) = &self.kernel {
            set(Key::Kernel, text(kernel.to_string_lossy().into_owned()));
        }
        set(Key::Variant, text(self.variant.name().into()));
        set(Key::StallThreshold, text(self.stall_threshold.to_string()));
        set(Key::ProbePeriod, text(self.probe_period.to_string()));
        table
    }

    /// The experiment file that repeats this run, with the tool that wrote it.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let mut table = self.to_table();
        let mut tool = toml::Table::new();
        tool.insert("name".into(), tool::NAME.into());
        tool.insert("version".into(), tool::VERSION.into());
        if let Some(commit) = tool::COMMIT {
            tool.insert("commit".into(), commit.into());
        }
        table.insert(TOOL_TABLE.into(), tool.into());
        format!("# Repeat with: underfoot run --experiment FILE\n{table}")
    }
}

fn named<T: Named>(settings: &Settings, key: Key, default: T) -> Result<T, ExperimentError> {
    Ok(settings.get(key, parse_name)?.unwrap_or(default))
}

pub(crate) fn span(text: &str, least: Span, most: Span, remedy: &str) -> Result<Span, ValueError> {
    text.parse::<Span>()
        .map_err(|error| error.with_bounds(least.to_string(), most.to_string(), remedy))?
        .within(least, most, remedy)
}

fn parse_switch(text: &str) -> Result<bool, ValueError> {
    text.parse().map_err(|_| ValueError::Malformed {
        value: text.to_owned(),
        expected: "true or false",
        example: "false",
    })
}

fn affinity(text: &str, limits: &HostLimits) -> Result<Affinity, ValueError> {
    let affinity: Affinity = text.parse()?;
    affinity.check_against(&limits.cpus)?;
    Ok(affinity)
}

/// A path that another working directory understands too.
fn kernel(text: &str) -> Result<PathBuf, ValueError> {
    let refused = |reason: String| ValueError::File {
        value: text.to_owned(),
        reason,
    };
    let path = std::fs::canonicalize(text).map_err(|error| refused(error.to_string()))?;
    if path.is_file() {
        Ok(path)
    } else {
        Err(refused("not a file".to_owned()))
    }
}

fn slot_size(text: &str) -> Result<Size, ValueError> {
    let remedy = "16MiB is the default";
    let size = text.parse::<Size>();
    size.map_err(|error| error.with_bounds(LEAST_SLOT.to_string(), MOST_SLOT.to_string(), remedy))?
        .within(LEAST_SLOT, MOST_SLOT, remedy)?
        .aligned_to(LEAST_SLOT)
}

/// Guest memory that the host has and that these vCPUs leave enough of.
fn memory(
    settings: &Settings,
    cpus: CpuCount,
    limits: &HostLimits,
) -> Result<Size, ExperimentError> {
    const REMEDY: &str = "choose a size in between, or free memory on the host for more";
    let most = limits.memory.max(LEAST_MEMORY);
    let parse = |text: &str| {
        let size = text.parse::<Size>();
        size.map_err(|error| error.with_bounds(LEAST_MEMORY.to_string(), most.to_string(), REMEDY))
    };
    let check = |size: Size| -> Result<Size, ValueError> {
        size.within(LEAST_MEMORY, most, REMEDY)?
            .aligned_to(MEMORY_GRAIN)?
            .within(
                least_memory(cpus),
                limits.memory,
                &format!("{cpus} vCPUs need that much, give fewer vCPUs or more memory"),
            )
    };
    match settings.get(Key::Memory, |text| check(parse(text)?))? {
        Some(size) => Ok(size),
        None => check(Size::from_mib(64)).map_err(|source| ExperimentError::Default {
            key: Key::Memory,
            source: Box::new(source),
        }),
    }
}

/// The least memory in which `cpus` vCPUs leave the guest something to work in.
fn least_memory(cpus: CpuCount) -> Size {
    let frames = LEAST_MEMORY.bytes() / PAGE_SIZE as u64;
    let shared = Layout::new(frames, u32::from(cpus.get())).size as u64;
    let bytes = (shared + LEAST_GUEST_MEMORY).next_multiple_of(MEMORY_GRAIN.bytes());
    Size::from_kib(bytes >> 10).max(LEAST_MEMORY)
}
