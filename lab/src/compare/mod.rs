//! `underfoot compare`: two runs held against each other as distributions, from their directories alone.
//!
//! The way of it: two runs → may they be compared ([`comparable`]) → a test on each histogram (`permutation`) →
//! intervals for its percentiles (`bootstrap`) → a verdict with many tests in mind ([`verdict`]) → text or JSON.
//! Whatever is drawn at random costs the same for a thousand values as for a billion (`draw`).

mod bootstrap;
pub mod command;
pub mod comparable;
mod distribution;
mod draw;
pub mod format;
mod permutation;
pub mod verdict;

pub use command::{CompareRequest, compare_command};
