//! Plugging and unplugging blocks: who keeps out when, and the ways back.

use std::ops::Range;
use std::thread;
use std::time::{Duration, Instant};

use super::block::{Block, Reader};
use super::wait::{ChangeWait, Patience};
use super::{Blocks, FaultLock};
use crate::lock_order::{Class, OrderedWriteGuard, may_wait};
use crate::page_word::PageWord;
use crate::sync::yield_now;

/// Between looks whether a window is over.
const NAP: Duration = Duration::from_micros(20);

/// Blocks that stay plugged.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Stays<E> {
    /// This one, by number, is not plugged.
    NotPlugged(usize),
    /// A window stayed open.
    Busy,
    /// This one of their pages was lost.
    Lost(usize),
    /// So many of their pages are in use, by somebody who was not let in.
    InUse(u32),
    /// They were not unregistered.
    Failed(E),
}

/// Why blocks were not unregistered, and whether they are registered as before.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal<E> {
    pub(super) error: E,
    /// Else they must stay closed: a page that a window takes out of memory that is not registered would be filled with
    /// zeroes by the kernel.
    pub(super) whole: bool,
}

/// Blocks that let no window in, until this is dropped.
struct Closed<'a> {
    blocks: &'a [Block],
    /// Those that did until now.
    to_open: Vec<&'a Block>,
}

impl<'a> Closed<'a> {
    fn new(blocks: &'a [Block]) -> Self {
        let to_open = blocks.iter().filter(|block| block.close()).collect();
        Self { blocks, to_open }
    }

    /// Waits until no window is open in them; false if that takes too long.
    fn wait(&self, patience: &Patience, told: &ChangeWait) -> bool {
        may_wait(Class::Range);
        let began = Instant::now();
        let mut waiting = None;
        let is_empty = |block: &Block| block.is_empty_of(Reader::Window);
        while !self.blocks.iter().all(is_empty) {
            waiting.get_or_insert_with(|| told.begin(patience.range));
            if cfg!(loom) {
                yield_now();
            } else if began.elapsed() >= patience.longest {
                return false;
            } else {
                thread::sleep(NAP);
            }
        }
        true
    }

    fn stay(mut self) {
        self.to_open.clear();
    }
}

impl Drop for Closed<'_> {
    fn drop(&mut self) {
        self.to_open.iter().for_each(|block| block.open());
    }
}

/// Blocks that let no fault in either. Dropped before its end, it leaves them plugged and closed, or unplugged, as they
/// were.
struct Changing<'a> {
    blocks: &'a [Block],
    /// Whether they are plugged afterwards.
    plugged: bool,
    closed: bool,
    _table: OrderedWriteGuard<'a>,
}

impl Drop for Changing<'_> {
    fn drop(&mut self) {
        for block in self.blocks {
            block.end_change(self.plugged, self.closed);
        }
    }
}

impl Blocks {
    /// Takes `blocks`, whose pages have these `words`, away: once no window is open in them and no fault is served,
    /// `unregister` is called.
    pub(super) fn unplug<E>(
        &self,
        blocks: Range<usize>,
        words: &[PageWord],
        patience: impl Into<Patience>,
        unregister: impl FnOnce() -> Result<(), Refusal<E>>,
    ) -> Result<(), Stays<E>> {
        let _alone = self.changes.lock();
        let first = blocks.start;
        let blocks = &self.blocks[blocks];
        if let Some(nth) = blocks.iter().position(|block| !block.is_plugged()) {
            return Err(Stays::NotPlugged(first + nth));
        }
        let closed = Closed::new(blocks);
        if !closed.wait(&patience.into(), &self.waiting) {
            self.counts.busy.add(1);
            return Err(Stays::Busy);
        }
        if let Some(nth) = words.iter().position(PageWord::is_lost) {
            return Err(Stays::Lost(nth));
        }
        let mut changing = self.keep_faults_out(blocks, words);
        changing.closed = true;
        // Whoever was let in has left. Pages that are in use all the same are a proof that somebody was not let in; but
        // who goes by the sequence may claim one for as long as it takes to look again.
        let looks_again = self.lock == FaultLock::Sequence;
        let in_use = |word: &&PageWord| word.is_moving() || word.is_populating() && !looks_again;
        let in_use = words.iter().filter(in_use).count();
        if in_use > 0 {
            self.counts.in_use.add(in_use as u64);
            return Err(Stays::InUse(in_use as u32));
        }
        if let Err(refusal) = unregister() {
            if !refusal.whole {
                closed.stay();
            }
            return Err(Stays::Failed(refusal.error));
        }
        // What movers find there until it is plugged again.
        words.iter().for_each(|word| word.set_hole(true));
        (changing.plugged, changing.closed) = (false, false);
        drop(changing);
        closed.stay();
        self.counts.unplugged.add(blocks.len() as u64);
        Ok(())
    }

    /// Takes `blocks` in, which `register` registers, with the words of their pages brought up to date. The error is the
    /// number of one that is plugged already, or what `register` said.
    pub(super) fn plug<E>(
        &self,
        blocks: Range<usize>,
        words: &[PageWord],
        register: impl FnOnce() -> Result<(), E>,
    ) -> Result<Result<(), E>, usize> {
        let _alone = self.changes.lock();
        let first = blocks.start;
        let blocks = &self.blocks[blocks];
        if let Some(nth) = blocks.iter().position(Block::is_plugged) {
            return Err(first + nth);
        }
        let mut changing = self.keep_faults_out(blocks, words);
        changing.plugged = false;
        let registered = register();
        if registered.is_ok() {
            changing.plugged = true;
            self.counts.plugged.add(blocks.len() as u64);
        }
        Ok(registered)
    }

    /// Keeps faults out of `blocks` and waits for those that are being served, which wait for nobody.
    fn keep_faults_out<'a>(&'a self, blocks: &'a [Block], words: &[PageWord]) -> Changing<'a> {
        // Whoever holds the table for reading is done with all blocks once this is ours.
        let table = self.table.write();
        may_wait(Class::Served);
        blocks.iter().for_each(Block::begin_change);
        let changing = Changing {
            blocks,
            plugged: true,
            closed: false,
            _table: table,
        };
        match self.lock {
            FaultLock::Region => {
                for block in blocks {
                    while !block.is_empty_of(Reader::Fault) {
                        yield_now();
                    }
                }
            }
            FaultLock::Table => {}
            // Pairs with the look at the sequence of whoever has claimed a page.
            FaultLock::Sequence => {
                for word in words {
                    while word.is_populating() {
                        yield_now();
                    }
                }
            }
        }
        changing
    }
}
