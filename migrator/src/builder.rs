//! Putting a migrator together.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use vm_memory::GuestMemoryMmap;

use crate::alias::Alias;
use crate::engine::{Config, Engine};
use crate::event::Silent;
use crate::frames::{FrameError, FrameOptions, FramePool, Grace, Purpose};
use crate::numa::nodes_with_memory;
use crate::regions::{RegionError, Regions};
use crate::registration::{Registration, RegistrationError};
use crate::sync::AtomicU32;
use crate::uffd::Watch;
use crate::watchdog::LiveVerdicts;
use crate::windows::Windows;
use crate::{
    Allocate, BackendKind, ClassSet, Combination, Exhausted, GracePeriods, Inject,
    InvalidationOptions, Invalidations, MAX_BATCH, MAX_SLOTS, Members, Migrator, Observer, PageMap,
    PageRange, PageSize, Rate, StrategyKind, Torment, Tracking, Variant, Vcpus, Verify, WaitGraph,
    WaitKind, WaitSource, clock,
};

/// How long a moved page rests by default.
pub const DEFAULT_REST: Duration = Duration::from_micros(100);
/// Old frames that stay in limbo by default, in pages.
pub const DEFAULT_LIMBO: u32 = 64;
/// The most userfaultfds that guest memory can be shared among.
pub const MAX_UFFDS: u32 = 64;
/// The most frames that limbo can be asked to hold: 4 GiB.
pub const MAX_LIMBO: u32 = 1 << 20;

