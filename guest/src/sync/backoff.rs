//! How a CPU waits for another one.

use super::atomic::{
    AtomicU64,
    Ordering::{Relaxed, SeqCst},
    const_fn, fence,
};
use crate::Cpu;
use crate::arch::tsc;

/// Spinning for this long costs less than a halt and what ends it.
const SPIN_NS: u64 = 50_000;

/// The CPUs that halted while they wait for something, to be kicked when it may have come: the
/// protocol of Linux's paravirtualised spinlocks (`pv_wait` and `pv_kick` in
/// kernel/locking/qspinlock_paravirt.h), with a mask instead of a hash of waiters.
///
/// Zero is empty.
#[derive(Debug, Default)]
pub(crate) struct Sleepers(AtomicU64);

impl Sleepers {
    const_fn! {
        pub(crate) fn new() -> Self {
            Self(AtomicU64::new(0))
        }
    }

    /// Makes it that of a new object.
    pub(super) fn reset(&self) {
        self.0.store(0, Relaxed);
    }

    /// Wakes whoever sleeps. What they wait for must have been stored before.
    #[inline]
    pub(crate) fn kick(&self, cpu: &Cpu) {
        let mask = self.mask();
        if mask != 0 {
            Self::kick_each(cpu, mask);
        }
    }

    /// Wakes one of those who sleep: the next after this CPU, so that all have their turn.
    #[inline]
    pub(super) fn kick_one(&self, cpu: &Cpu) {
        let mask = self.mask();
        if mask != 0 {
            let first = cpu.id as u32 + 1;
            let next = (mask.rotate_right(first).trailing_zeros() + first) % u64::BITS;
            Self::kick_each(cpu, 1 << next);
        }
    }

    /// Wakes CPU `id` if it sleeps.
    #[inline]
    pub(super) fn kick_cpu(&self, cpu: &Cpu, id: usize) {
        let mask = self.mask() & 1 << id;
        if mask != 0 {
            Self::kick_each(cpu, mask);
        }
    }

    /// Who sleeps, as of after the caller's last store.
    #[inline]
    fn mask(&self) -> u64 {
        // Pairs with the fence in `enlist`: this CPU sees the sleeper, or the sleeper sees that its
        // wait is over.
        fence(SeqCst);
        self.0.load(Relaxed)
    }

    #[cold]
    fn kick_each(cpu: &Cpu, mut mask: u64) {
        while mask != 0 {
            cpu.ops.kick(cpu, mask.trailing_zeros() as usize);
            mask &= mask - 1;
        }
    }

    /// Halts this CPU unless the wait is over; interrupts, kicks among them, end the halt.
    pub(super) fn halt(&self, cpu: &Cpu, over: impl Fn() -> bool) {
        self.enlist(cpu);
        halt_unless(cpu, over);
        self.0.fetch_and(!(1 << cpu.id), Relaxed);
    }

    /// From here on this CPU is kicked; only then may it look whether its wait is over.
    pub(super) fn enlist(&self, cpu: &Cpu) {
        self.0.fetch_or(1 << cpu.id, Relaxed);
        // Pairs with the fence in `mask`.
        fence(SeqCst);
    }
}

/// A wait that spins first and then halts, so that on an overcommitted host the CPU waited for can
/// run. The halt ends with a kick, if there are `Sleepers` to be kicked, or with the next tick.
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
        self.pause_among(cpu, None, ready);
    }

    /// As [`Self::pause`], to be kicked through `sleepers`.
    #[inline]
    pub(crate) fn pause_among(
        &mut self,
        cpu: &Cpu,
        sleepers: Option<&Sleepers>,
        ready: impl Fn() -> bool,
    ) {
        if self.is_patient(cpu) {
            relax();
            return;
        }
        if cpu.hold.is_preemptible() && !cpu.sched.is_alone(cpu) {
            // A thread that halted its CPU would keep the others from running there.
            cpu.sched.sleep_ns(cpu, 0);
            return;
        }
        match sleepers {
            Some(sleepers) => sleepers.halt(cpu, ready),
            None => halt_unless(cpu, ready),
        }
    }

    /// Whether to go on spinning. A model has no time, and a test's threads have no interrupts.
    fn is_patient(&mut self, cpu: &Cpu) -> bool {
        if cfg!(any(test, loom)) {
            return true;
        }
        if self.began_tsc == 0 {
            self.began_tsc = tsc();
        }
        let context = cpu.context();
        cpu.ns(tsc().saturating_sub(self.began_tsc)) < SPIN_NS
            || context.masked()
            || context.in_interrupt()
            || cpu.area.ticks.load(core::sync::atomic::Ordering::Relaxed) == 0
    }
}

/// One turn of a spinning wait; in a model and in tests, where CPUs are threads, the others' turn.
fn relax() {
    #[cfg(loom)]
    loom::thread::yield_now();
    #[cfg(all(test, not(loom)))]
    std::thread::yield_now();
    #[cfg(not(any(test, loom)))]
    core::hint::spin_loop();
}

/// Halts until the next interrupt, unless the wait is over.
fn halt_unless(cpu: &Cpu, over: impl Fn() -> bool) {
    let open = cpu.ops.irq_save(cpu);
    if !over() {
        cpu.ops.halt(cpu);
    }
    cpu.ops.irq_restore(cpu, open);
}
