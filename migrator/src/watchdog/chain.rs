//! Nodes, each of which waits for the next.

use std::fmt;

use super::{About, Edge, Node};
use crate::Gfn;
use crate::clock::Tsc;

/// A node, the edge that it has, and what is known of that.
pub(super) type Link = (Node, Edge, About);

/// A deadlock: each node waits for the next, the last for the first, all at one moment.
#[derive(Clone, Debug)]
pub struct Cycle(Vec<Link>);

/// Cycles are the same if their edges are.
impl PartialEq for Cycle {
    fn eq(&self, other: &Self) -> bool {
        let edges = |cycle: &Self| {
            cycle
                .0
                .iter()
                .map(|(node, edge, _)| (*node, *edge))
                .collect()
        };
        let (mine, theirs): (Vec<_>, Vec<_>) = (edges(self), edges(other));
        mine == theirs
    }
}

impl Eq for Cycle {}

impl Cycle {
    /// Of nodes with the edges that they had, of which there is one at least.
    pub(super) fn new(links: &[Link]) -> Self {
        debug_assert!(!links.is_empty());
        Self(links.to_vec())
    }

    /// Its members, in the order in which they wait.
    pub fn members(&self) -> impl Iterator<Item = Node> {
        self.0.iter().map(|(node, ..)| *node)
    }

    /// The page that a member waits for, if it is known to wait for one.
    #[must_use]
    pub fn page(&self, member: Node) -> Option<Gfn> {
        let link = self.0.iter().find(|(node, ..)| *node == member)?;
        link.2.page
    }

    /// When the last of its waits began, or before, in TSC ticks: it has been a cycle for no longer. 0 if
    /// that is known of none.
    #[must_use]
    pub fn closed(&self) -> Tsc {
        self.0
            .iter()
            .map(|(.., about)| about.since)
            .max()
            .unwrap_or(0)
    }

    /// Its members, and the edge of each to the next.
    pub(super) fn links(&self) -> &[Link] {
        &self.0
    }
}

impl fmt::Display for Cycle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let links = self.0.iter().map(|(node, _, about)| (*node, about.page));
        write_waits(
            f,
            links.chain(self.0.first().map(|(node, ..)| (*node, None))),
        )
    }
}

/// "a waits for b, which waits for c"; with the page that one waits for, which the next one has.
pub(super) fn write_waits(
    f: &mut fmt::Formatter<'_>,
    links: impl Iterator<Item = (Node, Option<Gfn>)>,
) -> fmt::Result {
    let mut page = None;
    for (nth, (node, next)) in links.enumerate() {
        f.write_str(match nth {
            0 => "",
            1 => " waits for ",
            _ => ", which waits for ",
        })?;
        if let Some(Gfn(gfn)) = page {
            write!(f, "page {gfn:#x} of ")?;
        }
        write!(f, "{node}")?;
        page = next;
    }
    Ok(())
}
