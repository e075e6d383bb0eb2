//! One CPU, as the kernel sees it.

use crate::arch::PrivOps;
use crate::sched::Sched;
use crate::sched::bottom_half::{self, add};
use crate::{Sightings, TickPhase};
use core::sync::atomic::Ordering::{Relaxed, SeqCst};
use core::sync::atomic::{AtomicBool, AtomicU32, compiler_fence};
use underfoot_abi::{Context, Header, ThreadWords, VcpuArea, Wait};

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
    /// The scheduler.
    pub sched: &'static dyn Sched,
    /// Where the ticks of all CPUs last found them.
    pub sightings: &'static Sightings,
    /// When its ticks are due.
    pub tick_phase: TickPhase,
    /// Writes to the console, from anywhere.
    pub console: fn(&[u8]),
    /// What keeps this CPU from changing threads.
    pub hold: Hold,
}

/// What keeps a CPU from changing threads and from running bottom halves. Only that CPU touches it;
/// interrupt handlers leave the counts as they find them.
#[derive(Debug, Default)]
pub struct Hold {
    preempt: AtomicU32,
    bottom_half: AtomicU32,
    /// Another thread should run as soon as that is possible.
    pub reschedule: AtomicBool,
    /// Bottom halves that were raised, a bit each.
    pub raised: AtomicU32,
}

impl Hold {
    /// Nothing is held.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            preempt: AtomicU32::new(0),
            bottom_half: AtomicU32::new(0),
            reschedule: AtomicBool::new(false),
            raised: AtomicU32::new(0),
        }
    }

    /// Whether the CPU may change threads.
    #[must_use]
    pub fn is_preemptible(&self) -> bool {
        self.preempt.load(Relaxed) == 0 && self.bottom_half.load(Relaxed) == 0
    }

    /// Whether all that keeps the CPU from changing threads is one [`Cpu::preempt_disable`].
    #[must_use]
    pub fn is_preemptible_but_for_one(&self) -> bool {
        self.preempt.load(Relaxed) == 1 && self.bottom_half.load(Relaxed) == 0
    }

    /// Lets the CPU change threads in the midst of as many [`Cpu::preempt_disable`] as are returned; interrupts are
    /// masked.
    pub fn set_aside(&self) -> u32 {
        self.preempt.swap(0, Relaxed)
    }

    /// Undoes [`Self::set_aside`], when its thread runs again.
    pub fn put_back(&self, preempt: u32) {
        self.preempt.store(preempt, Relaxed);
    }

    /// Whether bottom halves are raised, and nothing holds them back.
    #[must_use]
    pub(crate) fn has_due(&self) -> bool {
        bottom_half::is_due(&self.bottom_half, &self.raised)
    }

    /// Gives `handle` the bottom halves that are raised, until none is left. Interrupts are masked;
    /// `handle` opens them meanwhile.
    #[cfg(not(loom))]
    pub(crate) fn run_bottom_halves(&self, handle: impl FnMut(u32)) {
        bottom_half::run(&self.bottom_half, &self.raised, handle);
    }

    /// Whether bottom halves are held back.
    #[must_use]
    pub fn holds_bottom_halves(&self) -> bool {
        self.bottom_half.load(Relaxed) != 0
    }
}

impl Cpu {
    /// Converts TSC ticks into nanoseconds.
    #[inline]
    #[must_use]
    pub fn ns(&self, ticks: u64) -> u64 {
        ((u128::from(ticks) * u128::from(self.ns_per_tick_q32)) >> 32) as u64
    }

    /// Keeps this CPU from changing threads until [`Self::preempt_enable`]. Nests.
    #[inline]
    pub fn preempt_disable(&self) {
        add(&self.hold.preempt, 1);
    }

    /// Undoes one [`Self::preempt_disable`], and changes threads if somebody wanted that meanwhile.
    #[inline]
    pub fn preempt_enable(&self) {
        compiler_fence(SeqCst);
        let left = add(&self.hold.preempt, u32::MAX);
        if left == 0 && self.hold.reschedule.load(Relaxed) {
            self.sched.preempt(self);
        }
    }

    /// Keeps bottom halves from running on this CPU until [`Self::bottom_half_enable`], and the CPU
    /// from changing threads. Nests.
    #[inline]
    pub fn bottom_half_disable(&self) {
        add(&self.hold.bottom_half, 1);
    }

    /// Undoes one [`Self::bottom_half_disable`]; what was raised meanwhile runs.
    #[inline]
    pub fn bottom_half_enable(&self) {
        compiler_fence(SeqCst);
        if bottom_half::release(&self.hold.bottom_half, &self.hold.raised) {
            self.sched.bottom_halves(self);
        }
        if !self.hold.holds_bottom_halves() && self.hold.reschedule.load(Relaxed) {
            self.sched.preempt(self);
        }
    }

    /// Interrupts were opened: what was held back while they were masked has its turn.
    #[inline]
    pub(crate) fn interrupts_opened(&self) {
        if self.hold.has_due() {
            self.sched.bottom_halves(self);
        }
        if self.hold.reschedule.load(Relaxed) && self.hold.is_preemptible() {
            self.sched.preempt(self);
        }
    }

    /// Has bottom half `bit` run on this CPU as soon as interrupts and bottom halves allow it.
    #[inline]
    pub fn raise(&self, bit: u32) {
        bottom_half::raise(&self.hold.raised, bit);
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

    /// What the running thread says of itself.
    #[inline]
    #[must_use]
    pub fn thread_words(&self) -> &'static ThreadWords {
        &self.header.threads[self.sched.current(self).0 as usize]
    }

    /// Publishes that a spinlock is held from now on, by its identity.
    #[inline]
    pub(crate) fn took(&self, lock: u32) {
        self.context_add(Context::LOCK_ONE);
        self.area.holds.took(lock);
    }

    /// Undoes [`Self::took`].
    #[inline]
    pub(crate) fn let_go(&self, lock: u32) {
        self.area.holds.let_go(lock);
        self.context_sub(Context::LOCK_ONE);
    }

    /// Publishes what this CPU waits for.
    #[inline]
    pub fn waits_for(&self, wait: Wait, object: u32) {
        self.area
            .context
            .store(self.context().with_wait(wait, object).0, Relaxed);
    }
}
