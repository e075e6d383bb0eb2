//! Grace periods that wait for CPUs: what the classic and the preemptible kind have in common.

use super::{
    super::atomic::{
        AtomicU64,
        Ordering::{AcqRel, Acquire, Relaxed, Release},
        const_fn,
    },
    RcuKind, RcuStall, bit, published,
    sequence::Sequence,
};
use crate::Cpu;
use underfoot_abi::Variant;

/// A grace period with a bit for each CPU that it still waits for.
///
/// Grace periods take no lock: a tick may interrupt any of this.
pub(super) struct Periods {
    pub(super) sequence: Sequence,
    /// CPUs that the grace period in progress still waits for.
    waiting: AtomicU64,
    /// CPUs that are online and not idle.
    active: AtomicU64,
    /// Whether the host is told of them.
    published: bool,
    /// The busted variant in which only the CPU that starts a grace period is waited for.
    busted: Variant,
}

impl Periods {
    const_fn! {
        pub(super) fn new(
            kind: RcuKind,
            stall_timeout_ns: u64,
            report: fn(&Cpu, &RcuStall),
            busted: Variant,
        ) -> Self {
            Self {
                sequence: Sequence::new(kind, stall_timeout_ns, report),
                waiting: AtomicU64::new(0),
                active: AtomicU64::new(0),
                published: matches!(kind, RcuKind::Classic),
                busted,
            }
        }
    }

    /// CPUs that the grace period in progress still waits for.
    pub(super) fn waiting(&self) -> u64 {
        self.waiting.load(Acquire)
    }

    /// Whether the grace period in progress waits for this CPU. If so, this CPU's next sections see
    /// what was removed before it began, and only [`Self::report`] on this CPU lets it end.
    #[inline]
    pub(super) fn waits_for(&self, cpu: &Cpu) -> bool {
        // Pairs with the release in `try_start`.
        self.waiting.load(Acquire) & bit(cpu) != 0
    }

    /// This CPU has come up, or leaves its idle loop: it counts from now on.
    pub(super) fn activate(&self, cpu: &Cpu) {
        // AcqRel, and a read-modify-write: if a grace period has counted this CPU as quiescent, the
        // sections that follow see what was removed before that grace period began.
        self.active.fetch_or(bit(cpu), AcqRel);
    }

    /// This CPU goes idle or offline; it then looks whether it is waited for.
    pub(super) fn deactivate(&self, cpu: &Cpu) {
        // Read-modify-write, as both of `try_start`'s: if this one comes before the second of them,
        // the starter sees this CPU idle; else it acquires the starter's store of `waiting`, and
        // this CPU sees that it is waited for.
        self.active.fetch_and(!bit(cpu), AcqRel);
    }

    /// This CPU holds the grace period in progress up no more, if it did.
    pub(super) fn report(&self, cpu: &Cpu) {
        if is_mute(cpu) {
            return;
        }
        // Whoever cleared the last bit ends the grace period: it must not be preempted before.
        let open = cpu.ops.irq_save(cpu);
        if self.published {
            published::passed(cpu, self.sequence.number());
        }
        if self.clear(bit(cpu)) {
            self.finish(cpu);
            self.start_masked(cpu);
        }
        cpu.ops.irq_restore(cpu, open);
    }

    /// Whether `mask` held the last CPUs that were waited for. Only the CPU itself clears its bit,
    /// or the starter while its own bit keeps the grace period from ending: a bit is never cleared
    /// for a later grace period than the one it was meant for, unless that is as true of it.
    fn clear(&self, mask: u64) -> bool {
        // Release: the sections before are over; acquire: the last to clear has seen them all end.
        let before = self.waiting.fetch_and(!mask, AcqRel);
        before & mask != 0 && before & !mask == 0
    }

