//! How a CPU waits for another one.

use crate::Cpu;
#[cfg(not(any(test, loom)))]
use crate::arch::tsc;

/// Spinning for this long costs less than a halt and the tick that ends it.
#[cfg(not(any(test, loom)))]
const SPIN_NS: u64 = 200_000;

/// A wait that spins first and then halts until the next interrupt, so that on an overcommitted
/// host the CPU waited for can run (as paravirtualised spinlocks do; nobody kicks here, so a wait
/// ends at the next tick at the latest).
#[derive(Debug, Default)]
pub struct Backoff {
    began_tsc: u64,
}

impl Backoff {
    /// A wait that has not begun.
    #[must_use]
    pub const fn new() -> Self {
        Self { began_tsc: 0 }
    }

    /// Waits a little. `ready` says whether the wait is over; it is asked once more, with interrupts
    /// masked, before a halt. Never halts where interrupts are masked, in an interrupt, or on a CPU
    /// that has taken no tick yet: nothing would end it.
    #[inline]
    pub fn pause(&mut self, cpu: &Cpu, ready: impl Fn() -> bool) {
        // A model has no time, and a test's threads share the host with others.
        #[cfg(any(test, loom))]
        {
            self.began_tsc = 0;
            let _ = (cpu, ready, self.began_tsc);
            #[cfg(loom)]
            loom::thread::yield_now();
            #[cfg(not(loom))]
            std::thread::yield_now();
        }
        #[cfg(not(any(test, loom)))]
        self.spin_or_halt(cpu, ready);
    }

    #[cfg(not(any(test, loom)))]
    fn spin_or_halt(&mut self, cpu: &Cpu, ready: impl Fn() -> bool) {
        use core::sync::atomic::Ordering::Relaxed;
        if self.began_tsc == 0 {
            self.began_tsc = tsc();
        }
        let context = cpu.context();
        if cpu.ns(tsc().saturating_sub(self.began_tsc)) < SPIN_NS
            || context.masked()
            || context.in_interrupt()
            || cpu.area.ticks.load(Relaxed) == 0
        {
            core::hint::spin_loop();
            return;
        }
        let open = cpu.ops.irq_save(cpu);
        if !ready() {
            cpu.ops.halt(cpu);
        }
        cpu.ops.irq_restore(cpu, open);
    }
}
