//! What the two backends share: a ring of frames, checked once each before they are used again.

use std::io;
use std::sync::Arc;

use super::sample::Sample;
use crate::PAGE_SIZE;
use crate::arena::{Arena, ArenaError};
use crate::page_word::Lane;
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
    pub(super) fn take(&self, hva: usize, pages: u32) -> Transfer {
        // SAFETY: the caller claimed these guest pages; whoever touches them waits or is told, as
        // they are registered, until they are mapped again.
        run(self.ring.vacant(0, pages), |offset, piece| unsafe {
            self.arena.take(piece, hva + offset)
        })
    }

    /// Moves the frames of `pieces` to the guest.
    pub(super) fn give(
        &self,
        pieces: impl Iterator<Item = Piece>,
        lane: Lane,
        hva: usize,
    ) -> Transfer {
        let uffd = self.registration.uffd(lane);
        // SAFETY: the slots are ours, and the ring will not name them as full again.
        run(pieces, |offset, piece| unsafe {
            uffd.move_pages(
                hva + offset,
                self.arena.start(piece) as usize,
                piece.pages * PAGE_SIZE,
            )
        })
    }

    /// Moves the taken frames back, from the `skip`th on.
    pub(super) fn put_back(&self, lane: Lane, hva: usize, skip: u32, pages: u32) -> Transfer {
        self.give(
            self.ring.vacant(skip, pages),
            lane,
            hva + skip as usize * PAGE_SIZE,
        )
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
