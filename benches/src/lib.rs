//! Benchmarks of the engine, each beside its floor.