/// A migrator that cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The size of a batch.
    #[error("a batch of {batch} pages: 1 to {MAX_BATCH} can be moved in one window")]
    Batch {
        /// What was asked for.
        batch: u32,
    },
    /// Several huge pages in one window.
    #[error("a batch of {batch} pages of 2MiB: one is moved in one window; use a batch of 1")]
    HugeBatch {
        /// What was asked for.
        batch: u32,
    },
    /// The number of userfaultfds.
    #[error("{uffds} userfaultfds: 1 to {MAX_UFFDS} can be served")]
    Uffds {
        /// What was asked for.
        uffds: u32,
    },
    /// The length of limbo.
    #[error("limbo of {limbo} frames: it holds up to {MAX_LIMBO}")]
    Limbo {
        /// What was asked for.
        limbo: u32,
    },
    /// Frames that are staged before the window, or that the kernel always allocates in it.
    #[error(
        "frames allocated in the window, backend {backend}: only remap has a choice; use that, or leave it out"
    )]
    Allocate {
        /// The backend.
        backend: BackendKind,
    },
    /// The slots for open invalidations.
    #[error("a pool of {slots} slots for open invalidations: it has 1 to {MAX_SLOTS}")]
    Slots {
        /// What was asked for.
        slots: u32,
    },
    /// No window is that short.
    #[error("a window of 0 at most: none is that short; give more, or no bound at all")]
    MaxWindow,
    /// No page could ever be moved.
    #[error("the set of target classes is empty; name at least one class")]
    NoTargets,
    /// The combination is not sound.
    #[error("strategy {strategy}, backend {backend}, variant {variant}: {reason}")]
    Unsound {
        /// The strategy.
        strategy: StrategyKind,
        /// The backend.
        backend: BackendKind,
        /// The variant.
        variant: Variant,
        /// Why not, and what to use instead.
        reason: &'static str,
    },
    /// Nowhere to move to.
    #[error(
        "the backend kernel moves pages of 4KiB between NUMA nodes, and one node has memory here; use \
         the page size 2MiB, or another backend"
    )]
    OneNode,
    /// The kernel does not let small pages become huge ones.
    #[error(
        "madvise(MADV_HUGEPAGE) on guest memory; does this kernel have transparent huge pages?"
    )]
    NotCollapsible(#[source] std::io::Error),
    /// The page map is missing.
    #[error("no page map was given; Builder::page_map says what pages hold")]
    NoPageMap,
    /// The vCPUs are missing.
    #[error("the strategy stop-world stops the vCPUs, and none were given by Builder::vcpus")]
    NoVcpus,
    /// The grace periods are missing.
    #[error(
        "the variant {} waits for grace periods, and none were given by Builder::grace_periods",
        Variant::WindowWaitsGracePeriod
    )]
    NoGracePeriods,
    /// The pool of frames.
    #[error("there is no pool of frames to be had")]
    Frames(#[from] FrameError),
    /// The guest's memory.
    #[error("this guest memory cannot be moved")]
    Region(#[from] RegionError),
    /// Its registration.
    #[error("guest memory cannot be watched for faults")]
    Registration(#[from] RegistrationError),
}

/// Configures a [`Migrator`]. What has a default need not be set.
pub struct Builder {
    memory: Arc<GuestMemoryMmap>,
    page_map: Option<Arc<dyn PageMap>>,
    observer: Arc<dyn Observer>,
    vcpus: Option<Arc<dyn Vcpus>>,
    strategy: StrategyKind,
    backend: BackendKind,
    allocate: Allocate,
    variant: Variant,
    targets: ClassSet,
    batch: u32,
    page_size: PageSize,
    limbo: u32,
    rate: Rate,
    seed: u64,
    verify: Verify,
    inject: Option<Inject>,
    torment: Option<Torment>,
    rest: Duration,
    tsc_hz: Option<u64>,
    signal_faults: bool,
    excluded: Vec<PageRange>,
    tracking: Tracking,
    slots: u32,
    exhausted: Exhausted,
    patience: Duration,
    max_window: Option<Duration>,
    wait_sources: Vec<Arc<dyn WaitSource>>,
    members: Members,
    grace_periods: Option<Arc<dyn GracePeriods>>,
    uffds: u32,
    frames: Option<FrameOptions>,
    grace: Option<Arc<dyn Grace>>,
}

impl Builder {
    pub(crate) fn new(memory: Arc<GuestMemoryMmap>) -> Self {
        Self {
            memory,
            page_map: None,
            observer: Arc::new(Silent),
            vcpus: None,
            strategy: StrategyKind::default(),
            backend: BackendKind::default(),
            allocate: Allocate::default(),
            variant: Variant::default(),
            targets: ClassSet::ALL,
            batch: 1,
            page_size: PageSize::default(),
            limbo: DEFAULT_LIMBO,
            rate: Rate::default(),
            seed: 0,
            verify: Verify::default(),
            inject: None,
            torment: None,
            rest: DEFAULT_REST,
            tsc_hz: None,
            signal_faults: false,
            excluded: Vec::new(),
            tracking: Tracking::default(),
            slots: InvalidationOptions::default().slots,
            exhausted: Exhausted::default(),
            patience: InvalidationOptions::default().patience,
            max_window: None,
            wait_sources: Vec::new(),
            members: Members::default(),
            grace_periods: None,
            uffds: 1,
            frames: None,
            grace: None,
        }
    }

    /// What pages hold. Required.
    #[must_use]
    pub fn page_map(mut self, page_map: Arc<dyn PageMap>) -> Self {
        self.page_map = Some(page_map);
        self
    }

    /// Who is told what happens; nobody by default. Movers and handlers can have their own.
    #[must_use]
    pub fn observer(mut self, observer: Arc<dyn Observer>) -> Self {
        self.observer = observer;
        self
    }

    /// The vCPUs, which [`StrategyKind::StopWorld`] stops.
    #[must_use]
    pub fn vcpus(mut self, vcpus: Arc<dyn Vcpus>) -> Self {
        self.vcpus = Some(vcpus);
        self
    }

    /// When what is copied.
    #[must_use]
    pub fn strategy(mut self, strategy: StrategyKind) -> Self {
        self.strategy = strategy;
        self
    }

    /// How new frames arrive.
    #[must_use]
    pub fn backend(mut self, backend: BackendKind) -> Self {
        self.backend = backend;
        self
    }

    /// When new frames are allocated; before the window unless set.
    #[must_use]
    pub fn allocate(mut self, allocate: Allocate) -> Self {
        self.allocate = allocate;
        self
    }

    /// A form that is wrong on purpose.
    #[must_use]
    pub fn variant(mut self, variant: Variant) -> Self {
        self.variant = variant;
        self
    }

    /// The classes whose pages move; all by default.
    #[must_use]
    pub fn targets(mut self, targets: ClassSet) -> Self {
        self.targets = targets;
        self
    }

    /// Pages in one window at most: 1, the default, to [`MAX_BATCH`].
    #[must_use]
    pub fn batch(mut self, pages: u32) -> Self {
        self.batch = pages;
        self
    }

    /// How large the pages are that move; small ones by default. Huge ones need guest memory that is
    /// advised to lie in transparent huge pages, and a batch of 1.
    #[must_use]
    pub fn page_size(mut self, page_size: PageSize) -> Self {
        self.page_size = page_size;
        self
    }

    /// Frames that stay in limbo, for each mover; at least a batch.
    #[must_use]
    pub fn limbo(mut self, frames: u32) -> Self {
        self.limbo = frames;
        self
    }

    /// How fast each mover goes.
    #[must_use]
    pub fn rate(mut self, rate: Rate) -> Self {
        self.rate = rate;
        self
    }

    /// Seed of every random choice.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// How many migrations are checked by frame number, and how many old frames for writes after
    /// commit. With the default, [`Verify::Sample`], and a batch above [`Verify::LARGE`] that is one
    /// old frame in [`Verify::LARGE_STRIDE`]; else all of them.
    /// [`Migrator::limbo_stride`] says which it is.
    #[must_use]
    pub fn verify(mut self, verify: Verify) -> Self {
        self.verify = verify;
        self
    }

    /// A fault on purpose.
    #[must_use]
    pub fn inject(mut self, inject: Inject) -> Self {
        self.inject = Some(inject);
        self
    }

    /// Faults at random, in every mover.
    #[must_use]
    pub fn torment(mut self, torment: Torment) -> Self {
        self.torment = Some(torment);
        self
    }

    /// How long a moved page is left alone, so that the guest gets on; [`DEFAULT_REST`] unless set.
    #[must_use]
    pub fn rest(mut self, rest: Duration) -> Self {
        self.rest = rest;
        self
    }

    /// The frequency of the time-stamp counter in Hz; measured unless set.
    #[must_use]
    pub fn tsc_hz(mut self, hz: u64) -> Self {
        self.tsc_hz = Some(hz.max(1));
        self
    }

    /// Has pages signal those who meet their window instead of making them sleep, but for those of
    /// which [`PageMap::sleeps`] is true now. What signals is populated first.
    #[must_use]
    pub fn signal_faults(mut self, signal: bool) -> Self {
        self.signal_faults = signal;
        self
    }

    /// Leaves a range out altogether: it is not registered, and its holes are the kernel's.
    #[must_use]
    pub fn exclude(mut self, range: PageRange) -> Self {
        self.excluded.push(range);
        self
    }

    /// How invalidations are kept track of, which [`Migrator::invalidations`] tells consumers of.
    #[must_use]
    pub fn tracking(mut self, tracking: Tracking) -> Self {
        self.tracking = tracking;
        self
    }

    /// Slots for open invalidations, 1 to [`MAX_SLOTS`], with [`Tracking::Pool`]; 16 unless set.
    #[must_use]
    pub fn slots(mut self, slots: u32) -> Self {
        self.slots = slots;
        self
    }

    /// What a migration does that finds every slot taken.
    #[must_use]
    pub fn exhausted(mut self, exhausted: Exhausted) -> Self {
        self.exhausted = exhausted;
        self
    }

    /// How long a migration waits for consumers to acknowledge before it is given up; 10 ms unless
    /// set.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// How long a window may be open before its new frames are mapped; as long as it takes unless set.
    /// The time in which consumers are waited for counts too. One that is open for longer is given up:
    /// the old frames are back, [`Counters::over_budget`](crate::Counters::over_budget) counts it, and
    /// the pages are tried again later. That is looked at between the steps: a system call that is
    /// under way is not cut short.
    ///
    /// With [`StrategyKind::Lazy`] it holds until the pages are given out singly: from then on nobody
    /// waits for a window.
    #[must_use]
    pub fn max_window(mut self, longest: Duration) -> Self {
        self.max_window = Some(longest);
        self
    }

    /// Has movers of the backend [`Move`](BackendKind::Move) and the fault path take their frames from one pool, with
    /// these watermarks. Without it each mover has a closed loop of its own, and faults take the kernel's frames;
    /// but with [`Lazy`](StrategyKind::Lazy) and `Move` there is a pool in any case. A
    /// [`Refiller`](crate::Refiller) should run.
    #[must_use]
    pub fn frames(mut self, options: FrameOptions) -> Self {
        self.frames = Some(options);
        self
    }

    /// How many userfaultfds guest memory is shared among, in parts of the same size: 1, the default, to
    /// [`MAX_UFFDS`]. Each has a [`Handler`](crate::Handler) of its own ([`Migrator::handlers`]), so that a fault of one
    /// part does not queue behind those of another. Memory too small for so many has fewer.
    #[must_use]
    pub fn uffds(mut self, uffds: u32) -> Self {
        self.uffds = uffds;
        self
    }

    /// What old frames of the pool wait for before they are used again, on top of what the engine sees to.
    #[must_use]
    pub fn grace(mut self, grace: Arc<dyn Grace>) -> Self {
        self.grace = Some(grace);
        self
    }

    /// One more who knows who waits for whom, for the [`Watchdog`](crate::Watchdog): of vCPUs and grace
    /// periods as the guest publishes it, say.
    #[must_use]
    pub fn wait_source(mut self, source: Arc<dyn WaitSource>) -> Self {
        self.wait_sources.push(source);
        self
    }

    /// Who can wait; [`Members::default`] has room for all. The [`Watchdog`](crate::Watchdog) looks at each, so
    /// that its looks are shorter where there are fewer.
    #[must_use]
    pub fn members(mut self, members: Members) -> Self {
        self.members = members;
        self
    }

    /// The guest's grace periods, for which [`Variant::WindowWaitsGracePeriod`] waits.
    #[must_use]
    pub fn grace_periods(mut self, grace_periods: Arc<dyn GracePeriods>) -> Self {
        self.grace_periods = Some(grace_periods);
        self
    }

    /// Puts guest memory under userfaultfd. From here on a [`Handler`](crate::Handler) must run
    /// while anybody touches it.
    ///
    /// # Errors
    /// What was asked for cannot be, or the host refuses.
    pub fn build(self) -> Result<Migrator, BuildError> {
        self.check()?;
        let frames = self.frame_pool()?.map(Arc::new);
        let page_map = self.page_map.ok_or(BuildError::NoPageMap)?;
        let remaps = self.backend.needs_file();
        let whole = Regions::new(&self.memory, remaps)?;
        let regions = whole.split(self.uffds);
        let alias = match remaps {
            true => Some(Arc::new(Alias::new(&self.memory, &regions)?)),
            false => None,
        };
        if self.page_size == PageSize::Huge {
            regions.check_huge()?;
        }
        let nodes = nodes_with_memory();
        if self.backend == BackendKind::Kernel && self.strategy != StrategyKind::None {
            match self.page_size {
                PageSize::Small if nodes.len() < 2 => return Err(BuildError::OneNode),
                PageSize::Small => {}
                PageSize::Huge => regions.let_collapse().map_err(BuildError::NotCollapsible)?,
            }
        }
        let signal = self.signal_faults.then_some(&*page_map);
        let watch = if self.strategy.protects() {
            Watch::MissingAndWrites
        } else {
            Watch::Missing
        };
        let (registration, words) =
            Registration::new(&regions, &self.excluded, watch, remaps, signal)?;
        let memory = whole
            .iter()
            .map(|region| PageRange::new(region.gfn, region.pages));
        let options = InvalidationOptions {
            tracking: self.tracking,
            slots: self.slots,
            exhausted: self.exhausted,
            patience: self
                .max_window
                .map_or(self.patience, |longest| longest.min(self.patience)),
            variant: self.variant,
        };
        let invalidations = Arc::new(Invalidations::new(memory, options));
        let tsc_hz = self.tsc_hz.unwrap_or_else(clock::measured_hz);
        Ok(Migrator::new(Engine {
            config: Config {
                strategy: self.strategy,
                backend: self.backend,
                allocate: self.allocate,
                variant: self.variant,
                targets: self.targets,
                batch: self.batch * self.page_size.pages(),
                page_size: self.page_size,
                limbo: self.limbo.next_multiple_of(self.page_size.pages()),
                rate: self.rate,
                seed: self.seed,
                verify: self.verify,
                inject: self.inject,
                torment: self.torment,
                tsc_hz,
                rest_ticks: clock::ticks(self.rest, tsc_hz),
                max_window: self.max_window.map(|longest| clock::ticks(longest, tsc_hz)),
            },
            regions,
            nodes: nodes.into(),
            alias,
            watch,
            words,
            registration: Arc::new(registration),
            frames,
            windows: Arc::new(Windows::default()),
            demanded: AtomicU32::new(u32::MAX),
            invalidations,
            waits: Arc::new(WaitGraph::new(self.members, self.wait_sources)),
            verdicts: LiveVerdicts::default(),
            page_map,
            observer: self.observer,
            vcpus: self.vcpus,
            grace_periods: self.grace_periods,
            counters: Mutex::default(),
            memory: self.memory,
        }))
    }

    /// The pool that was asked for, or that is needed.
    fn frame_pool(&self) -> Result<Option<FramePool>, FrameError> {
        let limbo = self.limbo;
        let needed = self.strategy == StrategyKind::Lazy && self.backend == BackendKind::Move;
        let options = match self.frames {
            Some(options) => options,
            None if needed => FrameOptions::fit(self.batch, limbo),
            None if self.variant.is_of_frames() => {
                return Err(FrameError::NoPool {
                    variant: self.variant,
                });
            }
            None => return Ok(None),
        };
        if !matches!(self.backend, BackendKind::Move | BackendKind::Copy) {
            return Err(FrameError::Backend {
                backend: self.backend,
            });
        }
        if self.page_size != PageSize::Small {
            return Err(FrameError::PageSize {
                page_size: self.page_size,
            });
        }
        let purpose = Purpose {
            batch: self.batch,
            limbo,
            stride: self.verify.limbo_stride(self.batch),
            variant: self.variant,
            grace: self.grace.clone(),
        };
        FramePool::new(options, purpose).map(Some)
    }

    fn check(&self) -> Result<(), BuildError> {
        let Self { batch, limbo, .. } = *self;
        if !(1..=MAX_BATCH).contains(&batch) {
            return Err(BuildError::Batch { batch });
        }
        if self.page_size == PageSize::Huge && batch != 1 {
            return Err(BuildError::HugeBatch { batch });
        }
        let uffds = self.uffds;
        if !(1..=MAX_UFFDS).contains(&uffds) {
            return Err(BuildError::Uffds { uffds });
        }
        if limbo > MAX_LIMBO {
            return Err(BuildError::Limbo { limbo });
        }
        if self.max_window == Some(Duration::ZERO) {
            return Err(BuildError::MaxWindow);
        }
        if !self.allocate.suits(self.backend) {
            let backend = self.backend;
            return Err(BuildError::Allocate { backend });
        }
        if !(1..=MAX_SLOTS).contains(&self.slots) {
            return Err(BuildError::Slots { slots: self.slots });
        }
        if self.targets.is_empty() {
            return Err(BuildError::NoTargets);
        }
        let way = Combination {
            strategy: self.strategy,
            backend: self.backend,
            wait: if self.signal_faults {
                WaitKind::Spin
            } else {
                WaitKind::Block
            },
            page_size: self.page_size,
            variant: self.variant,
        };
        way.check().map_err(|reason| BuildError::Unsound {
            strategy: way.strategy,
            backend: way.backend,
            variant: way.variant,
            reason,
        })?;
        if self.strategy == StrategyKind::StopWorld && self.vcpus.is_none() {
            return Err(BuildError::NoVcpus);
        }
        if self.variant == Variant::WindowWaitsGracePeriod && self.grace_periods.is_none() {
            return Err(BuildError::NoGracePeriods);
        }
        Ok(())
    }
}
