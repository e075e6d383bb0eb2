//! Frames of the shared pool by `UFFDIO_MOVE`.

use std::io;
use std::sync::Arc;

use super::pool::run;
use super::settle::settle;
use super::{Backend, Source, bytes};
use crate::arena::ArenaError;
use crate::frames::{FramePool, FrameUser};
use crate::page_word::Lane;
use crate::pagemap::Pagemap;
use crate::registration::Registration;
use crate::ring::Piece;
use crate::uffd::{Transfer, UffdError};
use crate::{PAGE_SIZE, StrategyKind};

/// New frames are taken from the pool before the window, and so are the empty slots that the old ones go to. After
/// it old frames are the pool's, and in limbo.
pub(crate) struct PooledIn {
    pool: Arc<FramePool>,
    registration: Arc<Registration>,
    /// Slots with the new frames of the next window, and whether each was given to the guest.
    new: Vec<u32>,
    given: Vec<bool>,
    /// Empty slots, and during a window those with the old frames.
    old: Vec<u32>,
    /// Nobody calls `copy`: pages come one by one, and each is copied then.
    copies_late: bool,
    /// The slot that went into limbo last.
    youngest: Option<u32>,
    /// Old frames of the open window that are in `old`.
    out: u32,
    /// To look at slots where the kernel's word is not enough.
    pagemap: Pagemap,
    uncounted: u32,
}

impl PooledIn {
    /// One for windows of up to `batch` pages.
    pub(crate) fn new(
        batch: u32,
        strategy: StrategyKind,
        pool: Arc<FramePool>,
        registration: Arc<Registration>,
    ) -> Result<Self, ArenaError> {
        let batch = batch as usize;
        Ok(Self {
            pool,
            registration,
            new: Vec::with_capacity(batch),
            given: vec![false; batch],
            old: Vec::with_capacity(batch),
            copies_late: strategy == StrategyKind::Lazy,
            youngest: None,
            out: 0,
            pagemap: Pagemap::open(1).map_err(ArenaError::Pagemap)?,
            uncounted: 0,
        })
    }

    /// Moves the frames of `slots`, which are the pages from `hva + skip` on, to the guest; how many.
    fn give(&mut self, from: From, lane: Lane, hva: usize, skip: u32, pages: u32) -> Transfer {
        let Self {
            pool,
            registration,
            new,
            old,
            pagemap,
            uncounted,
            ..
        } = self;
        let slots = match from {
            From::New => new,
            From::Old => old,
        };
        let slots = &slots[skip as usize..(skip + pages) as usize];
        let start = hva + skip as usize * PAGE_SIZE;
        let uffd = registration.uffd(lane, start);
        let given = run(pieces(slots), |offset, piece| {
            let src = pool.arena().start(piece) as usize;
            // SAFETY: the slots are ours until they are given back to the pool.
            let given = unsafe { uffd.move_pages(start + offset, src, piece.pages * PAGE_SIZE) };
            let (given, more) = settle(given, piece.pages, |nth| {
                pool.arena().holds(pagemap, piece.slot + nth) == Some(false)
            });
            *uncounted += more;
            given
        });
        self.pool.account(-((given.done / PAGE_SIZE) as i64));
        given
    }

    fn at(&self, slots: &[u32], nth: u32) -> *mut u8 {
        self.pool.address(slots[nth as usize])
    }

    /// Where the contents of the `nth` page are.
    fn source(&self, source: Source, nth: u32) -> *const u8 {
        match source {
            Source::Limbo => self.at(&self.old, nth),
            Source::Mapped(hva) => (hva + nth as usize * PAGE_SIZE) as *const u8,
        }
    }

    fn copy_page(&self, source: Source, nth: u32, len: usize) {
        // SAFETY: `new` are full slots of ours; the source is a slot of ours that was just taken, or a guest page,
        // which is there and which the guest may write.
        unsafe { bytes::copy(self.at(&self.new, nth), self.source(source, nth), len) };
    }

    /// Lets go of the first `pages` old slots, which the caller gives back, and of the frames that were given. Should
    /// old frames be left in others, which could not be put back, those are never used again.
    fn end(&mut self, pages: u32) {
        self.old.drain(..pages as usize);
        if std::mem::take(&mut self.out) > pages {
            let (pool, pagemap) = (&self.pool, &mut self.pagemap);
            let is_empty = |slot: &u32| pool.arena().holds(pagemap, *slot as usize) == Some(false);
            self.old.retain(is_empty);
        }
        let mut given = self.given.iter();
        let pool = &self.pool;
        self.new.retain(|&slot| {
            let given = *given.next().expect("one for each slot");
            if given {
                pool.give_empty(&[slot]);
            }
            !given
        });
        self.given.fill(false);
    }
}

#[derive(Clone, Copy)]
enum From {
    New,
    Old,
}

