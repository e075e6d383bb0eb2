//! What one entry of a page table says (Intel SDM volume 3, 4.5).

use core::ops::BitOr;

/// The bits of an entry that name a frame.
pub(crate) const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// Flags of a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PteFlags(u64);

impl PteFlags {
    /// Readable by ring 0.
    pub const PRESENT: Self = Self(1);
    /// Writable too.
    pub const WRITABLE: Self = Self(1 << 1);
    /// Open to ring 3.
    pub const USER: Self = Self(1 << 2);
    /// Uncached, for device registers (PCD and PWT).
    pub const NO_CACHE: Self = Self(1 << 3 | 1 << 4);
    /// The processor found it used. Set from the start, so that it need not write it.
    pub const ACCESSED: Self = Self(1 << 5);
    /// The processor found it written. Set from the start, so that it need not write it.
    pub const DIRTY: Self = Self(1 << 6);
}

impl PteFlags {
    /// Their bits in an entry.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Whether the entry `value` has all of these.
    #[must_use]
    pub const fn are_in(self, value: u64) -> bool {
        value & self.0 == self.0
    }
}

/// The physical address that the entry `value` of a 4 KiB page names.
#[must_use]
pub const fn frame_of(value: u64) -> usize {
    (value & ADDRESS) as usize
}

impl BitOr for PteFlags {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}
