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

/// What the start of an invalidation does when every slot of the pool is taken ([`Tracking::Pool`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Exhausted {
    /// It counts for the whole space: nobody blocks, and meanwhile every fault of every consumer retries.
    #[default]
    CountSpace,
    /// It waits until a slot is free: for the registry's patience at most, and counts for the space then.
    ///
    /// Who holds a slot waits for nobody but consumers, no longer than that patience, and for no other
    /// slot if he has one invalidation open at a time: so one is free before long. Who opens a second one
    /// inside the first, with all slots in such hands, waits for himself: that is what the bound is for.
    Wait,
}

impl Exhausted {
    /// Both, the default first.
    pub const ALL: [Self; 2] = [Self::CountSpace, Self::Wait];
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
