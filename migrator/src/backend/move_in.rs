//! Staged frames by `UFFDIO_MOVE`.

use std::io;
use std::sync::Arc;

use super::pool::Pool;
use super::{Backend, Source};
use crate::PageSize;
use crate::arena::ArenaError;
use crate::page_word::Lane;
use crate::registration::Registration;
use crate::uffd::{Transfer, UffdError};

/// A closed loop: an old frame enters at the ring's head, waits its whole length in limbo, and
/// leaves at the tail as a new frame. Each window takes in as many as it gives out, so the empty
/// part keeps its size, a batch, and the pool cannot run out.
pub(crate) struct MoveIn(Pool);

impl MoveIn {
    /// A loop for windows of up to `batch` pages with `limbo` frames in it, one in `stride` of
    /// which is checked before it is used again. With huge pages both are whole numbers of those.
    pub(crate) fn new(
        batch: u32,
        limbo: u32,
        stride: u32,
        size: PageSize,
        registration: Arc<Registration>,
    ) -> Result<Self, ArenaError> {
        let full = limbo.max(batch);
        Pool::new(full + batch, full, stride, size, registration).map(Self)
    }
}

impl Backend for MoveIn {
    fn prepare(&mut self, pages: u32) -> io::Result<u32> {
        Ok(self.0.check_oldest(pages))
    }

    fn protect(&mut self, lane: Lane, hva: usize, pages: u32) -> i32 {
        self.0.registration.protect(lane, hva, pages)
    }

    fn unprotect(&mut self, lane: Lane, hva: usize, pages: u32) -> i32 {
        self.0.registration.unprotect(lane, hva, pages)
    }

    fn unmap(&mut self, hva: usize, pages: u32) -> Transfer {
        self.0.take(hva, pages)
    }

    fn copy(&mut self, source: Source, pages: u32, bytes: usize) {
        self.0.copy(source, pages, bytes);
    }

    fn is_copied(&self, source: Source, pages: u32) -> bool {
        self.0.is_copied(source, pages)
    }

    fn map(&mut self, lane: Lane, hva: usize, skip: u32, pages: u32) -> Transfer {
        self.0.give_oldest(lane, hva, skip, pages)
    }

    fn put_back(&mut self, lane: Lane, hva: usize, skip: u32, pages: u32) -> Transfer {
        self.0.put_back(lane, hva, skip, pages)
    }

    fn commit(&mut self, pages: u32) {
        self.0.keep(pages);
        self.0.ring.pop(pages);
    }

    fn forget(&mut self, pages: u32) -> io::Result<()> {
        self.0.forget(pages)
    }

    fn wake(&mut self, lane: Lane, hva: usize, pages: u32) -> Result<(), UffdError> {
        self.0.registration.wake(lane, hva, pages)
    }

    fn limbo_address(&self, nth: u32) -> usize {
        self.0.taken(nth) as usize
    }

    fn scribble(&mut self) {
        self.0.scribble();
    }

    fn audit(&mut self) -> u32 {
        self.0.check_oldest(self.0.ring.full())
    }

    fn take_uncounted(&mut self) -> u32 {
        self.0.take_uncounted()
    }
}
