//! The floor: the primitives of a migration in a loop, without an engine.

use crate::area::Area;
use crate::uffd::{Uffd, Watch};
use std::io;
use std::sync::Arc;
use underfoot_abi::PAGE_SIZE;

/// One who migrates pages of memory that a userfaultfd watches, with two areas of frames that swap
/// roles: one receives the old frames, the other gives the new ones.
pub struct Bare {
    uffd: Arc<Uffd>,
    /// That which is empty, and that with the frames.
    areas: [Area; 2],
}

impl Bare {
    /// For windows of `batch` pages of memory that `uffd` has registered.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn new(uffd: Arc<Uffd>, batch: usize) -> io::Result<Self> {
        let bytes = batch * PAGE_SIZE;
        let areas = [Area::anywhere(bytes)?, Area::anywhere(bytes)?];
        for area in &areas {
            uffd.register(area.address(), bytes, Watch::Missing)?;
        }
        areas[0].advise(libc::MADV_DONTNEED)?;
        Ok(Self { uffd, areas })
    }

    /// Registers `bytes` of memory from `address` on, for windows of `batch` pages.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn over(address: usize, bytes: usize, batch: usize) -> io::Result<Self> {
        let uffd = Arc::new(Uffd::new()?);
        uffd.register(address, bytes, Watch::Missing)?;
        Self::new(uffd, batch)
    }

    /// Migrates the pages from `address` on, one window.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn migrate(&mut self, address: usize) -> io::Result<()> {
        self.unmap(address)?;
        self.copy_from(self.areas[0].address());
        self.map(address)
    }

    /// Takes the pages from `address` on out.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn unmap(&self, address: usize) -> io::Result<()> {
        let limbo = &self.areas[0];
        self.uffd
            .move_pages(limbo.address(), address, limbo.bytes())
    }

    /// Copies what is at `address` into the new frames.
    pub fn copy_from(&self, address: usize) {
        let staging = &self.areas[1];
        // SAFETY: the area is ours and holds frames; what is at `address` is mapped for as many bytes,
        // elsewhere, and written by nobody meanwhile or compared later.
        unsafe {
            std::ptr::copy_nonoverlapping(address as *const u8, staging.pointer(), staging.bytes());
        }
    }

    /// Whether the new frames hold what was taken out.
    #[must_use]
    pub fn is_copied(&self) -> bool {
        let [limbo, staging] = &self.areas;
        // SAFETY: both areas are ours and hold frames, which nobody writes.
        unsafe {
            libc::memcmp(
                limbo.pointer().cast(),
                staging.pointer().cast(),
                limbo.bytes(),
            ) == 0
        }
    }

    /// Maps the new frames at `address`; the old ones are the next.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn map(&mut self, address: usize) -> io::Result<()> {
        let staging = &self.areas[1];
        self.uffd
            .move_pages(address, staging.address(), staging.bytes())?;
        self.areas.swap(0, 1);
        Ok(())
    }
}
