//! The guest's grace periods, as old frames wait for them.

use super::GuestWaits;
use std::fmt;
use std::sync::Arc;
use underfoot_migrator::{Grace, GracePeriods, Node};

/// Old frames are used again once every reader that the guest had is done. A guest that has no tick, as all of it is
/// idle, begins no grace period: frames wait until it does something.
pub struct PoolGrace {
    waits: Arc<GuestWaits>,
    number: u16,
}

impl PoolGrace {
    /// Of the guest that `waits` is of; `number`, at most 64, is no mover's.
    #[must_use]
    pub const fn new(waits: Arc<GuestWaits>, number: u16) -> Self {
        Self { waits, number }
    }
}

impl Grace for PoolGrace {
    fn begin(&self) -> u64 {
        self.waits.ask(self.number)
    }

    fn is_over(&self, ticket: u64) -> bool {
        GracePeriods::is_over(&*self.waits, ticket)
    }

    fn node(&self) -> Option<Node> {
        Some(Node::GracePeriod(self.number))
    }
}

impl fmt::Debug for PoolGrace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PoolGrace({})", self.number)
    }
}
