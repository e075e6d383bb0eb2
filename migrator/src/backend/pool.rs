//! What the two backends share: a ring of frames, checked once each before they are used again.

use std::io;
use std::sync::Arc;

use super::sample::Sample;
use super::settle::settle;
use crate::PAGE_SIZE;
use crate::arena::{Arena, ArenaError};
use crate::page_word::Lane;
use crate::pagemap::Pagemap;
use crate::pattern;
use crate::registration::Registration;
use crate::ring::{Piece, Ring};
use crate::uffd::Transfer;

/// Frames in a ring of slots, and the guest memory that they come from and go to.
pub(super) struct Pool {
    arena: Arena,
    pub(super) ring: Ring,
    /// Frames older than this position were checked.
    checked: u64,
    /// The positions that are filled and checked.
    sample: Sample,
    pub(super) registration: Arc<Registration>,
    /// To look at slots where the kernel's word is not enough.
    pagemap: Pagemap,
    uncounted: u32,
}

impl Pool {
    pub(super) fn new(
        slots: u32,
        full: u32,
        stride: u32,
        registration: Arc<Registration>,
    ) -> Result<Self, ArenaError> {
        Ok(Self {
            arena: Arena::new(slots as usize, full as usize)?,
            ring: Ring::new(slots, full),
            checked: 0,
            sample: Sample::one_in(stride),
            registration,
            pagemap: Pagemap::open(1).map_err(ArenaError::Pagemap)?,
            uncounted: 0,
        })
    }

    /// Checks the `pages` oldest frames as far as they were filled, each once; returns how many
    /// were written.
    pub(super) fn check_oldest(&mut self, pages: u32) -> u32 {
        let tail = self.ring.tail();
        let first = self.checked.max(tail);
        let end = first.max(tail + u64::from(pages));
        self.checked = end;
        self.sample
            .among(first..end)
            .map(|position| {
                let frame = self.one(self.ring.oldest((position - tail) as u32, 1));
                // SAFETY: the ring says that this slot holds a frame, which was filled on entering.
                u32::from(unsafe { pattern::is_changed(frame) })
            })
            .sum()
    }

    /// Gives the `pages` oldest frames, which were checked, to the kernel.
    pub(super) fn discard_oldest(&mut self, pages: u32) -> io::Result<()> {
        for piece in self.ring.oldest(0, pages) {
            // SAFETY: old frames are nobody's.
            unsafe { self.arena.discard(piece)? };
        }
        self.ring.pop(pages);
        Ok(())
    }

    /// Takes guest frames into the first empty slots.
    pub(super) fn take(&mut self, hva: usize, pages: u32) -> Transfer {
        let Self {
            arena,
            ring,
            pagemap,
            uncounted,
            ..
        } = self;
        run(ring.vacant(0, pages), |offset, piece| {
            // SAFETY: the caller claimed these guest pages; whoever touches them waits or is told,
            // as they are registered, until they are mapped again.
            let taken = unsafe { arena.take(piece, hva + offset) };
            let (taken, more) = settle(taken, piece.pages, |nth| {
                arena.holds(pagemap, piece.slot + nth) == Some(true)
            });
            *uncounted += more;
            taken
        })
    }

    /// Moves the oldest frames to the guest, from the `skip`th on.
    pub(super) fn give_oldest(
        &mut self,
        lane: Lane,
        hva: usize,
        skip: u32,
        pages: u32,
    ) -> Transfer {
        let start = hva + skip as usize * PAGE_SIZE;
        self.give(lane, start, |ring| ring.oldest(skip, pages))
    }

    /// Moves the taken frames back, from the `skip`th on.
    pub(super) fn put_back(&mut self, lane: Lane, hva: usize, skip: u32, pages: u32) -> Transfer {
        let start = hva + skip as usize * PAGE_SIZE;
        self.give(lane, start, |ring| ring.vacant(skip, pages))
    }

    /// Moves the frames of the pieces that `pieces` names to the guest's pages at `start`.
    fn give<'a, P: Iterator<Item = Piece>>(
        &'a mut self,
        lane: Lane,
        start: usize,
        pieces: impl FnOnce(&'a Ring) -> P,
    ) -> Transfer {
        let Self {
            arena,
            ring,
            registration,
            pagemap,
            uncounted,
            ..
        } = self;
        let uffd = registration.uffd(lane);
        run(pieces(ring), |offset, piece| {
            let src = arena.start(piece) as usize;
            // SAFETY: the slots are ours, and the ring will not name them as full again.
            let given = unsafe { uffd.move_pages(start + offset, src, piece.pages * PAGE_SIZE) };
            let (given, more) = settle(given, piece.pages, |nth| {
                arena.holds(pagemap, piece.slot + nth) == Some(false)
            });
            *uncounted += more;
            given
        })
    }

