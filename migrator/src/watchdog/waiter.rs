//! A node's own side of the graph.

use std::sync::Arc;

use super::graph::Slot;
use super::{Edge, Node, WaitGraph};
use crate::clock::{self, Tsc};
use crate::sync::Ordering;

/// The one who says what a node waits for.
#[derive(Debug)]
pub struct Waiter {
    graph: Arc<WaitGraph>,
    index: usize,
}

impl Waiter {
    pub(super) fn new(graph: Arc<WaitGraph>, index: usize) -> Self {
        Self { graph, index }
    }

    /// Says that this node waits for `node`, until what is returned is dropped. Takes no lock and does
    /// not allocate.
    pub fn wait_for(&mut self, node: Node) -> Wait<'_> {
        let edge = self.publish(Some(node));
        Wait { waiter: self, edge }
    }

    fn publish(&self, to: Option<Node>) -> Edge {
        let slot = self.slot();
        if to.is_some() {
            // Whoever reads the time looks afterwards whether the edge is still the same.
            slot.since.store(clock::now(), Ordering::Relaxed);
        }
        // This is the only writer.
        let edge = Edge::from_word(slot.edge.load(Ordering::Relaxed)).next(to);
        // Release pairs with the acquire in `WaitGraph::edge`: who sees this edge sees those gone that
        // ended before it began.
        slot.edge.store(edge.word(), Ordering::Release);
        edge
    }

    /// When the cycle closed in which a wait of this node was last asked to be given up.
    pub(crate) fn cycle_closed(&self) -> Tsc {
        self.slot().closed.load(Ordering::Relaxed)
    }

    fn slot(&self) -> &Slot {
        self.graph.slot(self.index)
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        self.slot().release();
    }
}

/// A node waits while this lives.
#[derive(Debug)]
#[must_use = "the wait is over as soon as this is dropped"]
pub struct Wait<'w> {
    waiter: &'w mut Waiter,
    edge: Edge,
}

impl Wait<'_> {
    /// From here on `node` is what is waited for, if it is not already.
    pub fn turn_to(&mut self, node: Node) {
        if self.edge.to() != Some(node) {
            self.edge = self.waiter.publish(Some(node));
        }
    }

    /// Whether this wait is in a cycle that ends only if it is given up
    /// ([`WaitGraph::break_cycle`]). A request that came too late for an earlier wait is not meant.
    #[must_use]
    pub fn is_aborted(&self) -> bool {
        // Acquire pairs with the release in `WaitGraph::break_cycle`.
        self.waiter.slot().abort.load(Ordering::Acquire) == self.edge.word()
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        self.waiter.publish(None);
    }
}
