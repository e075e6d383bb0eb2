//! Claiming contiguous pages around one that was picked.

use crate::clock::Tsc;
use crate::engine::Engine;
use crate::lock_order::{Held, hold};
use crate::page_word::{Lane, Leave, PageWord};
use crate::regions::Region;
use crate::{Class, Gfn, PageSize};

/// Contiguous pages, claimed by whoever holds this.
pub(crate) struct Claim<'a> {
    pub(crate) words: &'a [PageWord],
    /// None for a page that moves along with its slot.
    pub(crate) classes: &'a [Option<Class>],
    /// The number of the first page.
    pub(crate) first: u32,
    pub(crate) gfn: Gfn,
    pub(crate) hva: usize,
    pub(crate) lane: Lane,
    pub(crate) _held: Held,
}

/// The classes of the pages that are claimed.
pub(crate) struct Batch {
    limit: u32,
    classes: Vec<Option<Class>>,
    claimed: usize,
}

impl Batch {
    /// For up to `limit` pages.
    pub(crate) fn new(limit: u32) -> Self {
        Self {
            limit,
            classes: vec![None; limit as usize],
            claimed: 0,
        }
    }

    /// The classes of the pages claimed last.
    pub(crate) fn classes(&self) -> &[Option<Class>] {
        &self.classes[..self.claimed]
    }

    /// Claims `page`, whose block of guest memory the caller keeps, and its neighbours of target classes that have rested
    /// and belong to the same lane, region and blocks. `None` if `page` itself moves, rests or is no target any more.
    /// Where slots are moved, it claims all of the page's slot, whose blocks the caller keeps, or nothing.
    ///
    /// Blocks of a batch are as large as it and aligned to their size: a window of 512 pages then lies
    /// under one page table, and the kernel flushes once for each of its two calls, not twice.
    ///
    /// The embedder's page map is asked before anything is claimed: should it panic, nothing is
    /// left behind.
    pub(crate) fn claim<'a>(
        &'a mut self,
        engine: &'a Engine,
        page: u32,
        now: Tsc,
    ) -> Option<Claim<'a>> {
        let region = engine.regions.of(page);
        let lane = engine.words[page as usize].lane();
        let reach = engine.reach(page);
        let moves_whole = engine.config.page_size == PageSize::Huge || engine.slots.is_some();
        let (first, wanted) = self.extent(engine, region, lane, page, now)?;
        if moves_whole && wanted < reach {
            return None;
        }
        let rest = engine.config.rest_ticks;
        let words = &engine.words[first as usize..(first + wanted) as usize];
        let claimed = words
            .iter()
            .take_while(|word| word.try_claim(now, rest))
            .count();
        if moves_whole && claimed < words.len() {
            give_up(engine, region.hva(first), lane, &words[..claimed]);
            return None;
        }
        self.claimed = claimed;
        (claimed > 0).then(|| Claim {
            words: &words[..claimed],
            classes: &self.classes[..claimed],
            first,
            gfn: region.gfn(first),
            hva: region.hva(first),
            lane,
            _held: hold(crate::lock_order::Class::Range),
        })
    }

    /// The pages to try, and their classes.
    fn extent(
        &mut self,
        engine: &Engine,
        region: &Region,
        lane: Lane,
        page: u32,
        now: Tsc,
    ) -> Option<(u32, u32)> {
        let eligible = |page: u32| {
            let word = &engine.words[page as usize];
            if word.lane() == lane && word.is_movable(now, engine.config.rest_ticks) {
                let class = engine.target_class(page).map(Some);
                class.or_else(|| engine.moves_along(page).then_some(None))
            } else {
                None
            }
        };
        let (start, end) = match engine.slots.as_ref().map(|slots| slots.of(page)) {
            // The caller keeps all of its blocks.
            Some(slot) => slot.map(|slot| (slot.start, slot.end))?,
            None => {
                let kept = engine.blocks.pages(page);
                let start = region.first.max(page - page % self.limit);
                let end = region.end().min(start - start % self.limit + self.limit);
                (start.max(kept.start), end.min(kept.end))
            }
        };
        let mut len = 0;
        for class in (page..end).map_while(eligible) {
            self.classes[len] = class;
            len += 1;
        }
        if len == 0 {
            return None;
        }
        let tail = len;
        for class in (start..page).rev().map_while(eligible) {
            self.classes[len] = class;
            len += 1;
        }
        let before = (len - tail) as u32;
        // Found backwards: the pages before the picked one come first, in order.
        self.classes[tail..len].reverse();
        self.classes[..len].rotate_left(tail);
        Some((page - before, len as u32))
    }
}

/// Lets pages go that were claimed in vain. A fault that found one of them claimed was of one that is
/// there by now, as nothing was done to it; it is woken all the same.
fn give_up(engine: &Engine, hva: usize, lane: Lane, words: &[PageWord]) {
    let waited = words
        .iter()
        .fold(false, |waited, word| word.leave(Leave::Untouched) | waited);
    if waited {
        // Who waits on looks again when the next mover is done with the page.
        let _ = engine.registration.wake(lane, hva, words.len() as u32);
    }
}
