//! One CPU, as the kernel sees it.

use crate::arch::PrivOps;
use core::sync::atomic::Ordering::Relaxed;
use underfoot_abi::{Context, Header, VcpuArea, Wait};

/// A CPU: who it is, what it may ask of the processor, and where it publishes what it does.
///
/// Passed by reference to everything that depends on the CPU it runs on.
pub struct Cpu {
    /// Number, from 0.
    pub id: usize,
    /// How privileged operations are done here.
    pub ops: &'static dyn PrivOps,
    /// The shared region's header.
    pub header: &'static Header,
    /// This CPU's part of the shared region.
    pub area: &'static VcpuArea,
    /// TSC ticks to nanoseconds: `(ticks * ns_per_tick_q32) >> 32`.
    pub ns_per_tick_q32: u64,
}

impl Cpu {
    /// Converts TSC ticks into nanoseconds.
    #[inline]
    #[must_use]
    pub fn ns(&self, ticks: u64) -> u64 {
        ((u128::from(ticks) * u128::from(self.ns_per_tick_q32)) >> 32) as u64
    }

    /// Adds to a counting field of the context word, for instance [`Context::RCU_ONE`]. Interrupt
    /// handlers restore the word before they return, so a load and a store are enough.
    #[inline]
    pub fn context_add(&self, one: u64) {
        self.area
            .context
            .store(self.area.context.load(Relaxed) + one, Relaxed);
    }

    /// Undoes [`Self::context_add`].
    #[inline]
    pub fn context_sub(&self, one: u64) {
        self.area
            .context
            .store(self.area.context.load(Relaxed) - one, Relaxed);
    }

    /// Publishes whether interrupts are masked.
    #[inline]
    pub fn set_masked(&self, masked: bool) {
        let rest = self.area.context.load(Relaxed) & !Context::MASKED;
        self.area
            .context
            .store(rest | if masked { Context::MASKED } else { 0 }, Relaxed);
    }

    /// The context word now.
    #[inline]
    #[must_use]
    pub fn context(&self) -> Context {
        Context(self.area.context.load(Relaxed))
    }

    /// Publishes what this CPU waits for.
    #[inline]
    pub fn waits_for(&self, wait: Wait, object: u32) {
        self.area
            .context
            .store(self.context().with_wait(wait, object).0, Relaxed);
    }
}
