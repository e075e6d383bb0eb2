//! The tiny guest kernel whose pages are moved under it.
//!
//! Everything here that is an algorithm also builds for the host, where `cargo test` and loom run
//! it: a CPU is a value ([`Cpu`]) that is passed along, never a hidden global.
#![cfg_attr(not(any(test, loom)), no_std)]

pub mod arch;
mod cpu;
#[cfg(test)]
mod fixture;
pub mod mm;
pub mod mover;
pub mod page_event;
pub mod random;
pub mod record;
pub mod sched;
mod sightings;
pub mod space;
pub mod sync;
mod tick_phase;
pub mod tlb;
#[cfg(not(loom))]
pub mod workload;

pub use cpu::{Cpu, Hold};
pub use sightings::{Sighting, Sightings};
pub use tick_phase::TickPhase;
