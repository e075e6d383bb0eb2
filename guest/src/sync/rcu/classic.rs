//! Classic RCU: a section keeps its CPU from changing threads, so that a CPU that does is quiescent.
//!
//! A bottom half is as good as a section: no thread changes there, and its tick finds no quiescent state. So one that
//! never ends holds a grace period up, and is told as a stall (Linux since 4.20, where RCU-bh became RCU:
//! Documentation/RCU/Design/Requirements/Requirements.rst, "Bottom-Half Flavor").

use super::{
    RcuCallback, RcuHead, RcuKind, RcuStall,
    callbacks::{Callbacks, GracePeriods},
    periods::Periods,
    sequence::{Culprits, Sequence},
};
use crate::{Cpu, record::Span, sync::atomic::const_fn};
use core::{
    ptr::NonNull,
    sync::atomic::{
        Ordering::{Relaxed, SeqCst},
        compiler_fence,
    },
};
use underfoot_abi::{Context, Metric, Variant};

/// A grace-period machine of the classic kind, and its callbacks.
///
/// Only explicit read sections and bottom halves hold a grace period up; masked interrupts do not.
pub struct Rcu {
    pub(super) periods: Periods,
    pub(super) callbacks: Callbacks,
}

impl Rcu {
    const_fn! {
        /// A machine that knows no CPU yet. A grace period older than `stall_timeout_ns` is told
        /// to `report`, once, in the tick of the CPU that finds it.
        #[must_use]
        pub fn new(stall_timeout_ns: u64, report: fn(&Cpu, &RcuStall)) -> Self {
            Self {
                periods: Periods::new(
                    RcuKind::Classic,
                    stall_timeout_ns,
                    report,
                    Variant::RcuClassicBusted,
                ),
                callbacks: Callbacks::new(),
            }
        }
    }

    /// Enters a read section, which may nest and must neither sleep nor wait for a grace period.
    #[inline]
    pub fn read_lock<'a>(&'a self, cpu: &'a Cpu) -> RcuGuard<'a> {
        cpu.preempt_disable();
        let span = (cpu.context().rcu_depth() == 0).then(|| Span::start(cpu));
        cpu.context_add(Context::RCU_ONE);
        // A tick on this CPU must not find the depth unchanged while the section already reads.
        compiler_fence(SeqCst);
        RcuGuard {
            rcu: self,
            cpu,
            span,
        }
    }

    /// The number of grace periods completed.
    #[must_use]
    pub fn completed(&self) -> u64 {
        self.periods.sequence.completed()
    }

    /// This CPU has come up, or leaves its idle loop: it counts from now on.
    pub fn idle_exit(&self, cpu: &Cpu) {
        self.periods.activate(cpu);
    }

    /// This CPU goes idle (or offline): an extended quiescent state until [`Self::idle_exit`]. Its
    /// interrupt handlers must not enter read sections meanwhile.
    pub fn idle_enter(&self, cpu: &Cpu) {
        self.periods.deactivate(cpu);
        self.quiescent(cpu);
    }

    /// This CPU is in no read section: reports it if a grace period waits for that. Every change of
    /// threads is such a moment.
    #[inline]
    pub fn quiescent(&self, cpu: &Cpu) {
        debug_assert_eq!(cpu.context().rcu_depth(), 0, "quiescent in a read section");
        if self.periods.waits_for(cpu) {
            self.periods.report(cpu);
        }
    }

    /// The timer tick: reports a quiescent state if the tick interrupted none of this CPU's read
    /// sections, nor a bottom half (`interrupted` is the context word from before the interrupt), and
    /// looks for a stalled grace period.
    pub fn tick(&self, cpu: &Cpu, interrupted: Context) {
        self.notice(cpu, interrupted);
        self.periods.heed_host(cpu);
        self.periods.sequence.check(cpu, || Culprits {
            cpus: self.periods.waiting(),
            reader: None,
        });
    }

    /// The interrupt of an expedited wait: as the tick; a section that was interrupted reports when it
    /// ends, a bottom half at the next tick.
    pub fn ipi(&self, cpu: &Cpu, interrupted: Context) {
        if self.notice(cpu, interrupted) {
            // The section's end looks at this anyway, so that it costs readers nothing.
            cpu.hold.reschedule.store(true, Relaxed);
        }
    }

