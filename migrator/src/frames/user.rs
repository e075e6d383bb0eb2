//! Who takes frames.

use std::fmt;

/// A user of the pool of frames; what it takes and pays is accounted to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FrameUser {
    /// Movers, for the new frames of their next window. They can wait: without frames they move nothing.
    Mover,
    /// The fault path, for holes and for demanded pages. It must not wait, as somebody waits for it.
    Fault,
}

impl FrameUser {
    /// Every user.
    pub const ALL: [Self; 2] = [Self::Mover, Self::Fault];

    /// The name that users read.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Mover => "mover",
            Self::Fault => "fault",
        }
    }

    pub(crate) const fn index(self) -> usize {
        match self {
            Self::Mover => 0,
            Self::Fault => 1,
        }
    }
}

impl fmt::Display for FrameUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
