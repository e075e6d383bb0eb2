//! A pool of frames for movers and the fault path, with watermarks, a reserve and a refiller.
//!
//! The fast path takes a frame by two atomic operations and calls nobody; where that would leave too few, whoever
//! wants it goes the slow path and refills first. Movers that find nothing move nothing; faults are served in any
//! case. `docs/engine.md` has the whole picture; the questions are Q2's, from the thread on memory allocation on
//! speculative fast paths.

mod counters;
mod error;
mod grace;
mod ledger;
#[cfg(all(test, loom))]
mod loom_models;
mod options;
mod placement;
mod pool;
mod refill;
mod refiller;
mod slot_set;
mod staged;
#[cfg(all(test, not(loom)))]
mod tests;
mod user;
mod waits;

pub use counters::{FrameCounters, FrameCounts};
pub use error::FrameError;
pub use grace::Grace;
pub use ledger::FrameViolations;
pub use options::{Fallback, FrameOptions, MAX_FRAMES};
pub use placement::Placement;
pub(crate) use pool::{FramePool, Purpose};
pub use refiller::{Refiller, RefillerError};
pub(crate) use staged::StagedFrame;
pub use user::FrameUser;
pub(crate) use waits::PoolWaits;
