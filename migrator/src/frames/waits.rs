//! What a pool that has run dry waits for, as the watchdog sees it.

use std::sync::Arc;

use super::pool::FramePool;
use crate::clock::Tsc;
use crate::{About, Edge, Node, WaitSource};

/// Speaks for the one pool that there is.
pub(crate) struct PoolWaits(pub(crate) Arc<FramePool>);

impl PoolWaits {
    /// Since when, and for what.
    fn wait(&self, waiter: Node) -> Option<(Tsc, Node)> {
        (waiter == Node::FramePool(0)).then(|| self.0.waits_for())?
    }
}

impl WaitSource for PoolWaits {
    fn edge(&self, waiter: Node) -> Edge {
        let wait = self.wait(waiter);
        // No two waits begin at the same time.
        wait.map_or_else(Edge::default, |(since, node)| Edge::new(since, Some(node)))
    }

    fn about(&self, waiter: Node) -> About {
        let since = self.wait(waiter).map_or(0, |(since, _)| since);
        About { since, page: None }
    }
}
