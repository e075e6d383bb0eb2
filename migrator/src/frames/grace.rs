//! When an old frame may be used again.

use crate::Node;

/// An end that old frames wait for on top of what the engine sees to: until it, somebody whom the engine
/// does not know may still have an old translation. A grace period of the guest is one.
///
/// Nobody waits for it here. Frames whose time has not come stay in limbo, and are asked for again when frames
/// are short; if it never comes, the pool runs dry, movers rest, and faults are served by the kernel's own frames.
pub trait Grace: Send + Sync {
    /// A ticket for frames that were left just now. Called outside of windows, by movers.
    fn begin(&self) -> u64;

    /// Whether nobody can reach frames any more that were left when this ticket was drawn. Must neither
    /// sleep nor wait; once true it stays so.
    fn is_over(&self, ticket: u64) -> bool;

    /// What it is to the [`Watchdog`](crate::Watchdog), if that is to know: a pool that has run dry then waits for it.
    fn node(&self) -> Option<Node> {
        None
    }
}
