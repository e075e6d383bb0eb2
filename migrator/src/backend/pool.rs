//! What the two backends share: a ring of frames, checked once each before they are used again.

use std::io;
use std::sync::Arc;

use super::Source;
use super::bytes;
use super::settle::settle;
use crate::arena::{Arena, ArenaError};
use crate::page_word::Lane;
use crate::pagemap::Pagemap;
use crate::pattern;
use crate::registration::Registration;
use crate::ring::{Piece, Ring};
use crate::sample::Sample;
use crate::uffd::Transfer;
use crate::{PAGE_SIZE, PageSize};

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
        size: PageSize,
        registration: Arc<Registration>,
    ) -> Result<Self, ArenaError> {
        Ok(Self {
            arena: Arena::new(slots as usize, full as usize, size)?,
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
        let uffd = registration.uffd(lane, start);
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
        let first = hva + skip as usize * PAGE_SIZE;
        let uffd = self.registration.uffd(lane, first);
        run(self.ring.vacant(skip, pages), |offset, piece| {
            uffd.copy(
                first + offset,
                self.arena.start(piece) as usize,
                piece.pages * PAGE_SIZE,
            )
        })
    }

    /// Copies the first `bytes` bytes of each page at `source` into the oldest frames.
    pub(super) fn copy(&self, source: Source, pages: u32, bytes: usize) {
        assert!(bytes <= PAGE_SIZE, "{bytes} bytes of a page");
        for run in self.runs(source, pages) {
            let whole = run.pages * PAGE_SIZE;
            let (step, len) = match bytes {
                PAGE_SIZE => (whole, whole),
                _ => (PAGE_SIZE, bytes),
            };
            for page in (0..whole).step_by(step) {
                // SAFETY: `to` are full slots of ours, `from` slots that were just taken or guest
                // pages, which are there and which the guest may write; all are mapped.
                unsafe { bytes::copy(run.to.add(page), run.from.add(page), len) };
            }
        }
    }

    /// Whether the oldest frames hold what is at `source`.
    pub(super) fn is_copied(&self, source: Source, pages: u32) -> bool {
        self.runs(source, pages).all(|run| {
            // SAFETY: as in `copy`.
            unsafe { bytes::are_equal(run.to, run.from, run.pages * PAGE_SIZE) }
        })
    }

    /// Where to copy from and to: runs of slots wrap at different places on the two sides, and each
    /// goes as far as both agree.
    fn runs(&self, source: Source, pages: u32) -> impl Iterator<Item = Run> {
        let mut done = 0;
        std::iter::from_fn(move || {
            let left = pages - done;
            let to = self.ring.oldest(done, left).next()?;
            let (from, pages) = match source {
                Source::Limbo => {
                    let from = self.ring.vacant(done, left).next()?;
                    (
                        self.arena.start(from).cast_const(),
                        to.pages.min(from.pages),
                    )
                }
                Source::Mapped(hva) => ((hva + done as usize * PAGE_SIZE) as *const u8, to.pages),
            };
            done += pages as u32;
            Some(Run {
                to: self.arena.start(to),
                from,
                pages,
            })
        })
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

    /// Gives what is left of the first `pages` taken frames to the kernel.
    pub(super) fn forget(&mut self, pages: u32) -> io::Result<()> {
        for piece in self.ring.vacant(0, pages) {
            // SAFETY: the guest has other frames, or had these moved back.
            unsafe { self.arena.discard(piece)? };
        }
        Ok(())
    }

    /// Writes a word into the youngest frame, whether or not it will be checked.
    pub(super) fn scribble(&mut self) {
        let word = self.one(self.ring.oldest(self.ring.full() - 1, 1));
        // SAFETY: a full slot of ours, aligned to a page.
        unsafe { word.cast::<u64>().write(u64::from_ne_bytes(*b"busted!!")) };
    }
}

/// Pages to copy that are contiguous on both sides.
struct Run {
    to: *mut u8,
    from: *const u8,
    pages: usize,
}

/// Runs one transfer per piece until one falls short.
pub(super) fn run(
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
