//! Who stole the time: each stall is cut by what overlaps it.

mod cause;
mod cut;
mod judge;
mod parts;
mod tally;

#[cfg(test)]
mod tests;

pub use cause::Cause;
pub use cut::{Bounds, Evidence, attribute};
pub use judge::{Judge, Sources};
pub use parts::{Parts, Piece};
pub(crate) use tally::causes;
pub use tally::{Judged, Tally};