    /// Starts a grace period if one is wanted and none is in progress.
    pub(super) fn start(&self, cpu: &Cpu) {
        if !self.sequence.is_wanted() {
            return;
        }
        // A tick in here could report this CPU, whose bit guards the grace period below.
        let open = cpu.ops.irq_save(cpu);
        self.start_masked(cpu);
        cpu.ops.irq_restore(cpu, open);
    }

    fn start_masked(&self, cpu: &Cpu) {
        while self.try_start(cpu) {
            self.finish(cpu);
        }
    }

    fn finish(&self, cpu: &Cpu) {
        if self.published {
            // Before another one can begin, and publish its own number.
            published::over(cpu, self.sequence.number());
        }
        self.sequence.finish(cpu);
    }

    /// Whether a grace period was started that is over already, all CPUs being idle.
    fn try_start(&self, cpu: &Cpu) -> bool {
        if !self.sequence.try_begin(cpu) {
            return false;
        }
        let me = bit(cpu);
        // Read-modify-write: it is what an idle CPU's `activate` then synchronises with.
        let online = self.active.fetch_or(0, AcqRel);
        let others = if self.is_busted(cpu) { 0 } else { online };
        self.waiting.store(others | me, Release);
        // Again: who went idle before this read-modify-write may not have seen `waiting`.
        let active = self.active.fetch_or(0, AcqRel);
        let idle = self.waiting.load(Relaxed) & !active & !me;
        // This CPU's bit is still set, so this is still the same grace period.
        let over = idle != 0 && self.clear(idle);
        debug_assert!(!over, "the starter's own bit is set");
        if self.published {
            published::began(cpu, self.sequence.number(), self.waiting.load(Relaxed));
        }
        active & me == 0 && self.clear(me)
    }

    fn is_busted(&self, cpu: &Cpu) -> bool {
        self.busted != Variant::None && cpu.header.variant == self.busted as u32
    }

    /// Starts a grace period if the host asks for one.
    pub(super) fn heed_host(&self, cpu: &Cpu) {
        if let Some(target) = published::wanted(cpu, self.sequence.number()) {
            self.sequence.ask(target);
            self.start(cpu);
        }
    }

    /// Waits until the number has come to `target`; `turn` reports this CPU.
    pub(super) fn wait(&self, cpu: &Cpu, target: u64, turn: impl Fn()) {
        let turn = || {
            turn();
            self.start(cpu);
        };
        self.sequence
            .wait(cpu, target, turn, || cpu.sched.park(cpu));
    }

    /// The same, with every CPU that is waited for interrupted, once in each grace period, so that
    /// it reports as soon as it can (Linux's `synchronize_rcu_expedited`,
    /// Documentation/RCU/Design/Expedited-Grace-Periods/Expedited-Grace-Periods.rst).
    pub(super) fn expedite(&self, cpu: &Cpu, target: u64, turn: impl Fn()) {
        let turn = || {
            turn();
            self.start(cpu);
        };
        let mut kicked = u64::MAX;
        self.sequence.wait(cpu, target, turn, || {
            let number = self.sequence.number();
            let others = self.waiting.load(Relaxed) & !bit(cpu);
            if number != kicked && others != 0 {
                kicked = number;
                kick(cpu, others);
            }
            // Without others to report there is nothing to sleep for: this CPU's turn comes next, or
            // somebody is just about to start or to end a grace period.
            if kicked == number {
                cpu.sched.park(cpu);
            } else {
                cpu.sched.yield_now(cpu);
            }
        });
    }
}

fn kick(cpu: &Cpu, mut mask: u64) {
    while mask != 0 {
        cpu.ops.kick(cpu, mask.trailing_zeros() as usize);
        mask &= mask - 1;
    }
}

/// Whether this CPU keeps its quiescent states to itself: the last one of the busted variant.
#[cold]
fn is_mute(cpu: &Cpu) -> bool {
    cpu.header.variant == Variant::RcuStall as u32 && cpu.id + 1 == cpu.header.cpus as usize
}
