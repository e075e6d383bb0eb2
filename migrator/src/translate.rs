//! Where a consumer finds guest pages.

use std::ptr::NonNull;
use std::sync::Arc;

use vm_memory::{
    GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion, MemoryRegionAddress,
};

use crate::alias::Alias;
use crate::regions::Regions;
use crate::{Gfn, PAGE_SIZE, PageRange};

/// Where a consumer of [`Invalidations`](crate::Invalidations) finds guest pages: what it looks up when
/// its own cache does not know.
pub trait Translate: Send + Sync {
    /// The address of the first byte of the page at `gfn`, through which the consumer may read and
    /// write the whole page until it is told to forget it; `None` if there is no such page. Asked
    /// often: it must neither sleep nor allocate.
    fn translate(&self, gfn: Gfn) -> Option<NonNull<u8>>;
}

/// The VMM's own mapping of guest memory. Such translations never go stale: a page in its window is
/// not mapped there, so that whoever touches it waits in userfaultfd. Pages whose window sends a signal
/// instead ([`Migrator::signals`](crate::Migrator::signals)) have no translation here.
#[derive(Clone, Debug)]
pub(crate) struct OwnMapping {
    memory: Arc<GuestMemoryMmap>,
    /// In rising order, apart from each other.
    signalling: Arc<[PageRange]>,
}

impl OwnMapping {
    /// Of `memory`, which stays mapped as long as this lives, and of which `signalling` are the pages
    /// that send signals, in rising order.
    pub(crate) fn new(
        memory: Arc<GuestMemoryMmap>,
        signalling: impl IntoIterator<Item = Gfn>,
    ) -> Self {
        let mut runs: Vec<PageRange> = Vec::new();
        for gfn in signalling {
            match runs.last_mut() {
                Some(run) if run.end() == gfn => run.pages += 1,
                _ => runs.push(PageRange::new(gfn, 1)),
            }
        }
        Self {
            memory,
            signalling: runs.into(),
        }
    }

    fn signals(&self, gfn: Gfn) -> bool {
        let after = self.signalling.partition_point(|run| run.start <= gfn);
        after > 0 && self.signalling[after - 1].contains(gfn)
    }
}

impl Translate for OwnMapping {
    fn translate(&self, gfn: Gfn) -> Option<NonNull<u8>> {
        if self.signals(gfn) {
            return None;
        }
        let gpa = GuestAddress(gfn.0.checked_mul(PAGE_SIZE as u64)?);
        let (region, offset) = self.memory.to_region_addr(gpa)?;
        let page = region
            .get_slice(MemoryRegionAddress(offset.0), PAGE_SIZE)
            .ok()?;
        NonNull::new(page.ptr_guard_mut().as_ptr())
    }
}

/// A second mapping of the file that guest memory lies in. A page that is remapped is another page of
/// it afterwards: who goes on with the old translation reads old data, and its writes are lost.
pub(crate) struct SecondMapping {
    alias: Arc<Alias>,
    regions: Regions,
}

impl SecondMapping {
    pub(crate) fn new(alias: Arc<Alias>, regions: Regions) -> Self {
        Self { alias, regions }
    }
}

impl Translate for SecondMapping {
    fn translate(&self, gfn: Gfn) -> Option<NonNull<u8>> {
        let page = self.regions.by_gfn(gfn)?;
        NonNull::new(self.alias.at(self.alias.place(page)))
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn pages_have_addresses_but_for_those_that_signal() {
        let ranges = [(GuestAddress(0), 0x3000), (GuestAddress(0x10000), 0x2000)];
        let memory = GuestMemoryMmap::from_ranges(&ranges).expect("memory");
        let signalling = [1, 2, 16].map(Gfn);
        let own = OwnMapping::new(Arc::new(memory.clone()), signalling);
        for gfn in [0, 17] {
            let right = memory.get_host_address(GuestAddress(Gfn(gfn).gpa()));
            let found = own.translate(Gfn(gfn)).map(NonNull::as_ptr);
            assert_eq!(found, right.ok(), "{gfn}");
        }
        for gfn in [1, 2, 3, 15, 16, 18, 1 << 52, u64::MAX] {
            assert_eq!(own.translate(Gfn(gfn)), None, "{gfn}");
        }
    }
}
