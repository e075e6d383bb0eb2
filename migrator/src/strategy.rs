//! When what is copied.

use std::fmt;

use crate::{BackendKind, Phase};

/// When the contents are copied, and what the guest does meanwhile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum StrategyKind {
    /// Moves nothing: the control.
    None,
    /// Unmaps, copies, maps.
    #[default]
    UnmapCopy,
    /// The same with every vCPU stopped: the baseline.
    StopWorld,
    /// Write-protects, copies, unmaps, maps: readers go on during the copy, writers wait.
    ProtectCopy,
    /// Copies while the guest reads and writes, and commits if nothing was written; tries again if
    /// it was, and in the end copies under protection.
    Transactional,
    /// Unmaps a whole batch at once. Each page comes when it is touched, or when the mover, which
    /// follows behind, gets to it.
    Lazy,
}

impl StrategyKind {
    /// Every strategy.
    pub const ALL: [Self; 6] = [
        Self::None,
        Self::UnmapCopy,
        Self::StopWorld,
        Self::ProtectCopy,
        Self::Transactional,
        Self::Lazy,
    ];

    /// The name that users write and read.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::UnmapCopy => "unmap-copy",
            Self::StopWorld => "stop-world",
            Self::ProtectCopy => "protect-copy",
            Self::Transactional => "transactional",
            Self::Lazy => "lazy",
        }
    }

    /// One line about it.
    #[must_use]
    pub const fn about(self) -> &'static str {
        match self {
            Self::None => "moves nothing: the control",
            Self::UnmapCopy => "unmaps, copies, maps: the kernel's classical way",
            Self::StopWorld => "unmaps, copies, maps with every vCPU stopped: the baseline",
            Self::ProtectCopy => {
                "write-protects, copies, unmaps, maps: readers run during the copy"
            }
            Self::Transactional => "copies while the guest runs, commits what it did not write",
            Self::Lazy => {
                "unmaps a batch, and brings each page when it is touched or its turn comes"
            }
        }
    }

    /// The phases that a migration of one page goes through, in order. Several pages of
    /// [`Transactional`](Self::Transactional) may be protected as well.
    #[must_use]
    pub const fn phases(self) -> &'static [Phase] {
        match self {
            Self::None => &[],
            Self::UnmapCopy | Self::StopWorld => &[
                Phase::Claimed,
                Phase::Unmapped,
                Phase::Copied,
                Phase::Committed,
            ],
            Self::ProtectCopy => &[
                Phase::Claimed,
                Phase::Protected,
                Phase::Copied,
                Phase::Unmapped,
                Phase::Committed,
            ],
            Self::Transactional => &[
                Phase::Claimed,
                Phase::Copied,
                Phase::Unmapped,
                Phase::Committed,
            ],
            Self::Lazy => &[
                Phase::Claimed,
                Phase::Unmapped,
                Phase::Away,
                Phase::Committed,
            ],
        }
    }

    /// The backend that suits it, where none is chosen.
    #[must_use]
    pub const fn default_backend(self) -> BackendKind {
        match self {
            Self::Lazy => BackendKind::Copy,
            _ => BackendKind::Move,
        }
    }

    /// Whether pages are write-protected, or may be.
    #[must_use]
    pub const fn protects(self) -> bool {
        matches!(self, Self::ProtectCopy | Self::Transactional)
    }

    /// Whether pages are copied while they are mapped.
    pub(crate) const fn copies_mapped(self) -> bool {
        self.protects()
    }
}

impl fmt::Display for StrategyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
