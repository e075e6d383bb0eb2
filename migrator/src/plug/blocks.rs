//! The blocks of guest memory, and the ways into them.

use std::ops::Range;
use std::sync::Arc;

use super::block::{Block, Reader};
use super::hold::{FaultHold, Hold, SequenceCheck};
use super::wait::ChangeWait;
use super::{BLOCK_PAGES, FaultCells, FaultLock, PlugCounters};
use crate::Variant;
use crate::counters::Cell;
use crate::lock_order::{Class, Ordered, OrderedRw};
use crate::regions::Regions;

/// Blocks that follow each other, from one region of guest memory.
struct Span {
    /// Number of its first page, and of the page after its last.
    pages: Range<u32>,
    /// Its first block.
    block: u32,
    /// Pages of the first block that lie before the region.
    lead: u32,
}

/// What changes count; one change at a time.
#[derive(Default)]
pub(super) struct ChangeCells {
    pub(super) plugged: Cell,
    pub(super) unplugged: Cell,
    pub(super) busy: Cell,
    pub(super) in_use: Cell,
}

/// All blocks of guest memory, numbered in the order of its pages.
pub(crate) struct Blocks {
    spans: Box<[Span]>,
    pub(super) blocks: Box<[Block]>,
    pub(super) lock: FaultLock,
    variant: Variant,
    /// Whoever changes blocks is alone, from the beginning to the end. Taken before `table`.
    pub(super) changes: Ordered<()>,
    /// Faults take it for reading, always or when they fall back; written while faults are kept out.
    pub(super) table: OrderedRw,
    pub(super) counts: ChangeCells,
    /// What the one change waits for.
    pub(crate) waiting: Arc<ChangeWait>,
    /// One entry per handler made; locked when one is made or all are read.
    handlers: Ordered<Vec<Arc<FaultCells>>>,
}

impl Blocks {
    /// The blocks of `regions`, all of them plugged.
    pub(crate) fn new(regions: &Regions, lock: FaultLock, variant: Variant) -> Self {
        let mut block = 0;
        let spans: Box<[_]> = regions
            .iter()
            .map(|region| {
                let lead = (region.gfn.0 % u64::from(BLOCK_PAGES)) as u32;
                let span = Span {
                    pages: region.first..region.end(),
                    block,
                    lead,
                };
                // Wide enough: a region may have nearly as many pages as can be numbered.
                let pages = u64::from(lead) + u64::from(region.pages);
                block += pages.div_ceil(BLOCK_PAGES.into()) as u32;
                span
            })
            .collect();
        Self::over(spans, block, lock, variant)
    }

    fn over(spans: Box<[Span]>, blocks: u32, lock: FaultLock, variant: Variant) -> Self {
        Self {
            spans,
            blocks: (0..blocks).map(|_| Block::plugged()).collect(),
            lock,
            variant,
            changes: Ordered::new(Class::Changes, ()),
            table: OrderedRw::new(Class::Table),
            counts: ChangeCells::default(),
            waiting: Arc::default(),
            handlers: Ordered::new(Class::Counters, Vec::new()),
        }
    }

    /// A block of one page.
    #[cfg(all(test, loom))]
    pub(super) fn of_one_page(lock: FaultLock, variant: Variant) -> Self {
        let spans = Box::new([Span {
            pages: 0..1,
            block: 0,
            lead: 0,
        }]);
        Self::over(spans, 1, lock, variant)
    }

    fn span(&self, page: u32) -> &Span {
        let after = self.spans.partition_point(|span| span.pages.start <= page);
        &self.spans[after - 1]
    }

    /// The number of the block of page number `page`, which there must be.
    pub(super) fn number(&self, page: u32) -> usize {
        let span = self.span(page);
        let into = u64::from(page - span.pages.start) + u64::from(span.lead);
        span.block as usize + (into / u64::from(BLOCK_PAGES)) as usize
    }

