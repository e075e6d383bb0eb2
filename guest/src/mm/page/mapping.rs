//! The reverse map: from a page to the entry that maps it.

use super::PageAllocator;
use underfoot_abi::PAGE_SIZE;

/// Which entry maps a page: what Linux keeps in `page->mapping` and `page->index`. As a page has one
/// entry at most, it needs no more (Documentation/mm/process_addrs.rst, "rmap").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// The space, as its owner numbers them.
    pub space: u32,
    /// The number of the page in the space: address / 4,096.
    pub number: u32,
}

/// The record of a page is written with the lock of the page table held that the entry is in, and read
/// without: who read it takes that lock, and looks whether the entry does map the page.
impl PageAllocator {
    /// The entry that maps the page at `address`, as of some moment; `None` of a page that is not
    /// mapped, or not among the frames.
    #[must_use]
    pub fn mapping(&self, address: usize) -> Option<Mapping> {
        let index = address.wrapping_sub(self.base) / PAGE_SIZE;
        self.frames.get(index)?.mapping()
    }

    /// Notes which entry maps the page at `address`, allocated by itself. To free it while it is
    /// mapped is an integrity error.
    ///
    /// # Panics
    /// If the page is not among the frames.
    pub fn set_mapping(&self, address: usize, mapping: Mapping) {
        self.frames[self.index(address)].set_mapping(mapping);
    }

    /// Notes that no entry maps the page at `address` any more.
    ///
    /// # Panics
    /// If the page is not among the frames.
    pub fn clear_mapping(&self, address: usize) {
        self.frames[self.index(address)].clear_mapping();
    }
}
