//! How a fault keeps its block.

use std::fmt;

/// How a fault keeps its block of guest memory from being unplugged while it is served.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum FaultLock {
    /// It tries the block's own lock. If the block is being changed, it falls back to the lock of the whole table, and
    /// so waits until that is done. As faults have per-VMA locks in Linux.
    #[default]
    Region,
    /// It takes the lock of the whole table: it waits for a change of any block.
    Table,
    /// It takes no lock: it looks at the block's sequence count before it claims its page and again when it has it. If
    /// that has changed, or is odd, whoever waits is woken when the change is over, and tries again.
    Sequence,
}

impl FaultLock {
    /// All, the default first.
    pub const ALL: [Self; 3] = [Self::Region, Self::Table, Self::Sequence];

    /// The name that users write and read.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Region => "region-lock",
            Self::Table => "table-lock",
            Self::Sequence => "sequence",
        }
    }

    /// What it is, in one line.
    #[must_use]
    pub const fn about(self) -> &'static str {
        match self {
            Self::Region => {
                "a fault tries its block's lock, and falls back to the table's while the block changes"
            }
            Self::Table => "a fault takes the table's lock, and waits while any block changes",
            Self::Sequence => {
                "a fault takes no lock; one that its block's sequence count has overtaken is tried again"
            }
        }
    }
}

impl fmt::Display for FaultLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
