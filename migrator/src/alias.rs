//! Guest memory of a file, and a second mapping of that file: what guest pages lie where.
//!
//! Each guest page has a *place*, a page of the file. The places of all pages are different, and
//! beyond those that the guest began with the file has more, for frames that wait.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use vm_memory::{GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion};

use crate::PAGE_SIZE;
use crate::arena::ArenaError;
use crate::lock_order::{Class, Ordered};
use crate::places::Places;
use crate::regions::{RegionError, Regions};
use crate::sync::{AtomicU32, Ordering};

/// Pages that the file can be made longer by: address space is set aside for them, no memory.
const MOST_FRAMES: usize = 1 << 21;

/// The file of guest memory, mapped once more as a whole.
pub(crate) struct Alias {
    base: *mut u8,
    /// Pages that are set aside.
    reserved: usize,
    file: Arc<File>,
    /// Pages of the file.
    pages: Ordered<usize>,
    /// The place of each guest page, by its number.
    places: Box<[AtomicU32]>,
}

// SAFETY: the mapping is owned by this value alone and bound to no thread; what is in it is reached
// by raw pointers, whose users see to who else is there.
unsafe impl Send for Alias {}
// SAFETY: as above; shared methods change atomics and a mutex only.
unsafe impl Sync for Alias {}

impl Alias {
    /// Maps the file that all of `memory` lies in.
    pub(crate) fn new(memory: &GuestMemoryMmap, regions: &Regions) -> Result<Self, RegionError> {
        let mut file: Option<Arc<File>> = None;
        for region in memory.iter() {
            let gpa = region.start_addr().0;
            let offset = region.file_offset().ok_or(RegionError::NotShared { gpa })?;
            if file
                .as_ref()
                .is_some_and(|file| !Arc::ptr_eq(file, offset.arc()))
                || !offset.start().is_multiple_of(PAGE_SIZE as u64)
            {
                return Err(RegionError::NotShared { gpa });
            }
            file.get_or_insert_with(|| Arc::clone(offset.arc()));
        }
        let file = file.ok_or(RegionError::Size { pages: 0 })?;
        let failed = |source| RegionError::Alias { source };
        let places = places(&file, regions).map_err(failed)?;
        let length = file.metadata().map_err(failed)?.len() as usize;
        let pages = length.div_ceil(PAGE_SIZE);
        let reserved = pages + MOST_FRAMES;
        // SAFETY: a new mapping at an address of the kernel's choice, of a file that guest memory
        // lies in.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                reserved * PAGE_SIZE,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_NORESERVE,
                file.as_raw_fd(),
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(failed(io::Error::last_os_error()));
        }
        Ok(Self {
            base: base.cast(),
            reserved,
            file,
            pages: Ordered::new(Class::Alias, pages),
            places,
        })
    }

    /// Makes the file longer by `frames` pages, and gives them frames; the first of them.
    pub(crate) fn grow(&self, frames: usize) -> Result<u32, ArenaError> {
        let mut pages = self.pages.lock();
        let first = *pages;
        let bytes = frames * PAGE_SIZE;
        let failed = |call, source| ArenaError::Memory {
            bytes,
            call,
            source,
        };
        if first + frames > self.reserved {
            let source = io::Error::from_raw_os_error(libc::ENOMEM);
            return Err(failed("growing the file of guest memory", source));
        }
        self.file
            .set_len(((first + frames) * PAGE_SIZE) as u64)
            .map_err(|source| failed("ftruncate", source))?;
        // SAFETY: within the mapping, and of the file by now; the advice keeps contents.
        let result = unsafe {
            libc::madvise(
                self.at(first as u32).cast(),
                bytes,
                libc::MADV_POPULATE_WRITE,
            )
        };
        if result != 0 {
            let source = io::Error::last_os_error();
            return Err(failed("madvise(MADV_POPULATE_WRITE)", source));
        }
        *pages += frames;
        Ok(first as u32)
    }

    /// Gives the frame of a place back to the kernel: the next write there has another one allocated.
    ///
    /// # Safety
    /// Nobody needs what is in it, and no guest page lies there.
    pub(crate) unsafe fn punch(&self, place: u32) -> io::Result<()> {
        let offset = place as libc::off_t * PAGE_SIZE as libc::off_t;
        let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
        // SAFETY: a part of the file that the caller vouches for.
        let result = unsafe {
            libc::fallocate(
                self.file.as_raw_fd(),
                mode,
                offset,
                PAGE_SIZE as libc::off_t,
            )
        };
        if result == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    }

    /// Where a place is mapped here.
    pub(crate) fn at(&self, place: u32) -> *mut u8 {
        assert!((place as usize) < self.reserved, "place {place}");
        // SAFETY: within the mapping, by the assertion.
        unsafe { self.base.add(place as usize * PAGE_SIZE) }
    }

    /// The place of a guest page.
    pub(crate) fn place(&self, page: u32) -> u32 {
        // Acquire pairs with the release in `flip`: what was copied there is there.
        self.places[page as usize].load(Ordering::Acquire)
    }

    /// Maps `pages` places from `place` on over the guest pages at `hva`, the first of which is
    /// number `page`. Returns 0 or the errno, and then nothing has changed.
    ///
    /// # Safety
    /// The guest pages at `hva` are the caller's to change, and nobody has a reference into them.
    pub(crate) unsafe fn flip(&self, hva: usize, page: u32, place: u32, pages: u32) -> i32 {
        // SAFETY: replaces a part of the mapping of guest memory by one of the same length, of the
        // same file; the caller vouches for the rest.
        let mapped = unsafe {
            libc::mmap(
                hva as *mut libc::c_void,
                pages as usize * PAGE_SIZE,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_NORESERVE | libc::MAP_FIXED,
                self.file.as_raw_fd(),
                place as libc::off_t * PAGE_SIZE as libc::off_t,
            )
        };
        if mapped == libc::MAP_FAILED {
            return io::Error::last_os_error()
                .raw_os_error()
                .unwrap_or(libc::EIO);
        }
        for nth in 0..pages {
            self.places[(page + nth) as usize].store(place + nth, Ordering::Release);
        }
        0
    }
}

/// The place of each guest page now.
fn places(file: &File, regions: &Regions) -> io::Result<Box<[AtomicU32]>> {
    let places = Places::of(file)?;
    let pages = regions.iter().flat_map(|region| {
        let hvas = (region.first..region.end()).map(|page| region.hva(page));
        hvas.map(|hva| places.at(hva).map(AtomicU32::new))
    });
    let unmapped = || io::Error::other("guest pages are mapped elsewhere");
    pages.collect::<Option<_>>().ok_or_else(unmapped)
}

impl Drop for Alias {
    fn drop(&mut self) {
        // SAFETY: this is the mapping that `new` made, and whoever had addresses in it held this.
        let result = unsafe { libc::munmap(self.base.cast(), self.reserved * PAGE_SIZE) };
        debug_assert_eq!(result, 0, "munmap of an own mapping");
    }
}
