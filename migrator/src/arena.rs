//! The memory in which frames stay that belong to no guest page: limbo and staging.

use std::io;

use crate::huge::HugePages;
use crate::pagemap::Pagemap;
use crate::pattern;
use crate::ring::Piece;
use crate::uffd::{Transfer, UffdError, Userfaultfd, Waiting, Watch};
use crate::{PAGE_SIZE, PageSize};

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
    /// The kernel gave small pages.
    #[error(
        "the kernel gives no transparent huge pages for the frame pool; free some memory, or allow them \
         in /sys/kernel/mm/transparent_hugepage/enabled"
    )]
    NoHugePages,
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
    /// The whole mapping: its first slots may begin later, at a multiple of their page size.
    mapping: (*mut u8, usize),
    uffd: Userfaultfd,
}

// SAFETY: the mapping is owned by this value alone and bound to no thread.
unsafe impl Send for Arena {}

// SAFETY: what takes a shared reference computes addresses or calls the kernel, which does each for itself; who may
// touch a slot's contents is for the owners of the slots to agree on.
unsafe impl Sync for Arena {}

impl Arena {
    /// An arena of `slots` slots, the first `full` of which hold a frame filled with the pattern. With
    /// huge pages, both are multiples of a huge page's slots, whose frames are one huge page.
    pub(crate) fn new(slots: usize, full: usize, size: PageSize) -> Result<Self, ArenaError> {
        Self::placed(slots, full, size, |_, _| Ok(()))
    }

    /// The same, once `place` has said where frames of so many bytes at an address are to lie.
    pub(crate) fn placed<E: From<ArenaError>>(
        slots: usize,
        full: usize,
        size: PageSize,
        place: impl FnOnce(*mut u8, usize) -> Result<(), E>,
    ) -> Result<Self, E> {
        assert!(full <= slots, "{full} frames in {slots} slots");
        let uffd = Userfaultfd::new(Waiting::Signal).map_err(ArenaError::from)?;
        let bytes = slots * PAGE_SIZE;
        // Room to begin at a multiple of the page size.
        let mapped = bytes + size.bytes() - PAGE_SIZE;
        let failed = |call| ArenaError::Memory {
            bytes,
            call,
            source: io::Error::last_os_error(),
        };
        // SAFETY: a new anonymous mapping at an address of the kernel's choice.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                mapped,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(failed("mmap").into());
        }
        let mapping = (base.cast::<u8>(), mapped);
        let skip = mapping.0.align_offset(size.bytes());
        // SAFETY: at most the room that was added for it.
        let base = unsafe { mapping.0.add(skip) };
        let arena = Self {
            base,
            slots,
            mapping,
            uffd,
        };
        place(base, bytes)?;
        // A child made by fork would share the frames, and shared frames cannot be moved.
        for (advice, bytes, name) in [
            match size {
                PageSize::Small => (libc::MADV_NOHUGEPAGE, bytes, "madvise(MADV_NOHUGEPAGE)"),
                PageSize::Huge => (libc::MADV_HUGEPAGE, bytes, "madvise(MADV_HUGEPAGE)"),
            },
            (libc::MADV_DONTFORK, bytes, "madvise(MADV_DONTFORK)"),
            (
                libc::MADV_POPULATE_WRITE,
                full * PAGE_SIZE,
                "madvise(MADV_POPULATE_WRITE)",
            ),
        ] {
            // SAFETY: the range lies in the mapping just made; the advice keeps its contents.
            let result = unsafe { libc::madvise(base.cast(), bytes, advice) };
            // A kernel without huge pages refuses the first, and has nothing to turn off.
            if result != 0 && advice != libc::MADV_NOHUGEPAGE {
                return Err(failed(name).into());
            }
        }
        if size == PageSize::Huge {
            arena.check_huge(full)?;
        }
        // SAFETY: these slots were populated above and are ours.
        unsafe { pattern::fill(arena.base, full) };
        arena
            .uffd
            .register(arena.base as usize, bytes, Watch::Missing)
            .map_err(ArenaError::from)?;
        Ok(arena)
    }

    /// Checks that the first `full` slots lie in huge pages.
    fn check_huge(&self, full: usize) -> Result<(), ArenaError> {
        let pages = HugePages::open().map_err(ArenaError::Pagemap)?;
        for slot in (0..full).step_by(PageSize::Huge.pages() as usize) {
            let address = self.address(slot) as usize;
            if !pages.is_huge(address).map_err(ArenaError::Pagemap)? {
                return Err(ArenaError::NoHugePages);
            }
        }
        Ok(())
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

    /// Gives an empty slot a fresh frame with what is at `source`.
    pub(crate) fn fill_empty(&self, slot: usize, source: usize) -> Transfer {
        self.uffd
            .copy(self.address(slot) as usize, source, PAGE_SIZE)
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
        let result = unsafe { libc::munmap(self.mapping.0.cast(), self.mapping.1) };
        debug_assert_eq!(result, 0, "munmap of an own mapping");
    }
}
