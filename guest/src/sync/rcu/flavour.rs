//! The kinds of RCU behind one interface.

use super::{
    Backlog, PreemptGuard, PreemptRcu, Rcu, RcuCallback, RcuGuard, RcuHead, SrcuDomain, SrcuGuard,
};
use crate::{
    Cpu,
    sched::{ThreadId, ThreadLocal},
};
use core::ptr::NonNull;
use underfoot_abi::Context;

/// Which kind of RCU. The discriminants are the order of a workload's choices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum RcuKind {
    /// Sections are not preempted.
    Classic = 0,
    /// Sections may be preempted.
    Preemptible = 1,
    /// Sections may sleep.
    Sleepable = 2,
}

impl RcuKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Classic, Self::Preemptible, Self::Sleepable];

    /// What it is called.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Classic => "classic",
            Self::Preemptible => "preemptible",
            Self::Sleepable => "sleepable",
        }
    }
}

/// A machine of some kind. What a kind has no use for does nothing, so that a kernel calls each hook
/// for each machine that it has.
#[derive(Clone, Copy)]
pub enum RcuFlavour<'a> {
    /// See [`Rcu`].
    Classic(&'a Rcu),
    /// See [`PreemptRcu`].
    Preemptible(&'a PreemptRcu),
    /// See [`SrcuDomain`].
    Sleepable(&'a SrcuDomain),
}

/// A read section of some kind; dropped, it is over.
#[must_use]
pub enum FlavourGuard<'a> {
    /// Of [`Rcu`].
    Classic(RcuGuard<'a>),
    /// Of [`PreemptRcu`].
    Preemptible(PreemptGuard<'a>),
    /// Of [`SrcuDomain`].
    Sleepable(SrcuGuard<'a>),
}

/// Does the same with a machine of any kind.
macro_rules! each {
    ($flavour:expr, $rcu:ident => $do:expr) => {
        match $flavour {
            RcuFlavour::Classic($rcu) => $do,
            RcuFlavour::Preemptible($rcu) => $do,
            RcuFlavour::Sleepable($rcu) => $do,
        }
    };
}

impl<'a> RcuFlavour<'a> {
    /// Which kind it is.
    #[must_use]
    pub const fn kind(self) -> RcuKind {
        match self {
            Self::Classic(_) => RcuKind::Classic,
            Self::Preemptible(_) => RcuKind::Preemptible,
            Self::Sleepable(_) => RcuKind::Sleepable,
        }
    }

    /// Boosts readers that hold up a grace period older than `after_ns`; `None` turns that off. Only
    /// the preemptible kind has such readers.
    pub fn set_boost(self, after_ns: Option<u64>) {
        if let Self::Preemptible(rcu) = self {
            rcu.set_boost(after_ns);
        }
    }

    /// Readers of CPU `id` that were boosted so far.
    #[must_use]
    pub fn boosts(self, id: usize) -> u64 {
        match self {
            Self::Preemptible(rcu) => rcu.boosts(id),
            Self::Classic(_) | Self::Sleepable(_) => 0,
        }
    }

    /// Enters a read section, which may nest.
    #[inline]
    #[track_caller]
    pub fn read_lock<'b>(self, cpu: &'b Cpu) -> FlavourGuard<'b>
    where
        'a: 'b,
    {
        match self {
            Self::Classic(rcu) => FlavourGuard::Classic(rcu.read_lock(cpu)),
            Self::Preemptible(rcu) => FlavourGuard::Preemptible(rcu.read_lock(cpu)),
            Self::Sleepable(rcu) => FlavourGuard::Sleepable(rcu.read_lock(cpu)),
        }
    }

    /// Waits for a full grace period; sleeps. Not in a read section, nor in an interrupt.
    pub fn synchronize(self, cpu: &Cpu) {
        each!(self, rcu => rcu.synchronize(cpu));
    }

    /// The same as soon as possible, whatever it costs the others.
    pub fn synchronize_expedited(self, cpu: &Cpu) {
        each!(self, rcu => rcu.synchronize_expedited(cpu));
    }

    /// Has `callback` called with `head` and `value` after a grace period, by this CPU, in
    /// [`Self::process`]; `bytes` of memory wait to be freed by it. From anywhere.
    ///
    /// # Safety
    /// `head` is valid and in no list until the callback is called, and the callback may then be
    /// called with it.
    pub unsafe fn call(
        self,
        cpu: &Cpu,
        head: NonNull<RcuHead>,
        callback: RcuCallback,
        value: usize,
        bytes: u32,
    ) {
        let what = (callback, value, bytes);
        // SAFETY: the caller's promise.
        each!(self, rcu => unsafe { rcu.callbacks.call(cpu, rcu, head, what) });
    }

    /// Runs this CPU's callbacks whose grace period is over (a bounded number of them), and moves
    /// grace periods on. Returns whether some that could run are left. In a bottom half or a thread,
    /// outside of read sections.
    pub fn process(self, cpu: &Cpu) -> bool {
        each!(self, rcu => rcu.callbacks.process(cpu, rcu))
    }

    /// Has all other CPUs on which callbacks wait run those soon whose grace period is over (as far as Linux's
    /// `rcu_barrier` hurries them); whether there are any.
    pub fn hurry_others(self, cpu: &Cpu) -> bool {
        each!(self, rcu => rcu.callbacks.hurry_others(cpu))
    }

    /// In an inter-processor interrupt: whether another CPU wants this CPU's bottom half raised, by
    /// [`Self::hurry_others`].
    pub fn is_hurried(self, cpu: &Cpu) -> bool {
        each!(self, rcu => rcu.callbacks.is_hurried(cpu))
    }

    /// Callbacks that are done, of all CPUs so far.
    #[must_use]
    pub fn done(self) -> u64 {
        each!(self, rcu => rcu.callbacks.done())
    }

    /// In the tick, where callbacks wait on this CPU: has the next grace period begin without the bottom half, which may
    /// be stuck in one of them; that grace period is then told as a stall. Of the classic kind, which waits for bottom
    /// halves.
    pub fn advance(self, cpu: &Cpu) {
        if let Self::Classic(rcu) = self {
            rcu.callbacks.advance(cpu, rcu);
        }
    }

    /// Whether callbacks wait on this CPU: its bottom half is to be raised on each tick, and its tick
    /// must not stop (Linux's `rcu_needs_cpu`).
    #[must_use]
    pub fn needs_cpu(self, cpu: &Cpu) -> bool {
        self.backlog(cpu.id).callbacks != 0
    }

    /// Runs every callback of every CPU at once.
    ///
    /// # Safety
    /// No thread is in a read section, or will enter one before this returns.
    pub unsafe fn drain(self, cpu: &Cpu) {
        // SAFETY: the caller's promise.
        each!(self, rcu => unsafe { rcu.callbacks.drain(cpu) });
    }

    /// What waits on CPU `id`.
    #[must_use]
    pub fn backlog(self, id: usize) -> Backlog {
        each!(self, rcu => rcu.callbacks.backlog(id))
    }

    /// The number of grace periods completed.
    #[must_use]
    pub fn completed(self) -> u64 {
        each!(self, rcu => rcu.completed())
    }

    /// The running thread is in no read section.
    #[inline]
    pub fn quiescent(self, cpu: &Cpu) {
        match self {
            Self::Classic(rcu) => rcu.quiescent(cpu),
            Self::Preemptible(rcu) => rcu.quiescent(cpu),
            Self::Sleepable(_) => {}
        }
    }

    /// `thread`, which keeps `local`, is switched out, preempted or about to sleep. With interrupts
    /// masked, while it is still the current one.
    #[inline]
    pub fn note_switch(self, cpu: &Cpu, local: &ThreadLocal, thread: ThreadId) {
        match self {
            Self::Classic(rcu) => rcu.quiescent(cpu),
            Self::Preemptible(rcu) => rcu.note_switch(cpu, local, thread),
            Self::Sleepable(_) => {}
        }
    }

    /// The timer tick, which interrupted the CPU while its context word was `interrupted`.
    pub fn tick(self, cpu: &Cpu, interrupted: Context) {
        match self {
            Self::Classic(rcu) => rcu.tick(cpu, interrupted),
            Self::Preemptible(rcu) => rcu.tick(cpu),
            Self::Sleepable(rcu) => rcu.tick(cpu),
        }
    }

    /// An inter-processor interrupt, perhaps that of an expedited wait.
    pub fn ipi(self, cpu: &Cpu, interrupted: Context) {
        match self {
            Self::Classic(rcu) => rcu.ipi(cpu, interrupted),
            Self::Preemptible(rcu) => rcu.ipi(cpu),
            Self::Sleepable(_) => {}
        }
    }

    /// This CPU goes idle or offline, its interrupt handlers entering no read sections meanwhile.
    pub fn idle_enter(self, cpu: &Cpu) {
        match self {
            Self::Classic(rcu) => rcu.idle_enter(cpu),
            Self::Preemptible(rcu) => rcu.idle_enter(cpu),
            Self::Sleepable(_) => {}
        }
    }

    /// This CPU has come up, or leaves its idle loop.
    pub fn idle_exit(self, cpu: &Cpu) {
        match self {
            Self::Classic(rcu) => rcu.idle_exit(cpu),
            Self::Preemptible(rcu) => rcu.idle_exit(cpu),
            Self::Sleepable(_) => {}
        }
    }
}
