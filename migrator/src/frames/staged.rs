//! One frame for one fault.

use super::FrameUser;
use super::pool::FramePool;
use crate::PAGE_SIZE;
use crate::uffd::Userfaultfd;

/// A frame that was taken for a fault. Dropped unmapped, it goes back to the pool.
pub(crate) struct StagedFrame<'a> {
    pool: &'a FramePool,
    slot: u32,
    mapped: bool,
}

impl<'a> StagedFrame<'a> {
    /// Takes one, if there is any.
    pub(crate) fn take(pool: &'a FramePool) -> Option<Self> {
        let mut taken = None;
        pool.take(FrameUser::Fault, 1, |slot| taken = Some(slot));
        taken.map(|slot| Self {
            pool,
            slot,
            mapped: false,
        })
    }

    /// Fills it with the page at `source`.
    ///
    /// # Safety
    /// A page is mapped there, and nobody writes it.
    pub(crate) unsafe fn fill(&mut self, source: *const u8) {
        // SAFETY: the slot is ours and holds a frame; the source is the caller's word.
        unsafe { std::ptr::copy_nonoverlapping(source, self.pool.address(self.slot), PAGE_SIZE) };
    }

    /// Maps it at a page of the guest that is missing, and wakes who waits there; 0 or the errno.
    pub(crate) fn map(&mut self, uffd: &Userfaultfd, hva: usize) -> i32 {
        let source = self.pool.address(self.slot) as usize;
        // SAFETY: the slot is ours.
        let errno = unsafe { uffd.move_pages(hva, source, PAGE_SIZE) }.errno;
        // The kernel may say that it is there because it has just put it there.
        let doubtful = matches!(errno, libc::EEXIST | libc::EAGAIN);
        self.mapped = errno == 0 || doubtful && self.pool.holds(self.slot) == Some(false);
        if self.mapped { 0 } else { errno }
    }
}

impl Drop for StagedFrame<'_> {
    fn drop(&mut self) {
        if self.mapped {
            self.pool.account(-1);
            self.pool.give_empty(&[self.slot]);
        } else {
            self.pool.give_free(&[self.slot]);
        }
    }
}
