//! The phases of a migration.

use std::fmt;

/// How far the migration of a batch of pages is. It can be aborted from every phase but the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// The pages are claimed and still mapped.
    Claimed,
    /// The old frames are in limbo; whoever touches the pages waits.
    Unmapped,
    /// The new frames hold the contents.
    Copied,
    /// The new frames are mapped. There is no way back.
    Committed,
}

impl Phase {
    /// Every phase, in order.
    pub const ALL: [Self; 4] = [Self::Claimed, Self::Unmapped, Self::Copied, Self::Committed];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Claimed => "claimed",
            Self::Unmapped => "unmapped",
            Self::Copied => "copied",
            Self::Committed => "committed",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
