//! One page table, by its address.

use crate::mm::poison;
use core::sync::atomic::AtomicU64;
use underfoot_abi::PAGE_SIZE;

use super::state::Half;

/// Entries of a table.
pub const ENTRIES: usize = 256;
/// Bytes of a table: half a page.
pub const TABLE_BYTES: usize = ENTRIES * size_of::<AtomicU64>();

const _: () = assert!(2 * TABLE_BYTES == PAGE_SIZE);

/// A table of [`ENTRIES`] words. Its memory stays readable when it is freed: who still reads it then
/// finds zeroes, poison or another's entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Table {
    address: usize,
}

impl Table {
    /// # Safety
    /// At `address`, a multiple of [`TABLE_BYTES`], lies RAM that is mapped for ever and used as
    /// atomics only.
    pub(super) const unsafe fn new(address: usize) -> Self {
        Self { address }
    }

    /// Where it lies.
    #[must_use]
    pub const fn address(self) -> usize {
        self.address
    }

    /// Its entries.
    #[inline]
    #[must_use]
    pub fn entries(self) -> &'static [AtomicU64] {
        // SAFETY: the promise made to `new`.
        unsafe { poison::words(self.address, TABLE_BYTES) }
    }

    pub(super) const fn page(self) -> usize {
        self.address & !(PAGE_SIZE - 1)
    }

    pub(super) const fn half(self) -> Half {
        if self.address & TABLE_BYTES == 0 {
            Half::First
        } else {
            Half::Second
        }
    }
}