    /// The pages of the block of page number `page`.
    pub(crate) fn pages(&self, page: u32) -> Range<u32> {
        let span = self.span(page);
        let (size, lead) = (u64::from(BLOCK_PAGES), u64::from(span.lead));
        let block = (u64::from(page - span.pages.start) + lead) / size;
        let at = |edge: u64| u64::from(span.pages.start) + (edge * size).saturating_sub(lead);
        // The end of a region is a page number, and what lies before it is one too.
        at(block) as u32..at(block + 1).min(span.pages.end.into()) as u32
    }

    fn of(&self, page: u32) -> &Block {
        &self.blocks[self.number(page)]
    }

    /// Whether the page's block is plugged, or being changed.
    pub(crate) fn is_plugged(&self, page: u32) -> bool {
        self.of(page).is_plugged()
    }

    /// Keeps the page's block for a window, unless windows are to keep out.
    pub(crate) fn enter_window(&self, page: u32) -> Option<Hold<'_>> {
        if self.variant == Variant::WindowUnlocked {
            return Some(Hold::of_nothing(Reader::Window));
        }
        Hold::try_new(self.of(page), Reader::Window)
    }

    /// Keeps all blocks of `pages`, which lie in one region, for a window, unless windows are to keep out of one.
    pub(crate) fn enter_windows(&self, pages: Range<u32>) -> Option<Vec<Hold<'_>>> {
        let mut holds = Vec::new();
        let mut page = pages.start;
        while page < pages.end {
            holds.push(self.enter_window(page)?);
            page = self.pages(page).end;
        }
        Some(holds)
    }

    /// Keeps the page's block for a fault. `None` if nobody waits there, or is woken by whoever changes the block.
    pub(crate) fn enter_fault(&self, page: u32, counts: &FaultCells) -> Option<FaultHold<'_>> {
        let block = self.of(page);
        if self.variant == Variant::FaultUnlocked {
            counts.fast.add(1);
            return Some(FaultHold::of_block(Hold::of_nothing(Reader::Fault)));
        }
        match self.lock {
            FaultLock::Region => match Hold::try_new(block, Reader::Fault) {
                Some(hold) => {
                    counts.fast.add(1);
                    Some(FaultHold::of_block(hold))
                }
                None => {
                    counts.fell_back.add(1);
                    self.enter_table(block, counts)
                }
            },
            FaultLock::Table => self.enter_table_at_once(block, counts),
            FaultLock::Sequence => match block.sequence() {
                // The sequence was read first: what is found now is as of then, or it will have changed.
                Some(sequence) if block.is_plugged() => {
                    counts.fast.add(1);
                    Some(FaultHold::Sequence(SequenceCheck { block, sequence }))
                }
                Some(_) => {
                    counts.gone.add(1);
                    None
                }
                None => {
                    counts.left.add(1);
                    None
                }
            },
        }
    }

    fn enter_table_at_once<'a>(
        &'a self,
        block: &Block,
        counts: &FaultCells,
    ) -> Option<FaultHold<'a>> {
        let Some(guard) = self.table.try_read() else {
            counts.fell_back.add(1);
            return self.enter_table(block, counts);
        };
        if !block.is_plugged() {
            counts.gone.add(1);
            return None;
        }
        counts.fast.add(1);
        Some(FaultHold::Table { _guard: guard })
    }

    fn enter_table<'a>(&'a self, block: &Block, counts: &FaultCells) -> Option<FaultHold<'a>> {
        let guard = self.table.read();
        // Looked at again, now that no block is being changed.
        if !block.is_plugged() {
            counts.gone.add(1);
            return None;
        }
        Some(FaultHold::Table { _guard: guard })
    }

    /// The counts of one more handler.
    pub(crate) fn new_handler(&self) -> Arc<FaultCells> {
        let cells = Arc::new(FaultCells::default());
        self.handlers.lock().push(Arc::clone(&cells));
        cells
    }

    /// What all changes and handlers counted.
    pub(crate) fn counters(&self) -> PlugCounters {
        let mut counters = PlugCounters {
            plugged: self.counts.plugged.get(),
            unplugged: self.counts.unplugged.get(),
            busy: self.counts.busy.get(),
            in_use: self.counts.in_use.get(),
            ..PlugCounters::default()
        };
        for handler in self.handlers.lock().iter() {
            handler.add_to(&mut counters.faults);
        }
        counters
    }
}
