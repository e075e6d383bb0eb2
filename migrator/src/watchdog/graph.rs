//! The table of who waits for whom.

use std::fmt;
use std::sync::Arc;

use super::chain::Link;
use super::{Cycle, Edge, Node, Waiter};
use crate::Gfn;
use crate::clock::Tsc;
use crate::sync::{AtomicU32, AtomicU64, Ordering};

/// How many nodes of each kind there can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Members {
    /// vCPUs: 64 by default.
    pub vcpus: u16,
    /// Movers: 64 by default.
    pub migrations: u16,
    /// Frame pools: 64 by default, one for each mover.
    pub frame_pools: u16,
    /// Grace periods of the guest: 64 by default, for each mover the one that it waits for.
    pub grace_periods: u16,
    /// Subscriptions: 64 by default, as many as there can be.
    pub consumers: u16,
    /// Fault handlers: 8 by default.
    pub handlers: u16,
    /// Changes of blocks: 1 by default, as there is one at a time.
    pub changes: u16,
}

impl Default for Members {
    fn default() -> Self {
        Self {
            vcpus: 64,
            migrations: 64,
            frame_pools: 64,
            grace_periods: 64,
            consumers: 64,
            handlers: 8,
            changes: 1,
        }
    }
}

impl Members {
    /// In the order of [`Node::parts`].
    const fn by_kind(&self) -> [u16; Node::KINDS] {
        [
            self.vcpus,
            self.migrations,
            self.frame_pools,
            self.grace_periods,
            self.consumers,
            self.handlers,
            self.changes,
        ]
    }
}

/// What is known of a wait beside whom it is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct About {
    /// When it began, in TSC ticks, or no later than it began; 0 if nobody knows.
    pub since: Tsc,
    /// The page that is waited for.
    pub page: Option<Gfn>,
}

/// Edges that somebody knows who is not their owner: what a guest has published, say.
pub trait WaitSource: Send + Sync {
    /// What `waiter` waits for now; [`Edge::default`] if that is not known here. One alone may know of a
    /// node, a [`Waiter`] or a source: sequences of two would be taken for one.
    ///
    /// Its sequence must change with each change of what is waited for, and be read together with it, by
    /// an acquire load that pairs with a release by the owner. Then a false edge harms nobody but its
    /// owner: at worst a migration is aborted in vain.
    fn edge(&self, waiter: Node) -> Edge;

    /// What else is known of that edge.
    fn about(&self, waiter: Node) -> About {
        let _ = waiter;
        About::default()
    }
}

/// Why nobody can speak for a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WaiterError {
    /// The graph has no such node.
    #[error("the wait-for graph has no {node}; it has {limit} of that kind (Members)")]
    Outside {
        /// Who was asked for.
        node: Node,
        /// How many there are.
        limit: u16,
    },
    /// Somebody else speaks for it.
    #[error("{node} has a waiter already; drop that one first")]
    Taken {
        /// Who was asked for.
        node: Node,
    },
}

/// A node's place.
#[derive(Debug)]
pub(super) struct Slot {
    /// An [`Edge`], written by its [`Waiter`] alone.
    pub(super) edge: AtomicU64,
    /// When it was published, or before.
    pub(super) since: AtomicU64,
    /// The edge whose wait is to be given up; 0, which is no wait's, at first.
    pub(super) abort: AtomicU64,
    /// When the cycle closed for which that was asked.
    pub(super) closed: AtomicU64,
    /// 1 while there is a waiter.
    taken: AtomicU32,
}

impl Slot {
    fn new() -> Self {
        Self {
            edge: AtomicU64::new(0),
            since: AtomicU64::new(0),
            abort: AtomicU64::new(0),
            closed: AtomicU64::new(0),
            taken: AtomicU32::new(0),
        }
    }

    /// Acquire pairs with the release below: the next waiter counts on from the last one's sequence.
    fn take(&self) -> bool {
        self.taken
            .compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed)
            .is_ok()
    }

    pub(super) fn release(&self) {
        self.taken.store(0, Ordering::Release);
    }
}

/// Who waits for whom, of a fixed set of nodes. Edges come and go without a lock, while anybody looks.
pub struct WaitGraph {
    members: Members,
    slots: Box<[Slot]>,
    sources: Box<[Arc<dyn WaitSource>]>,
}

impl WaitGraph {
    /// A graph in which nobody waits but by the word of `sources`, which are asked in this order about
    /// nodes that do not speak for themselves.
    #[must_use]
    pub fn new(members: Members, sources: impl IntoIterator<Item = Arc<dyn WaitSource>>) -> Self {
        let nodes = members.by_kind().into_iter().map(usize::from).sum();
        Self {
            members,
            slots: std::iter::repeat_with(Slot::new).take(nodes).collect(),
            sources: sources.into_iter().collect(),
        }
    }

