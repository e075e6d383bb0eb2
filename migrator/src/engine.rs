//! What movers, the fault handler and the embedder share.

use std::sync::Arc;
use std::time::Duration;

use vm_memory::GuestMemoryMmap;

use crate::alias::Alias;
use crate::counters::{Counters, LiveCounters};
use crate::frames::FramePool;
use crate::lock_order::Ordered;
use crate::memory_slots::SlotTable;
use crate::page_word::{Lane, PageWord};
use crate::plug::{Blocks, Hold};
use crate::regions::Regions;
use crate::registration::Registration;
use crate::sync::AtomicU32;
use crate::uffd::Watch;
use crate::watchdog::{Activity, LiveVerdicts, WaitGraph};
use crate::windows::Windows;
use crate::{
    Allocate, BackendKind, Class, ClassSet, GracePeriods, Inject, Invalidations, Observer, PageMap,
    PageSize, Rate, StrategyKind, Torment, Variant, Vcpus, Verify,
};

/// The parts of the configuration that movers need.
#[derive(Clone, Copy)]
pub(crate) struct Config {
    pub(crate) strategy: StrategyKind,
    pub(crate) backend: BackendKind,
    pub(crate) allocate: Allocate,
    pub(crate) variant: Variant,
    pub(crate) targets: ClassSet,
    /// In pages of 4 KiB; those of the largest slot, where slots are moved.
    pub(crate) batch: u32,
    pub(crate) page_size: PageSize,
    pub(crate) limbo: u32,
    pub(crate) rate: Rate,
    pub(crate) seed: u64,
    pub(crate) verify: Verify,
    pub(crate) inject: Option<Inject>,
    pub(crate) torment: Option<Torment>,
    pub(crate) tsc_hz: u64,
    pub(crate) rest_ticks: u64,
    /// A fault handler looks for faults for so long before it sleeps.
    pub(crate) linger_ticks: u64,
    /// What is moved lazily is left to those who touch it for so long.
    pub(crate) prefetch_after: Duration,
    /// The longest window before its new frames are mapped, in TSC ticks.
    pub(crate) max_window: Option<u64>,
}

/// The blocks of one window, held until this is dropped.
pub(crate) enum Kept<'a> {
    /// A batch lies in one.
    Block(#[expect(dead_code, reason = "dropping it lets go")] Hold<'a>),
    /// A slot in any number.
    Slot(#[expect(dead_code, reason = "dropping it lets go")] Vec<Hold<'a>>),
}

pub(crate) struct Engine {
    pub(crate) config: Config,
    pub(crate) regions: Regions,
    /// Which of it is plugged.
    pub(crate) blocks: Blocks,
    /// The NUMA nodes with memory, for [`BackendKind::Kernel`].
    pub(crate) nodes: Box<[u32]>,
    /// Where guest memory lies in a file.
    pub(crate) alias: Option<Arc<Alias>>,
    /// What [`BackendKind::Memslot`] moves.
    pub(crate) slots: Option<SlotTable>,
    /// What guest memory is registered for.
    pub(crate) watch: Watch,
    pub(crate) words: Box<[PageWord]>,
    pub(crate) registration: Arc<Registration>,
    /// Frames of movers and faults; without it they have their own.
    pub(crate) frames: Option<Arc<FramePool>>,
    pub(crate) windows: Arc<Windows>,
    /// The page that was last demanded of those that are away: its neighbours will be next.
    pub(crate) demanded: AtomicU32,
    pub(crate) invalidations: Arc<Invalidations>,
    pub(crate) waits: Arc<WaitGraph>,
    /// Whether there is anything for the watchdog to look at.
    pub(crate) activity: Activity,
    pub(crate) verdicts: LiveVerdicts,
    pub(crate) page_map: Arc<dyn PageMap>,
    pub(crate) observer: Arc<dyn Observer>,
    pub(crate) vcpus: Option<Arc<dyn Vcpus>>,
    pub(crate) grace_periods: Option<Arc<dyn GracePeriods>>,
    /// One entry per mover made; locked when one is made or all are read.
    pub(crate) counters: Ordered<Vec<Arc<LiveCounters>>>,
    /// Last, so that the memory outlives its registration.
    pub(crate) memory: Arc<GuestMemoryMmap>,
}

impl Engine {
    /// What a page may be moved as now: a target class, unless nothing is there (its block is unplugged, or nobody has
    /// touched it), or it must sleep and would signal.
    pub(crate) fn target_class(&self, page: u32) -> Option<Class> {
        let word = &self.words[page as usize];
        if word.is_hole() {
            return None;
        }
        let gfn = self.regions.of(page).gfn(page);
        let class = self
            .page_map
            .class(gfn)
            .filter(|&class| self.config.targets.contains(class))?;
        match word.lane() {
            Lane::Blocking => Some(class),
            Lane::Signalling => (!self.page_map.sleeps(gfn)).then_some(class),
        }
    }

    /// Whether a page without a class moves when its slot does.
    pub(crate) fn moves_along(&self, page: u32) -> bool {
        let word = &self.words[page as usize];
        let gfn = self.regions.of(page).gfn(page);
        self.slots.is_some()
            && !word.is_hole()
            && self.page_map.class(gfn).is_none()
            && self.page_map.moves_along(gfn)
    }

    /// Pages of the window that moves a page, at most: those of its slot, or a batch.
    pub(crate) fn reach(&self, page: u32) -> u32 {
        let slot = self.slots.as_ref().and_then(|slots| slots.of(page));
        slot.map_or(self.config.batch, |slot| slot.end - slot.start)
    }

    /// Keeps the blocks of the window that moves a page, unless windows are to keep out of one.
    pub(crate) fn keep_blocks(&self, page: u32) -> Option<Kept<'_>> {
        match self.slots.as_ref().and_then(|slots| slots.of(page)) {
            Some(slot) => self.blocks.enter_windows(slot).map(Kept::Slot),
            None => self.blocks.enter_window(page).map(Kept::Block),
        }
    }

    /// The counters of all movers together.
    pub(crate) fn counters(&self) -> Counters {
        let mut sum = Counters::default();
        for live in self.counters.lock().iter() {
            sum.merge(&live.snapshot());
        }
        if let Some(frames) = &self.frames {
            sum.stale_writes += frames.untold_stale();
        }
        sum
    }

    /// Makes the counters of one more mover; also says how many there were.
    pub(crate) fn new_counters(&self) -> (Arc<LiveCounters>, usize) {
        let mut all = self.counters.lock();
        let live = Arc::new(LiveCounters::default());
        all.push(Arc::clone(&live));
        (live, all.len() - 1)
    }
}
