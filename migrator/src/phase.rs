//! The phases of a migration.

use std::fmt;

/// How far the migration of a batch of pages is. It can be aborted from every phase but the last.
/// Their order depends on the strategy: what is copied first is unmapped later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// The pages are claimed and still mapped.
    Claimed,
    /// The pages are write-protected: whoever writes one waits.
    Protected,
    /// The old frames are in limbo; whoever touches the pages waits.
    Unmapped,
    /// Whoever touches one of the pages is given its contents, one page at a time.
    Away,
    /// The new frames hold the contents.
    Copied,
    /// The new frames are mapped. There is no way back.
    Committed,
}

impl Phase {
    /// Every phase.
    pub const ALL: [Self; 6] = [
        Self::Claimed,
        Self::Protected,
        Self::Unmapped,
        Self::Away,
        Self::Copied,
        Self::Committed,
    ];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Claimed => "claimed",
            Self::Protected => "protected",
            Self::Unmapped => "unmapped",
            Self::Away => "away",
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
