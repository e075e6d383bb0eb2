//! Torture: every sound way to move pages, in turn, with faults at random, until one update is lost.
//!
//! [`cell`] is the table that is walked, [`visit`] one short run in one of its cells, chosen by the
//! seed; [`walk`] does visits until the time is over or something is found, [`tally`] adds them up,
//! [`mod@format`] and [`json`] tell.

pub mod cell;
mod command;
pub mod format;
pub mod json;
pub mod tally;
#[cfg(test)]
mod tests;
pub mod visit;
pub mod walk;

pub use command::{TortureRequest, torture_command};
