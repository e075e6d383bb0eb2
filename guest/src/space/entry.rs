//! One word of a table.

use crate::random::mix;
use underfoot_abi::PAGE_SIZE;

const PRESENT: u64 = 1;
const WRITABLE: u64 = 2;
const TABLE: u64 = 4;
const ADDRESS: u64 = 0x0000_ffff_ffff_f800;
const TAG: u64 = 0xffff << 48;

/// What an entry says. Its upper 16 bits are a check: a tag of whose table or page it leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry(pub(super) u64);

impl Entry {
    /// Leads to a table of the space `id`.
    pub(super) const fn table(address: usize, id: u64) -> Self {
        Self(address as u64 | PRESENT | TABLE | mix(id) & TAG)
    }

    /// Maps a page with this identity.
    pub(super) const fn page(address: usize, identity: u64, writable: bool) -> Self {
        let writable = if writable { WRITABLE } else { 0 };
        Self(address as u64 | PRESENT | writable | mix(identity) & TAG)
    }

    pub(super) const fn is_none(self) -> bool {
        self.0 == 0
    }

    /// Whether it is what [`Self::table`] makes for this space.
    pub(super) const fn leads_to_table_of(self, id: u64) -> bool {
        self.0 & (PRESENT | WRITABLE | TABLE | TAG) == PRESENT | TABLE | mix(id) & TAG
    }

    /// Whether it maps a page with this identity.
    pub(super) const fn maps(self, identity: u64) -> bool {
        self.0 & (PRESENT | TABLE | TAG) == PRESENT | mix(identity) & TAG
    }

    pub(super) const fn is_page(self) -> bool {
        self.0 & (PRESENT | TABLE) == PRESENT
    }

    pub(super) const fn is_writable(self) -> bool {
        self.0 & WRITABLE != 0
    }

    pub(super) const fn with_writable(self, writable: bool) -> Self {
        Self(self.0 & !WRITABLE | if writable { WRITABLE } else { 0 })
    }

    pub(super) const fn address(self) -> usize {
        (self.0 & ADDRESS) as usize
    }
}

/// Levels of tables; that of leaf tables is 0.
pub(super) const LEVELS: usize = 4;

const BITS: usize = crate::mm::fragment::ENTRIES.ilog2() as usize;

/// Where address spaces end.
pub const END: usize = table_span(LEVELS - 1);

/// Bytes that one entry of a table of `level` covers.
pub(super) const fn entry_span(level: usize) -> usize {
    PAGE_SIZE << (BITS * level)
}

/// Bytes that a table of `level` covers.
pub(super) const fn table_span(level: usize) -> usize {
    entry_span(level + 1)
}

/// Which entry of a table of `level` is for `address`.
pub(super) const fn index(address: usize, level: usize) -> usize {
    (address / entry_span(level)) % crate::mm::fragment::ENTRIES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_keep_what_they_are_given() {
        let table = Entry::table(0x12_3800, 7);
        assert!(table.leads_to_table_of(7) && !table.leads_to_table_of(8) && !table.is_page());
        assert_eq!(table.address(), 0x12_3800);
        let page = Entry::page(0x45_6000, 9, true);
        assert!(page.is_page() && page.maps(9) && !page.maps(10) && page.is_writable());
        assert!(!page.with_writable(false).is_writable());
        assert_eq!(page.with_writable(false).address(), 0x45_6000);
        assert!(Entry(0).is_none() && !page.leads_to_table_of(9));
    }

    #[test]
    fn four_levels_of_256_entries_cover_16_tib() {
        assert_eq!(END, 1 << 44);
        assert_eq!(
            [0, 1, 2, 3].map(|level| index(0x123_4567_8000, level)),
            [0x78, 0x56, 0x34, 0x12]
        );
    }
}
