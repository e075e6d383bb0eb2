//! Benchmarks of the engine, each beside its floor in the same run.
//!
//! These hosts are shared and noisy: two sides are interleaved in short slices, compared slice by
//! slice, and the ratio's median and range are printed, with what the host did meanwhile.

pub mod area;
pub mod attached;
pub mod bare;
pub mod flat;
pub mod guest;
pub mod noise;
pub mod ratio;
pub mod ring;
pub mod samples;
pub mod sides;
pub mod slice;
pub mod span;
pub mod uffd;
