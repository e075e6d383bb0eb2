//! How open invalidations are kept track of, and who may share a range.

use std::fmt;

/// Where the registry keeps what it must know of an open invalidation, so that one who registers in
/// its midst sees it, and its end is taken for nothing else. The three forms are those of the thread
/// on invalidation against concurrent faults (linux-rdma, September 2014).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Tracking {
    /// In one of a fixed number of slots, taken without a lock. Once all are taken, an invalidation
    /// counts for the whole space instead, as with [`Self::Space`]: nobody blocks.
    #[default]
    Pool,
    /// In the [`OpenRange`](crate::OpenRange) on the caller's stack, linked into a list under a spin
    /// lock that all movers share, held for a walk through the subscriptions. There is always room.
    Stack,
    /// In one counter and one sequence for all of guest memory. Nothing can be missed, and every
    /// fault of every consumer retries while anything at all moves.
    Space,
}

impl Tracking {
    /// Every form, the default first.
    pub const ALL: [Self; 3] = [Self::Pool, Self::Stack, Self::Space];

    /// The name that users write and read.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pool => "pool",
            Self::Stack => "stack",
            Self::Space => "space",
        }
    }
}

impl fmt::Display for Tracking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Whether other consumers may register pages of a range too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Sharing {
    /// They may.
    #[default]
    Shared,
    /// They may not: each page of the range has this one consumer.
    Exclusive,
}