    /// The one who speaks for `node`.
    ///
    /// # Errors
    /// There is no such node, or somebody speaks for it already.
    pub fn waiter(self: &Arc<Self>, node: Node) -> Result<Waiter, WaiterError> {
        let limit = self.members.by_kind()[node.parts().0];
        let index = self
            .index(node)
            .ok_or(WaiterError::Outside { node, limit })?;
        if !self.slots[index].take() {
            return Err(WaiterError::Taken { node });
        }
        Ok(Waiter::new(Arc::clone(self), index))
    }

    /// Every deadlock that there was when this was called, named member by member. One that closes
    /// meanwhile may be missing; none is made up of edges that were not there all at once.
    #[must_use]
    pub fn find_cycles(&self) -> Vec<Cycle> {
        let mut cycles = self.candidates();
        cycles.retain_mut(|cycle| {
            // Before they are read again: what is known is known of these edges.
            let about = |(node, edge, _): &Link| (*node, *edge, self.about(*node));
            *cycle = Cycle::new(&cycle.links().iter().map(about).collect::<Vec<_>>());
            self.is_still(cycle)
        });
        cycles
    }

    /// What look like cycles, by edges that were read one after the other.
    ///
    /// A true one is among them: its edges stay, so that whichever walk comes to one of its members
    /// first goes round it.
    pub(super) fn candidates(&self) -> Vec<Cycle> {
        let mut found = Vec::new();
        let mut walked = vec![false; self.slots.len()];
        let mut path: Vec<Link> = Vec::new();
        for start in self.nodes() {
            path.clear();
            let mut next = Some(start);
            while let Some((node, index)) = next.and_then(|node| Some((node, self.index(node)?))) {
                if walked[index] {
                    let round = path.iter().position(|(on_path, ..)| *on_path == node);
                    found.extend(round.map(|first| Cycle::new(&path[first..])));
                    break;
                }
                walked[index] = true;
                let edge = self.edge(node);
                path.push((node, edge, About::default()));
                next = edge.to();
            }
        }
        found
    }

    /// Whether every edge of it is as it was: then all of them were there after the last of them was
    /// read, and before the first of them was read again.
    fn is_still(&self, cycle: &Cycle) -> bool {
        let mut links = cycle.links().iter();
        links.all(|&(node, edge, _)| self.edge(node) == edge)
    }

    /// Asks a migration in `cycle` to give up the wait that closes it. Returns which; `None` if there is
    /// none in it.
    pub fn break_cycle(&self, cycle: &Cycle) -> Option<Node> {
        let &(node, edge, _) = cycle.links().iter().find(|(node, ..)| node.can_abort())?;
        let slot = &self.slots[self.index(node)?];
        slot.closed.store(cycle.closed(), Ordering::Relaxed);
        // Release pairs with the acquire in `Wait::is_aborted`: the time comes with it.
        slot.abort.store(edge.word(), Ordering::Release);
        Some(node)
    }

    /// What `node` waits for now.
    pub(super) fn edge(&self, node: Node) -> Edge {
        let Some(index) = self.index(node) else {
            return Edge::default();
        };
        // Acquire pairs with the release in `Waiter::publish`.
        let edge = Edge::from_word(self.slots[index].edge.load(Ordering::Acquire));
        if edge.to().is_some() {
            return edge;
        }
        let told = self.sources.iter().map(|source| source.edge(node));
        told.into_iter()
            .find(|told| told.to().is_some())
            .unwrap_or(edge)
    }

    /// What is known of that.
    fn about(&self, node: Node) -> About {
        let Some(index) = self.index(node) else {
            return About::default();
        };
        let slot = &self.slots[index];
        if Edge::from_word(slot.edge.load(Ordering::Acquire))
            .to()
            .is_some()
        {
            let since = slot.since.load(Ordering::Relaxed);
            return About { since, page: None };
        }
        let told = self
            .sources
            .iter()
            .find(|source| source.edge(node).to().is_some());
        told.map(|source| source.about(node)).unwrap_or_default()
    }

    /// Every node, in the order of its place.
    pub(super) fn nodes(&self) -> impl Iterator<Item = Node> {
        let kinds = self.members.by_kind().into_iter().enumerate();
        kinds
            .flat_map(|(kind, count)| (0..count).filter_map(move |nth| Node::from_parts(kind, nth)))
    }

    pub(super) fn index(&self, node: Node) -> Option<usize> {
        let (kind, nth) = node.parts();
        let counts = self.members.by_kind();
        let before: usize = counts[..kind].iter().copied().map(usize::from).sum();
        (nth < counts[kind]).then_some(before + usize::from(nth))
    }

    pub(super) fn slot(&self, index: usize) -> &Slot {
        &self.slots[index]
    }
}

impl fmt::Debug for WaitGraph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let waits = |node| Some((node, self.edge(node).to()?));
        f.debug_map()
            .entries(self.nodes().filter_map(waits))
            .finish()
    }
}
