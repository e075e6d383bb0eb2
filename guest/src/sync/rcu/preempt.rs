//! Preemptible RCU: a thread may be switched out in a section, and is waited for by name.
//!
//! What is taken from Linux (kernel/rcu/tree_plugin.h: `rcu_note_context_switch`,
//! `rcu_read_unlock_special`, `rcu_boost`; Documentation/RCU/Design/Requirements/Requirements.rst,
//! "Scheduler and RCU"): the nesting count of the thread instead of a state of its CPU; a switch
//! inside of a section is a quiescent state of the CPU all the same, the thread being put on a list of
//! readers that the grace period waits for instead; the end of such a section takes a slow path that
//! is marked beforehand; readers that hold up an old grace period get a priority that lets them run.
//!
//! Here a CPU's bit stays set for its readers too, so that one mask says who is waited for.

use super::{
    CPUS, RcuKind, RcuStall,
    callbacks::{Callbacks, GracePeriods},
    periods::Periods,
    readers::{BLOCKED, BOOSTED, NEED_QS, ReaderState, Readers},
    sequence::{Culprits, Sequence},
};
use crate::{
    Cpu,
    record::Span,
    sched::{ThreadId, ThreadLocal},
    sync::atomic::const_fn,
};
use core::{
    panic::Location,
    sync::atomic::{
        AtomicU64,
        Ordering::{Relaxed, SeqCst},
        compiler_fence,
    },
};
use underfoot_abi::{Metric, Variant};

/// A grace-period machine of the preemptible kind, and its callbacks. There is one in a kernel: the
/// threads' [`ReaderState`] is its own.
pub struct PreemptRcu {
    periods: Periods,
    readers: [Readers; CPUS],
    /// Readers that hold up a grace period older than this are boosted.
    boost_after_ns: AtomicU64,
    pub(super) callbacks: Callbacks,
}

impl PreemptRcu {
    const_fn! {
        /// A machine that knows no CPU yet and boosts nobody. A grace period older than
        /// `stall_timeout_ns` is told to `report`, once, in the tick of the CPU that finds it.
        #[must_use]
        pub fn new(stall_timeout_ns: u64, report: fn(&Cpu, &RcuStall)) -> Self {
            Self {
                periods: Periods::new(
                    RcuKind::Preemptible,
                    stall_timeout_ns,
                    report,
                    Variant::None,
                ),
                readers: [const { Readers::new() }; CPUS],
                boost_after_ns: AtomicU64::new(u64::MAX),
                callbacks: Callbacks::new(),
            }
        }
    }

    /// Boosts readers that hold up a grace period older than `after_ns`; `None` turns that off.
    pub fn set_boost(&self, after_ns: Option<u64>) {
        self.boost_after_ns
            .store(after_ns.unwrap_or(u64::MAX), Relaxed);
    }

    /// Readers of CPU `id` that were boosted so far.
    #[must_use]
    pub fn boosts(&self, id: usize) -> u64 {
        self.readers[id].boosts.load(Relaxed)
    }

    /// Enters a read section, which may nest and may be preempted, but must not sleep for long nor
    /// wait for a grace period.
    #[inline]
    #[track_caller]
    pub fn read_lock<'a>(&'a self, cpu: &'a Cpu) -> PreemptGuard<'a> {
        let reader = &cpu.sched.local(cpu).rcu;
        let nesting = reader.nesting.load(Relaxed);
        let here = Location::caller();
        let span = (nesting == 0).then(|| {
            reader.enter(here);
            Span::start(cpu)
        });
        reader.nesting.store(nesting + 1, Relaxed);
        // A switch must not find the count unchanged while the section already reads.
        compiler_fence(SeqCst);
        PreemptGuard {
            rcu: self,
            cpu,
            reader,
            span,
        }
    }

    /// The end of a section that was switched out, or that a grace period waits for.
    #[cold]
    fn unlock_special(&self, cpu: &Cpu, reader: &ReaderState) {
        let open = cpu.ops.irq_save(cpu);
        self.release(cpu, reader);
        self.pass(cpu);
        cpu.ops.irq_restore(cpu, open);
    }

    /// The thread is out of its section: what was marked for that is done. With interrupts masked.
    fn release(&self, cpu: &Cpu, reader: &ReaderState) {
        let special = reader.special.load(Relaxed);
        reader.special.store(0, Relaxed);
        if special & BLOCKED != 0 {
            self.readers[cpu.id].remove(cpu, reader);
        }
        if special & BOOSTED != 0 {
            let thread = cpu.sched.current(cpu);
            cpu.sched.boost(cpu, thread, None);
        }
    }

    /// The thread whose state is `local` is switched out, preempted or about to sleep. With
    /// interrupts masked, while it is still the current one.
    pub fn note_switch(&self, cpu: &Cpu, local: &ThreadLocal, thread: ThreadId) {
        let reader = &local.rcu;
        let special = reader.special.load(Relaxed);
        if reader.nesting.load(Relaxed) == 0 {
            if special != 0 {
                // Between the last of its section and the slow path: that is done here.
                self.release(cpu, reader);
            }
        } else if special & BLOCKED == 0 && !is_busted(cpu) {
            let readers = &self.readers[cpu.id];
            readers.push(cpu, (reader, thread), self.first_held(cpu));
        }
        self.pass(cpu);
    }

