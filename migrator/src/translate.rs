//! Where a consumer finds guest pages.

use std::ptr::NonNull;
use std::sync::Arc;

use vm_memory::{
    GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion, MemoryRegionAddress,
};

use crate::{Gfn, PAGE_SIZE};

/// Where a consumer of [`Invalidations`](crate::Invalidations) finds guest pages: what it looks up when
/// its own cache does not know.
pub trait Translate: Send + Sync {
    /// The address of the first byte of the page at `gfn`, through which the consumer may read and
    /// write the whole page until it is told to forget it; `None` if there is no such page. Asked
    /// often: it must neither sleep nor allocate.
    fn translate(&self, gfn: Gfn) -> Option<NonNull<u8>>;
}

/// The VMM's own mapping of guest memory. Such translations never go stale: a page in its window is
/// not mapped there, so that whoever touches it waits in userfaultfd.
#[derive(Clone, Debug)]
pub struct OwnMapping(Arc<GuestMemoryMmap>);

impl OwnMapping {
    /// Of `memory`, which stays mapped as long as this lives.
    #[must_use]
    pub const fn new(memory: Arc<GuestMemoryMmap>) -> Self {
        Self(memory)
    }
}

impl Translate for OwnMapping {
    fn translate(&self, gfn: Gfn) -> Option<NonNull<u8>> {
        let gpa = GuestAddress(gfn.0.checked_mul(PAGE_SIZE as u64)?);
        let (region, offset) = self.0.to_region_addr(gpa)?;
        let page = region
            .get_slice(MemoryRegionAddress(offset.0), PAGE_SIZE)
            .ok()?;
        NonNull::new(page.ptr_guard_mut().as_ptr())
    }
}
