//! Putting a migrator together.

mod build;
mod error;

pub use error::BuildError;

use std::sync::Arc;
use std::time::Duration;

use vm_memory::GuestMemoryMmap;

use crate::event::Silent;
use crate::frames::{FrameOptions, Grace};
use crate::{
    Allocate, BackendKind, ClassSet, Exhausted, FaultLock, GracePeriods, Inject,
    InvalidationOptions, Members, MemorySlots, Observer, PageMap, PageRange, PageSize, Rate,
    StrategyKind, Torment, Tracking, Variant, Vcpus, Verify, WaitSource,
};

/// How long a moved page rests by default.
pub const DEFAULT_REST: Duration = Duration::from_micros(100);
/// Old frames that stay in limbo by default, in pages.
pub const DEFAULT_LIMBO: u32 = 64;
/// The most userfaultfds that guest memory can be shared among.
pub const MAX_UFFDS: u32 = 64;
/// The most frames that limbo can be asked to hold: 4 GiB.
pub const MAX_LIMBO: u32 = 1 << 20;

/// Configures a [`Migrator`](crate::Migrator). What has a default need not be set.
pub struct Builder {
    memory: Arc<GuestMemoryMmap>,
    page_map: Option<Arc<dyn PageMap>>,
    observer: Arc<dyn Observer>,
    vcpus: Option<Arc<dyn Vcpus>>,
    memory_slots: Option<Arc<dyn MemorySlots>>,
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
    prefetch_after: Duration,
    linger: Duration,
    wait_sources: Vec<Arc<dyn WaitSource>>,
    members: Members,
    grace_periods: Option<Arc<dyn GracePeriods>>,
    uffds: u32,
    fault_lock: FaultLock,
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
            memory_slots: None,
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
            prefetch_after: Duration::ZERO,
            linger: Duration::ZERO,
            wait_sources: Vec::new(),
            members: Members::default(),
            grace_periods: None,
            uffds: 1,
            fault_lock: FaultLock::default(),
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

    /// The vCPUs, which [`StrategyKind::StopWorld`](crate::StrategyKind::StopWorld) stops.
    #[must_use]
    pub fn vcpus(mut self, vcpus: Arc<dyn Vcpus>) -> Self {
        self.vcpus = Some(vcpus);
        self
    }

    /// The slots of guest memory that [`BackendKind::Memslot`] moves, each whole. One moves if all of its pages may: it
    /// stays while the page map refuses one ([`PageMap::moves_along`]), or a page of it is [excluded](Self::exclude). Those that can move are populated
    /// first. Neither a batch nor several userfaultfds go with it.
    #[must_use]
    pub fn memory_slots(mut self, slots: Arc<dyn MemorySlots>) -> Self {
        self.memory_slots = Some(slots);
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

    /// Pages in one window at most: 1, the default, to [`MAX_BATCH`](crate::MAX_BATCH).
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
    /// [`Migrator::limbo_stride`](crate::Migrator::limbo_stride) says which it is.
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

    /// How invalidations are kept track of, which [`Migrator::invalidations`](crate::Migrator::invalidations)
    /// tells consumers of.
    #[must_use]
    pub fn tracking(mut self, tracking: Tracking) -> Self {
        self.tracking = tracking;
        self
    }

    /// Slots for open invalidations, 1 to [`MAX_SLOTS`](crate::MAX_SLOTS), with [`Tracking::Pool`]; 16 unless set.
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
    /// With [`StrategyKind::Lazy`](crate::StrategyKind::Lazy) it holds until the pages are given out singly:
    /// from then on nobody
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
    /// [`MAX_UFFDS`]. Each has a [`Handler`](crate::Handler) of its own
    /// ([`Migrator::handlers`](crate::Migrator::handlers)), so that a fault of one
    /// part does not queue behind those of another. Memory too small for so many has fewer.
    #[must_use]
    pub fn uffds(mut self, uffds: u32) -> Self {
        self.uffds = uffds;
        self
    }

    /// How a fault keeps its block from being unplugged ([`Migrator::unplug`](crate::Migrator::unplug)) while it is
    /// served; by a lock of the block unless set.
    #[must_use]
    pub fn fault_lock(mut self, lock: FaultLock) -> Self {
        self.fault_lock = lock;
        self
    }

    /// What old frames of the pool wait for before they are used again, on top of what the engine sees to.
    #[must_use]
    pub fn grace(mut self, grace: Arc<dyn Grace>) -> Self {
        self.grace = Some(grace);
        self
    }

    /// How long the pages of a range that is moved lazily are left to those who touch them before the
    /// mover brings the others; not at all unless set. A request to stop waits for as long.
    #[must_use]
    pub fn prefetch_after(mut self, delay: Duration) -> Self {
        self.prefetch_after = delay;
        self
    }

    /// How long each fault handler looks for the next fault before it sleeps, which keeps a CPU busy; not at
    /// all unless set. Who waits is served without the handler's being woken first.
    #[must_use]
    pub fn linger(mut self, time: Duration) -> Self {
        self.linger = time;
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
}
