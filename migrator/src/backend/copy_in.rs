//! Fresh frames by `UFFDIO_COPY`.

use std::io;
use std::sync::Arc;

use super::pool::Pool;
use super::{Backend, Source};
use crate::PageSize;
use crate::arena::ArenaError;
use crate::page_word::Lane;
use crate::registration::Registration;
use crate::uffd::{Transfer, UffdError};

/// Old frames gather in the ring; once there is no room for another window, the older half goes
/// back to the kernel.
pub(crate) struct CopyIn(Pool);

impl CopyIn {
    /// A ring for windows of up to `batch` pages that holds at least `limbo` frames when full, one
    /// in `stride` of which is checked before it goes.
    pub(crate) fn new(
        batch: u32,
        limbo: u32,
        stride: u32,
        registration: Arc<Registration>,
    ) -> Result<Self, ArenaError> {
        Pool::new(
            limbo.max(batch) + batch,
            0,
            stride,
            PageSize::Small,
            registration,
        )
        .map(Self)
    }
}

impl Backend for CopyIn {
    fn prepare(&mut self, pages: u32) -> io::Result<u32> {
        if self.0.ring.empty() >= pages {
            return Ok(0);
        }
        let oldest = self
            .0
            .ring
            .full()
            .div_ceil(2)
            .max(pages - self.0.ring.empty());
        let stale = self.0.check_oldest(oldest);
        self.0.discard_oldest(oldest)?;
        Ok(stale)
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

    /// Nothing: the call that maps copies as well.
    fn copy(&mut self, _: Source, _: u32, _: usize) {}

    /// There is no copy to compare: the table refuses who would.
    fn is_copied(&self, _: Source, _: u32) -> bool {
        false
    }

    fn map(&mut self, lane: Lane, hva: usize, skip: u32, pages: u32) -> Transfer {
        self.0.copy_out(lane, hva, skip, pages)
    }

    fn put_back(&mut self, lane: Lane, hva: usize, skip: u32, pages: u32) -> Transfer {
        self.0.put_back(lane, hva, skip, pages)
    }

    fn commit(&mut self, pages: u32) {
        self.0.keep(pages);
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