    /// The first grace period that a section in progress on this CPU holds up.
    fn first_held(&self, cpu: &Cpu) -> u64 {
        let number = self.periods.sequence.number();
        if number & 1 == 0 {
            // An old value is older than need be, which only waits for more.
            number + 1
        } else if self.readers[cpu.id].passed.load(Relaxed) == number {
            // The section began after this CPU was quiescent in it.
            number + 2
        } else {
            number
        }
    }

    /// This CPU runs no section, or is about to leave it to another thread: its own part of the
    /// grace period is over. With interrupts masked.
    fn pass(&self, cpu: &Cpu) {
        if !self.periods.waits_for(cpu) {
            return;
        }
        // The grace period that waits for this CPU: it cannot end meanwhile.
        let number = self.periods.sequence.number();
        let readers = &self.readers[cpu.id];
        readers.passed.store(number, Relaxed);
        if !readers.hold_up(cpu, number) {
            self.periods.report(cpu);
        }
    }

    /// The running thread is in no read section: reports it if a grace period waits for that.
    #[inline]
    pub fn quiescent(&self, cpu: &Cpu) {
        if self.periods.waits_for(cpu) {
            self.notice(cpu);
        }
    }

    /// Reports a quiescent state, or marks the section that is in the way of it.
    #[cold]
    fn notice(&self, cpu: &Cpu) {
        let open = cpu.ops.irq_save(cpu);
        let reader = &cpu.sched.local(cpu).rcu;
        if reader.nesting.load(Relaxed) == 0 {
            self.pass(cpu);
        } else if self.periods.waits_for(cpu) {
            reader.mark(NEED_QS);
        }
        cpu.ops.irq_restore(cpu, open);
    }

    /// The timer tick: reports a quiescent state if it interrupted no section, boosts readers that
    /// hold up an old grace period, and looks for one that is stalled.
    pub fn tick(&self, cpu: &Cpu) {
        self.quiescent(cpu);
        self.boost(cpu);
        self.periods.sequence.check(cpu, || self.culprits(cpu));
    }

    /// The interrupt of an expedited wait.
    pub fn ipi(&self, cpu: &Cpu) {
        self.quiescent(cpu);
    }

    fn boost(&self, cpu: &Cpu) {
        let readers = &self.readers[cpu.id];
        let after_ns = self.boost_after_ns.load(Relaxed);
        if after_ns == u64::MAX || readers.is_empty() {
            return;
        }
        let open = cpu.ops.irq_save(cpu);
        // While it waits for this CPU it cannot end, so that age and number belong together.
        if self.periods.waits_for(cpu) && self.periods.sequence.age_ns(cpu) >= after_ns {
            readers.boost(cpu, self.periods.sequence.number());
        }
        cpu.ops.irq_restore(cpu, open);
    }

    fn culprits(&self, cpu: &Cpu) -> Culprits {
        let cpus = self.periods.waiting();
        let held = self.readers.iter().enumerate();
        Culprits {
            cpus,
            reader: held
                .filter(|(id, _)| cpus & (1 << id) != 0)
                .find_map(|(_, readers)| readers.oldest(cpu)),
        }
    }

    /// This CPU has come up, or leaves its idle loop: it counts from now on.
    pub fn idle_exit(&self, cpu: &Cpu) {
        self.periods.activate(cpu);
    }

    /// This CPU goes idle (or offline), until [`Self::idle_exit`]. If one of its threads sleeps in a
    /// section, the CPU goes on to count. Its interrupt handlers must not enter read sections
    /// meanwhile.
    pub fn idle_enter(&self, cpu: &Cpu) {
        let open = cpu.ops.irq_save(cpu);
        if self.readers[cpu.id].is_empty() {
            self.periods.deactivate(cpu);
        }
        self.pass(cpu);
        cpu.ops.irq_restore(cpu, open);
    }

    /// The number of grace periods completed.
    #[must_use]
    pub fn completed(&self) -> u64 {
        self.periods.sequence.completed()
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

    fn want(&self, cpu: &Cpu) -> u64 {
        let target = self.periods.sequence.snapshot();
        self.periods.sequence.ask(target);
        self.periods.start(cpu);
        target
    }
}

impl GracePeriods for PreemptRcu {
    fn sequence(&self) -> &Sequence {
        &self.periods.sequence
    }

    fn advance(&self, cpu: &Cpu) {
        self.periods.start(cpu);
    }
}

/// Whether readers that are switched out are forgotten.
fn is_busted(cpu: &Cpu) -> bool {
    cpu.header.variant == Variant::RcuPreemptBusted as u32
}

/// A read section; dropped, it is over.
#[must_use]
pub struct PreemptGuard<'a> {
    rcu: &'a PreemptRcu,
    cpu: &'a Cpu,
    reader: &'a ReaderState,
    /// `Some` in the outermost section.
    span: Option<Span>,
}

impl Drop for PreemptGuard<'_> {
    #[inline]
    fn drop(&mut self) {
        // A switch must not find the section over while it still reads.
        compiler_fence(SeqCst);
        let nesting = self.reader.nesting.load(Relaxed) - 1;
        self.reader.nesting.store(nesting, Relaxed);
        // Nor may it mark the section after this has looked, and still find it in progress.
        compiler_fence(SeqCst);
        if nesting == 0 && self.reader.special.load(Relaxed) != 0 {
            self.rcu.unlock_special(self.cpu, self.reader);
        }
        if let Some(span) = self.span {
            span.finish(self.cpu, Metric::RcuRead);
        }
    }
}
