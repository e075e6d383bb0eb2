//! A rendezvous of all CPUs.

use super::{
    Backoff,
    atomic::{
        AtomicU32,
        Ordering::{AcqRel, Acquire, Relaxed, Release},
        const_fn,
    },
};
use crate::Cpu;
use underfoot_abi::Wait;

/// A barrier that can be used again and again by the same number of CPUs.
#[derive(Debug, Default)]
pub struct Barrier {
    arrived: AtomicU32,
    generation: AtomicU32,
}

impl Barrier {
    const_fn! {
        /// A barrier at which nobody waits yet.
        #[must_use]
        pub fn new() -> Self {
            Self {
                arrived: AtomicU32::new(0),
                generation: AtomicU32::new(0),
            }
        }
    }

    /// Waits until `cpus` CPUs are here; whether this one came last. What each did before, all see
    /// after. `meanwhile` runs on every turn of the wait: a CPU that waits here must still report
    /// its quiescent states.
    pub fn wait(&self, cpu: &Cpu, cpus: u32, mut meanwhile: impl FnMut()) -> bool {
        let generation = self.generation.load(Acquire);
        // AcqRel: the last CPU acquires what all before it released.
        if self.arrived.fetch_add(1, AcqRel) + 1 == cpus {
            self.arrived.store(0, Relaxed);
            // Pairs with the acquire below, for the reset of `arrived` too.
            self.generation.store(generation.wrapping_add(1), Release);
            return true;
        }
        cpu.waits_for(Wait::Barrier, generation);
        let mut backoff = Backoff::new();
        while self.generation.load(Acquire) == generation {
            meanwhile();
            backoff.pause(cpu, || self.generation.load(Relaxed) != generation);
        }
        cpu.waits_for(Wait::None, 0);
        false
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