    /// Pages that the kernel moved and did not count, since the last call.
    pub(super) fn take_uncounted(&mut self) -> u32 {
        std::mem::take(&mut self.uncounted)
    }

    /// Copies the taken frames into fresh guest frames, from the `skip`th on.
    pub(super) fn copy_out(&self, lane: Lane, hva: usize, skip: u32, pages: u32) -> Transfer {
        let uffd = self.registration.uffd(lane);
        let first = hva + skip as usize * PAGE_SIZE;
        run(self.ring.vacant(skip, pages), |offset, piece| {
            uffd.copy(
                first + offset,
                self.arena.start(piece) as usize,
                piece.pages * PAGE_SIZE,
            )
        })
    }

    /// Copies the first `bytes` bytes of each taken frame, or of each page at `mapped`, into the
    /// oldest frames.
    pub(super) fn copy(&self, mapped: Option<usize>, pages: u32, bytes: usize) {
        assert!(bytes <= PAGE_SIZE, "{bytes} bytes of a page");
        if mapped.is_none() && bytes == PAGE_SIZE {
            return self.copy_whole(pages);
        }
        for nth in 0..pages {
            let from = match mapped {
                Some(hva) => (hva + nth as usize * PAGE_SIZE) as *const u8,
                None => self.taken(nth),
            };
            let to = self.one(self.ring.oldest(nth, 1));
            // SAFETY: `to` is a full slot of ours; `from` is one that was just taken, or a mapped
            // guest page that a busted variant reads while the guest may write it.
            unsafe { to.copy_from_nonoverlapping(from, bytes) };
        }
    }

    /// Runs of slots wrap at different places on the two sides: copies go as far as both agree.
    fn copy_whole(&self, pages: u32) {
        let mut done = 0;
        while done < pages {
            let left = pages - done;
            let (Some(to), Some(from)) = (
                self.ring.oldest(done, left).next(),
                self.ring.vacant(done, left).next(),
            ) else {
                return;
            };
            let run = to.pages.min(from.pages);
            let (to, from) = (self.arena.start(to), self.arena.start(from));
            // SAFETY: full slots and slots just taken are distinct, mapped and ours.
            unsafe { to.copy_from_nonoverlapping(from, run * PAGE_SIZE) };
            done += run as u32;
        }
    }

    /// Where the `nth` taken frame is.
    pub(super) fn taken(&self, nth: u32) -> *const u8 {
        self.one(self.ring.vacant(nth, 1))
    }

    fn one(&self, mut pieces: impl Iterator<Item = Piece>) -> *mut u8 {
        self.arena
            .start(pieces.next().expect("one page was asked for"))
    }

    /// The first `pages` taken frames stay: fills those that will be checked.
    pub(super) fn keep(&mut self, pages: u32) {
        let head = self.ring.head();
        for position in self.sample.among(head..head + u64::from(pages)) {
            let frame = self.one(self.ring.vacant((position - head) as u32, 1));
            // SAFETY: this frame was taken from the guest, which has a new one.
            unsafe { pattern::fill(frame, 1) };
        }
        self.ring.push(pages);
    }

    /// Writes a word into the youngest frame, whether or not it will be checked.
    pub(super) fn scribble(&mut self) {
        let word = self.one(self.ring.oldest(self.ring.full() - 1, 1));
        // SAFETY: a full slot of ours, aligned to a page.
        unsafe { word.cast::<u64>().write(u64::from_ne_bytes(*b"busted!!")) };
    }
}

/// Runs one transfer per piece until one falls short.
fn run(
    pieces: impl Iterator<Item = Piece>,
    mut each: impl FnMut(usize, Piece) -> Transfer,
) -> Transfer {
    let mut done = 0;
    for piece in pieces {
        let transfer = each(done, piece);
        done += transfer.done;
        if transfer.errno != 0 {
            return Transfer {
                done,
                errno: transfer.errno,
            };
        }
    }
    Transfer { done, errno: 0 }
}
