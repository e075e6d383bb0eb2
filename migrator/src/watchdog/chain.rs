//! Nodes, each of which waits for the next.

use std::fmt;

use super::{Edge, Node};

/// A deadlock: each node waits for the next, the last for the first, all at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cycle(Vec<(Node, Edge)>);

impl Cycle {
    /// Of nodes with the edges that they had, of which there is one at least.
    pub(super) fn new(links: &[(Node, Edge)]) -> Self {
        debug_assert!(!links.is_empty());
        Self(links.to_vec())
    }

    /// Its members, in the order in which they wait.
    pub fn members(&self) -> impl Iterator<Item = Node> {
        self.0.iter().map(|(node, _)| *node)
    }

    /// Its members, and the edge of each to the next.
    pub(super) fn links(&self) -> &[(Node, Edge)] {
        &self.0
    }
}

impl fmt::Display for Cycle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_waits(f, self.members().chain(self.members().take(1)))
    }
}

/// "a waits for b, which waits for c".
pub(super) fn write_waits(
    f: &mut fmt::Formatter<'_>,
    nodes: impl Iterator<Item = Node>,
) -> fmt::Result {
    for (nth, node) in nodes.enumerate() {
        f.write_str(match nth {
            0 => "",
            1 => " waits for ",
            _ => ", which waits for ",
        })?;
        write!(f, "{node}")?;
    }
    Ok(())
}
