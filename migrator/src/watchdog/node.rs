//! What can wait and be waited for.

use std::fmt;

/// What can wait, or be waited for, with its number among its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Node {
    /// A virtual CPU.
    Vcpu(u16),
    /// What a mover has open; the number is the mover's.
    Migration(u16),
    /// A pool of frames: it waits for whoever holds frames that are to come back.
    FramePool(u16),
    /// A grace period of the guest: it waits for a reader. The number is that of the mover that asked for it.
    GracePeriod(u16),
    /// One who keeps translations of its own; the number is its subscription's.
    Consumer(u16),
    /// A fault handler.
    Handler(u16),
    /// A [`plug`](crate::Migrator::plug) or [`unplug`](crate::Migrator::unplug): there is one at a time, 0, and it waits
    /// for the windows that are open in its range.
    Change(u16),
}

impl Node {
    /// How many kinds there are.
    pub(super) const KINDS: usize = 7;

    /// Its kind, below [`Self::KINDS`], and its number.
    pub(super) const fn parts(self) -> (usize, u16) {
        match self {
            Self::Vcpu(nth) => (0, nth),
            Self::Migration(nth) => (1, nth),
            Self::FramePool(nth) => (2, nth),
            Self::GracePeriod(nth) => (3, nth),
            Self::Consumer(nth) => (4, nth),
            Self::Handler(nth) => (5, nth),
            Self::Change(nth) => (6, nth),
        }
    }

    /// The other way round; `None` for a kind that there is not.
    pub(super) const fn from_parts(kind: usize, nth: u16) -> Option<Self> {
        Some(match kind {
            0 => Self::Vcpu(nth),
            1 => Self::Migration(nth),
            2 => Self::FramePool(nth),
            3 => Self::GracePeriod(nth),
            4 => Self::Consumer(nth),
            5 => Self::Handler(nth),
            6 => Self::Change(nth),
            _ => return None,
        })
    }

    /// Whether it gives up what it waits for if it is asked to.
    #[must_use]
    pub const fn can_abort(self) -> bool {
        matches!(self, Self::Migration(_))
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Vcpu(nth) => write!(f, "vCPU {nth}"),
            Self::Migration(nth) => write!(f, "migration {nth}"),
            Self::FramePool(nth) => write!(f, "frame pool {nth}"),
            Self::GracePeriod(nth) => write!(f, "grace period {nth}"),
            Self::Consumer(nth) => write!(f, "consumer {nth}"),
            Self::Handler(nth) => write!(f, "fault handler {nth}"),
            Self::Change(_) => f.write_str("the change of blocks"),
        }
    }
}
