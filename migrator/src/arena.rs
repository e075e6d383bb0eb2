//! The memory in which frames stay that belong to no guest page: limbo and staging.

use std::io;

use crate::PAGE_SIZE;
use crate::pagemap::Pagemap;
use crate::pattern;
use crate::ring::Piece;
use crate::uffd::{Transfer, UffdError, Userfaultfd, Waiting, Watch};

/// Why the frame pool could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArenaError {
    /// No address space or no memory.
    #[error("cannot set {bytes} bytes aside for the frame pool by {call}")]
    Memory {
        /// How much.
        bytes: usize,
        /// The call that failed.
        call: &'static str,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// /proc/self/pagemap, which says which slots hold a frame.
    #[error("cannot open /proc/self/pagemap")]
    Pagemap(#[source] io::Error),
    /// The pool's own userfaultfd.
    #[error("the frame pool needs a userfaultfd of its own")]
    Uffd(#[from] UffdError),
}

/// Slots of one page each in private anonymous memory. Full slots are mapped, empty ones are not:
/// those are registered with a userfaultfd, so that frames can be moved into them.
///
/// That userfaultfd signals: a touch of an empty slot, which would be a bug, ends the process
/// instead of hanging it.
pub(crate) struct Arena {
    base: *mut u8,
    slots: usize,
    uffd: Userfaultfd,
}

// SAFETY: the mapping is owned by this value alone and bound to no thread.
unsafe impl Send for Arena {}

impl Arena {
    /// An arena of `slots` slots, the first `full` of which hold a frame filled with the pattern.
    pub(crate) fn new(slots: usize, full: usize) -> Result<Self, ArenaError> {
        assert!(full <= slots, "{full} frames in {slots} slots");
        let uffd = Userfaultfd::new(Waiting::Signal)?;
        let bytes = slots * PAGE_SIZE;
        let failed = |call| ArenaError::Memory {
            bytes,
            call,
            source: io::Error::last_os_error(),
        };
        // SAFETY: a new anonymous mapping at an address of the kernel's choice.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(failed("mmap"));
        }
        let arena = Self {
            base: base.cast(),
            slots,
            uffd,
        };
        // A child made by fork would share the frames, and shared frames cannot be moved.
        for (advice, bytes, name) in [
            (libc::MADV_NOHUGEPAGE, bytes, "madvise(MADV_NOHUGEPAGE)"),
            (libc::MADV_DONTFORK, bytes, "madvise(MADV_DONTFORK)"),
            (
                libc::MADV_POPULATE_WRITE,
                full * PAGE_SIZE,
                "madvise(MADV_POPULATE_WRITE)",
            ),
        ] {
            // SAFETY: the range lies in the mapping just made; the advice keeps its contents.
            let result = unsafe { libc::madvise(base, bytes, advice) };
            // A kernel without huge pages refuses the first, and has nothing to turn off.
            if result != 0 && advice != libc::MADV_NOHUGEPAGE {
                return Err(failed(name));
            }
        }
        // SAFETY: these slots were populated above and are ours.
        unsafe { pattern::fill(arena.base, full) };
        arena
            .uffd
            .register(arena.base as usize, bytes, Watch::Missing)?;
        Ok(arena)
    }

    /// The address of a slot.
    pub(crate) fn address(&self, slot: usize) -> *mut u8 {
        assert!(slot < self.slots, "slot {slot} of {}", self.slots);
        // SAFETY: within the mapping, by the assertion.
        unsafe { self.base.add(slot * PAGE_SIZE) }
    }

    /// Where a run of slots begins.
    pub(crate) fn start(&self, piece: Piece) -> *mut u8 {
        assert!(
            piece.slot + piece.pages <= self.slots,
            "{piece:?} in {} slots",
            self.slots
        );
        self.address(piece.slot)
    }

    /// Moves the frames at `src` into empty slots.
    ///
    /// # Safety
    /// As for [`Userfaultfd::move_pages`].
    pub(crate) unsafe fn take(&self, piece: Piece, src: usize) -> Transfer {
        let dst = self.start(piece) as usize;
        // SAFETY: the caller's duty.
        unsafe { self.uffd.move_pages(dst, src, piece.pages * PAGE_SIZE) }
    }

    /// Whether a slot holds a frame; `None` if the kernel does not say.
    pub(crate) fn holds(&self, pagemap: &mut Pagemap, slot: usize) -> Option<bool> {
        let entry = pagemap.one(self.address(slot) as usize).ok()?;
        Some(!entry.is_hole())
    }

    /// Gives the frames of full slots back to the kernel, and leaves the slots empty.
    ///
    /// # Safety
    /// Nobody may use the slots' contents any more.
    pub(crate) unsafe fn discard(&self, piece: Piece) -> io::Result<()> {
        let start = self.start(piece);
        // SAFETY: the range is ours, and by the caller's word nobody needs it.
        let result =
            unsafe { libc::madvise(start.cast(), piece.pages * PAGE_SIZE, libc::MADV_DONTNEED) };
        if result == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        // SAFETY: this is the mapping that `new` made, and nobody has a reference into it.
        let result = unsafe { libc::munmap(self.base.cast(), self.slots * PAGE_SIZE) };
        debug_assert_eq!(result, 0, "munmap of an own mapping");
    }
}