    /// Reports a quiescent state if there is one; whether a section is in the way of it.
    fn notice(&self, cpu: &Cpu, interrupted: Context) -> bool {
        if !self.periods.waits_for(cpu) {
            return false;
        }
        let reads = interrupted.rcu_depth() != 0 || interrupted.in_bottom_half();
        if !reads {
            self.periods.report(cpu);
        }
        reads
    }

    /// Waits for a full grace period (for ever under [`Variant::RcuStall`]); sleeps. Must not be
    /// called in a read section, in an interrupt, or with a lock held that a reader waits for.
    pub fn synchronize(&self, cpu: &Cpu) {
        let target = self.want(cpu);
        self.periods.wait(cpu, target, || self.quiescent(cpu));
    }

    /// The same as soon as possible: interrupts the CPUs that are waited for.
    pub fn synchronize_expedited(&self, cpu: &Cpu) {
        let target = self.want(cpu);
        self.periods.expedite(cpu, target, || self.quiescent(cpu));
    }

    /// Asks for a grace period that begins after now; its number.
    pub(super) fn want(&self, cpu: &Cpu) -> u64 {
        let target = self.periods.sequence.snapshot();
        self.periods.sequence.ask(target);
        self.periods.start(cpu);
        target
    }

    /// Has `callback` called with `head` and `value` after a grace period, by this CPU, in
    /// [`Self::process`]. From anywhere.
    ///
    /// # Safety
    /// `head` is valid and in no list until the callback is called, and the callback may then be
    /// called with it.
    pub unsafe fn call(
        &self,
        cpu: &Cpu,
        head: NonNull<RcuHead>,
        callback: RcuCallback,
        value: usize,
    ) {
        // SAFETY: the caller's promise.
        unsafe { self.call_sized(cpu, head, callback, value, 0) }
    }

    /// The same where `bytes` of memory wait to be freed by it, for the [`Backlog`](super::Backlog).
    ///
    /// # Safety
    /// As [`Self::call`].
    pub unsafe fn call_sized(
        &self,
        cpu: &Cpu,
        head: NonNull<RcuHead>,
        callback: RcuCallback,
        value: usize,
        bytes: u32,
    ) {
        let what = (callback, value, bytes);
        // SAFETY: the caller's promise.
        unsafe { self.callbacks.call(cpu, self, head, what) }
    }

    /// Runs this CPU's callbacks whose grace period is over (a bounded number of them), and asks for
    /// the next grace period if there are more. Returns whether some that could run are left. In a
    /// bottom half or a thread, outside of read sections.
    pub fn process(&self, cpu: &Cpu) -> bool {
        self.callbacks.process(cpu, self)
    }

    /// Runs every callback of every CPU at once.
    ///
    /// # Safety
    /// No CPU is in a read section, or will enter one before this returns.
    pub unsafe fn drain(&self, cpu: &Cpu) {
        // SAFETY: the caller's promise.
        unsafe { self.callbacks.drain(cpu) }
    }
}

impl GracePeriods for Rcu {
    fn sequence(&self) -> &Sequence {
        &self.periods.sequence
    }

    fn advance(&self, cpu: &Cpu) {
        self.periods.start(cpu);
    }
}

/// A read section; dropped, it is over.
#[must_use]
pub struct RcuGuard<'a> {
    rcu: &'a Rcu,
    cpu: &'a Cpu,
    /// `Some` in the outermost section.
    span: Option<Span>,
}

impl Drop for RcuGuard<'_> {
    #[inline]
    fn drop(&mut self) {
        // A tick on this CPU must not find the section over while it still reads.
        compiler_fence(SeqCst);
        self.cpu.context_sub(Context::RCU_ONE);
        if let Some(span) = self.span {
            if self.cpu.hold.reschedule.load(Relaxed) {
                self.rcu.quiescent(self.cpu);
            }
            span.finish(self.cpu, Metric::RcuRead);
        }
        self.cpu.preempt_enable();
    }
}
