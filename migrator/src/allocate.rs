//! When new frames are allocated.

use crate::BackendKind;

/// When the kernel allocates new frames. Everything else is the same with both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Allocate {
    /// Before the window, and before any reader waits.
    #[default]
    Ahead,
    /// As they are copied to: who waits for the pages waits for the allocator too. Only with
    /// [`BackendKind::Remap`]: with `move` frames are staged, with `copy` and `kernel` the kernel always allocates them
    /// as it maps.
    InWindow,
}

impl Allocate {
    /// Both, the default first.
    pub const ALL: [Self; 2] = [Self::Ahead, Self::InWindow];

    /// The name that users write and read.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ahead => "ahead",
            Self::InWindow => "window",
        }
    }

    /// What it is, in one line.
    #[must_use]
    pub const fn about(self) -> &'static str {
        match self {
            Self::Ahead => "new frames are there before anybody waits",
            Self::InWindow => "new frames are allocated while the page is being moved (remap)",
        }
    }

    /// Whether `backend` can do so.
    #[must_use]
    pub const fn suits(self, backend: BackendKind) -> bool {
        matches!((self, backend), (Self::Ahead, _) | (_, BackendKind::Remap))
    }
}
