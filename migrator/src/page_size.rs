//! How large the pages are that move.

use std::fmt;

use crate::PAGE_SIZE;

/// The size of a page that moves whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum PageSize {
    /// 4 KiB. A transparent huge page that backs guest memory is split by the first move in it.
    #[default]
    Small,
    /// 2 MiB: transparent huge pages move whole; guest memory that lies in small pages stays where
    /// it is.
    Huge,
}

impl PageSize {
    /// Every size.
    pub const ALL: [Self; 2] = [Self::Small, Self::Huge];

    /// The name that users write and read.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Small => "4KiB",
            Self::Huge => "2MiB",
        }
    }

    /// One line about it.
    #[must_use]
    pub const fn about(self) -> &'static str {
        match self {
            Self::Small => "small pages; a huge page is split by the first move in it",
            Self::Huge => "huge pages, each moved whole; what lies in small pages stays",
        }
    }

    /// Pages of [`PAGE_SIZE`] in one of these.
    #[must_use]
    pub const fn pages(self) -> u32 {
        match self {
            Self::Small => 1,
            Self::Huge => 512,
        }
    }

    /// Its size in bytes.
    #[must_use]
    pub const fn bytes(self) -> usize {
        self.pages() as usize * PAGE_SIZE
    }
}

impl fmt::Display for PageSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
