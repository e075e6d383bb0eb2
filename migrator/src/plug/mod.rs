//! Plugging and unplugging: which blocks of guest memory the engine has now, and how faults and windows keep a block
//! from being taken away under them.
//!
//! ```text
//!             ┌────── plug ──────────────────────────────────────┐
//!             ▼                                                  │
//!   plugged ──close──► closed ──windows ended──► changing ──unregistered──► unplugged
//!     ▲                  │       (faults go on)      │ (faults keep out)
//!     └────── too long ──┴──────── refused ──────────┘
//! ```
//!
//! Blocks stay where they are, and only their words change: a look-up is an index, needs no lock and nothing that
//! would have to outlive its readers. What a look-up under RCU checks again once it has the lock, whether this is
//! still what was looked for, is a part of the compare-and-swap that takes the lock.
//!
//! Windows go first, while faults are still served: a window may wait for a vCPU, and that for a fault. A fault
//! waits for nobody, so that keeping faults out takes no longer than those take that are being served.

mod block;
mod blocks;
mod change;
mod counters;
mod engine;
mod error;
mod fault_lock;
mod hold;
#[cfg(all(test, loom))]
mod loom_models;
#[cfg(all(test, not(loom)))]
mod tests;
mod wait;

pub(crate) use blocks::Blocks;
pub(crate) use counters::FaultCells;
pub use counters::{FaultLockCounts, PlugCounters};
pub use error::PlugError;
pub use fault_lock::FaultLock;
pub(crate) use hold::Hold;
pub(crate) use wait::ChangeWaits;

/// Pages of a block of guest memory, which is plugged and unplugged as a whole: 2 MiB. Blocks begin at multiples of
/// that, or where guest memory does.
pub const BLOCK_PAGES: u32 = 512;
