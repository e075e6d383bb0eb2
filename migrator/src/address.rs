//! Guest frame numbers and runs of them.

use std::fmt;

/// Size of the pages that the engine moves, in bytes.
pub const PAGE_SIZE: usize = 4096;

/// A guest frame number: a guest physical address divided by [`PAGE_SIZE`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Gfn(pub u64);

impl Gfn {
    /// The frame that holds the guest physical address `gpa`.
    #[must_use]
    pub const fn containing(gpa: u64) -> Self {
        Self(gpa / PAGE_SIZE as u64)
    }

    /// The guest physical address of the frame's first byte; wraps above 2^64.
    #[must_use]
    pub const fn gpa(self) -> u64 {
        self.0.wrapping_mul(PAGE_SIZE as u64)
    }
}

impl fmt::Display for Gfn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "gfn {:#x}", self.0)
    }
}

/// A run of contiguous guest frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct PageRange {
    /// The first frame.
    pub start: Gfn,
    /// How many frames, 0 for none.
    pub pages: u32,
}

impl PageRange {
    /// `pages` frames from `start` on.
    #[must_use]
    pub const fn new(start: Gfn, pages: u32) -> Self {
        Self { start, pages }
    }

    /// The frame after the last one.
    #[must_use]
    pub const fn end(self) -> Gfn {
        Gfn(self.start.0.saturating_add(self.pages as u64))
    }

    /// Whether `gfn` lies in the range.
    #[must_use]
    pub const fn contains(self, gfn: Gfn) -> bool {
        gfn.0 >= self.start.0 && gfn.0 < self.end().0
    }

    /// Whether the two ranges share a frame.
    #[must_use]
    pub const fn overlaps(self, other: Self) -> bool {
        self.pages > 0
            && other.pages > 0
            && self.start.0 < other.end().0
            && other.start.0 < self.end().0
    }
}

impl fmt::Display for PageRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "gfn {:#x} and {} pages", self.start.0, self.pages)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn overlap_means_a_common_frame(a in 0u64..40, m in 0u32..10, b in 0u64..40, n in 0u32..10) {
            let (x, y) = (PageRange::new(Gfn(a), m), PageRange::new(Gfn(b), n));
            let common = (0..60).any(|g| x.contains(Gfn(g)) && y.contains(Gfn(g)));
            prop_assert_eq!(x.overlaps(y), common);
            prop_assert_eq!(y.overlaps(x), common);
        }

        #[test]
        fn a_range_contains_as_many_frames_as_it_says(a in 0u64..40, m in 0u32..10) {
            let range = PageRange::new(Gfn(a), m);
            prop_assert_eq!((0..60).filter(|&g| range.contains(Gfn(g))).count(), m as usize);
        }
    }

    #[test]
    fn addresses_round_trip() {
        assert_eq!(Gfn::containing(0x1fff), Gfn(1));
        assert_eq!(Gfn(3).gpa(), 0x3000);
        assert_eq!(PageRange::new(Gfn(u64::MAX), 2).end(), Gfn(u64::MAX));
    }
}
