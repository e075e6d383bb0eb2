//! When what is copied.

use std::fmt;

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
}

impl StrategyKind {
    /// Every strategy.
    pub const ALL: [Self; 3] = [Self::None, Self::UnmapCopy, Self::StopWorld];

    /// The name that users write and read.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::UnmapCopy => "unmap-copy",
            Self::StopWorld => "stop-world",
        }
    }

    /// One line about it.
    #[must_use]
    pub const fn about(self) -> &'static str {
        match self {
            Self::None => "moves nothing: the control",
            Self::UnmapCopy => "unmaps, copies, maps: the kernel's classical way",
            Self::StopWorld => "unmaps, copies, maps with every vCPU stopped: the baseline",
        }
    }
}

impl fmt::Display for StrategyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
