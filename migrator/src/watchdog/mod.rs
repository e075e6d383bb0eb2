//! Who waits for whom: deadlocks are found as cycles, and not by how long they last.
//!
//! Each node waits for one other at most, and says so in a word of its own. Who waits for several
//! (a grace period for all its readers) says for which of them now, and goes on to the next. So no search
//! is needed: whoever follows the edges from a node comes to an end, or round.

mod activity;
mod chain;
mod edge;
mod graph;
#[cfg(all(test, loom))]
mod loom_models;
mod node;
mod stall;
#[cfg(all(test, not(loom)))]
mod tests;
mod verdict;
mod waiter;
mod watching;

pub(crate) use activity::Activity;
pub use chain::Cycle;
pub use edge::Edge;
pub use graph::{About, Members, WaitGraph, WaitSource, WaiterError};
pub use node::Node;
pub use stall::{Stall, Stalls};
pub(crate) use verdict::LiveVerdicts;
pub use verdict::{Verdict, Verdicts};
pub use waiter::{Wait, Waiter};
pub use watching::Watchdog;