impl Backend for PooledIn {
    fn prepare(&mut self, pages: u32) -> io::Result<u32> {
        let wanted = pages.saturating_sub(self.new.len() as u32);
        let Self { pool, new, old, .. } = self;
        if wanted > 0 {
            pool.take(FrameUser::Mover, wanted, |slot| new.push(slot));
        }
        let wanted = pages.saturating_sub(old.len() as u32);
        if wanted > 0 {
            pool.take_empty(wanted, |slot| old.push(slot));
        }
        Ok(pool.take_stale())
    }

    fn is_ready(&self, pages: u32) -> bool {
        self.new.len().min(self.old.len()) >= pages as usize
    }

    fn protect(&mut self, lane: Lane, hva: usize, pages: u32) -> i32 {
        self.registration.protect(lane, hva, pages)
    }

    fn unprotect(&mut self, lane: Lane, hva: usize, pages: u32) -> i32 {
        self.registration.unprotect(lane, hva, pages)
    }

    fn unmap(&mut self, hva: usize, pages: u32) -> Transfer {
        let Self {
            pool,
            old,
            pagemap,
            uncounted,
            ..
        } = self;
        let taken = run(pieces(&old[..pages as usize]), |offset, piece| {
            // SAFETY: the caller claimed these guest pages; whoever touches them waits or is told, as they are
            // registered, until they are mapped again.
            let taken = unsafe { pool.arena().take(piece, hva + offset) };
            let (taken, more) = settle(taken, piece.pages, |nth| {
                pool.arena().holds(pagemap, piece.slot + nth) == Some(true)
            });
            *uncounted += more;
            taken
        });
        let done = (taken.done / PAGE_SIZE) as u32;
        self.pool.account(done.into());
        self.out += done;
        taken
    }

    fn copy(&mut self, source: Source, pages: u32, len: usize) {
        for nth in 0..pages {
            self.copy_page(source, nth, len);
        }
    }

    fn is_copied(&self, source: Source, pages: u32) -> bool {
        (0..pages).all(|nth| {
            // SAFETY: as in `copy_page`, and nobody writes either.
            unsafe {
                bytes::are_equal(self.at(&self.new, nth), self.source(source, nth), PAGE_SIZE)
            }
        })
    }

    fn map(&mut self, lane: Lane, hva: usize, skip: u32, pages: u32) -> Transfer {
        if self.copies_late {
            (skip..skip + pages).for_each(|nth| self.copy_page(Source::Limbo, nth, PAGE_SIZE));
        }
        let given = self.give(From::New, lane, hva, skip, pages);
        let done = given.done / PAGE_SIZE;
        self.given[skip as usize..skip as usize + done].fill(true);
        given
    }

    fn put_back(&mut self, lane: Lane, hva: usize, skip: u32, pages: u32) -> Transfer {
        let given = self.give(From::Old, lane, hva, skip, pages);
        self.out -= (given.done / PAGE_SIZE) as u32;
        given
    }

    fn commit(&mut self, pages: u32) {
        let old = &self.old[..pages as usize];
        // Fewer where some went back and the rest could not: what is left of them is nobody's.
        if self.out >= pages {
            self.youngest = old.last().copied().or(self.youngest);
            self.pool.retire(old);
        }
        self.end(pages);
    }

    fn forget(&mut self, pages: u32) -> io::Result<()> {
        let discarded = self.pool.discard(&self.old[..pages as usize]);
        self.out = 0;
        self.end(pages);
        discarded
    }

    fn wake(&mut self, lane: Lane, hva: usize, pages: u32) -> Result<(), UffdError> {
        self.registration.wake(lane, hva, pages)
    }

    fn limbo_address(&self, nth: u32) -> usize {
        self.at(&self.old, nth) as usize
    }

    fn scribble(&mut self) {
        if let Some(slot) = self.youngest {
            // SAFETY: a slot of ours until a moment ago, aligned to a page; whoever has its frame by now is to
            // find the word.
            unsafe {
                self.pool
                    .address(slot)
                    .cast::<u64>()
                    .write(u64::from_ne_bytes(*b"busted!!"))
            };
        }
    }

    fn audit(&mut self) -> u32 {
        self.pool.audit()
    }

    fn take_uncounted(&mut self) -> u32 {
        std::mem::take(&mut self.uncounted)
    }
}

impl Drop for PooledIn {
    fn drop(&mut self) {
        // Old frames that could not be put back stay out of the pool.
        for &slot in &self.old {
            if self.pool.arena().holds(&mut self.pagemap, slot as usize) == Some(false) {
                self.pool.give_empty(&[slot]);
            }
        }
        self.pool.give_free(&self.new);
    }
}

/// The runs of neighbours among slots.
fn pieces(slots: &[u32]) -> impl Iterator<Item = Piece> {
    slots
        .chunk_by(|one, next| one + 1 == *next)
        .map(|neighbours| Piece {
            slot: neighbours[0] as usize,
            pages: neighbours.len(),
        })
}
