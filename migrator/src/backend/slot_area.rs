//! Memory as large as a slot, whose frames change places with the slot's.

use std::io;

use crate::PAGE_SIZE;
use crate::arena::ArenaError;

/// A private anonymous mapping of small pages.
pub(super) struct SlotArea {
    base: *mut libc::c_void,
    bytes: usize,
}

// SAFETY: the mapping is owned by this value alone and bound to no thread.
unsafe impl Send for SlotArea {}

impl SlotArea {
    /// One of `pages` pages, with frames if it is to be `filled`.
    pub(super) fn new(pages: u32, filled: bool) -> Result<Self, ArenaError> {
        let bytes = pages as usize * PAGE_SIZE;
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
        let area = Self { base, bytes };
        // SAFETY: advice on the mapping just made. A kernel without huge pages refuses, and has none to turn off.
        unsafe { libc::madvise(base, bytes, libc::MADV_NOHUGEPAGE) };
        // SAFETY: as above.
        if filled && unsafe { libc::madvise(base, bytes, libc::MADV_POPULATE_WRITE) } != 0 {
            return Err(failed("madvise(MADV_POPULATE_WRITE)"));
        }
        Ok(area)
    }

    pub(super) fn address(&self) -> *mut u8 {
        self.base.cast()
    }

    /// Takes the frames of `pages` pages at `hva`, whose mapping stays, empty; 0 or the errno.
    ///
    /// # Safety
    /// The pages are guest memory, which is reached by raw pointers alone; who touches them meanwhile waits.
    pub(super) unsafe fn take(&self, hva: usize, pages: u32) -> i32 {
        // SAFETY: the area is ours, and the rest is the caller's duty.
        unsafe { self.exchange(hva as *mut libc::c_void, self.base, pages) }
    }

    /// Gives its frames to `pages` pages at `hva`, in place of whatever is mapped there; 0 or the errno. The area's mapping
    /// stays, empty.
    ///
    /// # Safety
    /// As for [`take`](Self::take), and nobody needs what is at `hva`.
    pub(super) unsafe fn give(&self, hva: usize, pages: u32) -> i32 {
        // SAFETY: as above.
        unsafe { self.exchange(self.base, hva as *mut libc::c_void, pages) }
    }

    /// # Safety
    /// As for [`give`](Self::give).
    unsafe fn exchange(&self, from: *mut libc::c_void, to: *mut libc::c_void, pages: u32) -> i32 {
        let bytes = pages as usize * PAGE_SIZE;
        assert!(
            bytes <= self.bytes,
            "{bytes} bytes in an area of {}",
            self.bytes
        );
        let how = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED | libc::MREMAP_DONTUNMAP;
        // SAFETY: the caller's duty. A call that fails late has unmapped what was at `to` and left `from` as it was; it is
        // repeated, or undone, by one that maps something there.
        let moved = unsafe { libc::mremap(from, bytes, bytes, how, to) };
        match moved {
            libc::MAP_FAILED => io::Error::last_os_error()
                .raw_os_error()
                .unwrap_or(libc::EIO),
            _ => 0,
        }
    }
}

impl Drop for SlotArea {
    fn drop(&mut self) {
        // SAFETY: the mapping that `new` made, or what took its place; nobody has a reference into it.
        let result = unsafe { libc::munmap(self.base, self.bytes) };
        debug_assert_eq!(result, 0, "munmap of an own mapping");
    }
}
