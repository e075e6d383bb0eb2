//! Waits that last without being a deadlock.

use std::fmt;
use std::time::{Duration, Instant};

use super::chain::write_waits;
use super::{Edge, Node, WaitGraph};

/// A node that has waited for long, for one that waits for nobody: no deadlock, and nothing that an
/// abort would end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stall {
    /// Who waits, first, to the one who does not wait and does not get on.
    pub chain: Vec<Node>,
    /// How long the first has waited for the second.
    pub waited: Duration,
}

impl fmt::Display for Stall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_waits(f, self.chain.iter().map(|node| (*node, None)))?;
        write!(f, ", which waits for nobody, for {:?}", self.waited)
    }
}

/// Since when each node has had the edge that it has, by one who looks now and then.
#[derive(Debug)]
pub struct Stalls {
    patience: Duration,
    /// By place: the edge, since when, and whether it was reported.
    seen: Vec<Option<(Edge, Instant, bool)>>,
}

impl Stalls {
    /// Takes waits of `patience` or more for stalls.
    #[must_use]
    pub fn new(patience: Duration) -> Self {
        Self {
            patience,
            seen: Vec::new(),
        }
    }

    /// Looks at `graph`, always the same one, and returns the stalls that were not there at the last
    /// look. Nodes that are in a cycle, or wait for one, have none.
    pub fn look(&mut self, graph: &WaitGraph, now: Instant) -> Vec<Stall> {
        let nodes: Vec<_> = graph.nodes().collect();
        self.seen.resize(nodes.len(), None);
        let mut stalls = Vec::new();
        for (node, seen) in nodes.into_iter().zip(&mut self.seen) {
            let edge = graph.edge(node);
            if edge.to().is_none() {
                *seen = None;
                continue;
            }
            match seen {
                Some((same, since, told)) if *same == edge => {
                    let waited = now.saturating_duration_since(*since);
                    if !*told && waited >= self.patience {
                        let chain = chain(graph, node);
                        *told = chain.is_some();
                        stalls.extend(chain.map(|chain| Stall { chain, waited }));
                    }
                }
                _ => *seen = Some((edge, now, false)),
            }
        }
        stalls
    }
}

/// Who waits for whom from `start` on; `None` if that has no end, or has changed.
fn chain(graph: &WaitGraph, start: Node) -> Option<Vec<Node>> {
    let mut chain = vec![start];
    while let Some(next) = graph.edge(*chain.last()?).to() {
        if chain.contains(&next) {
            return None;
        }
        chain.push(next);
    }
    (chain.len() > 1).then_some(chain)
}
