//! Threads: what code that may sleep asks of the scheduler.
//!
//! A thread belongs to one CPU for life, as Linux's bound kthreads do, so that a `&Cpu` stays good
//! across a preemption. While [`Cpu::preempt_disable`] is in force the CPU changes threads neither
//! on a tick nor on a wake-up.

pub(crate) mod bottom_half;
#[cfg(any(not(loom), test))]
mod crossing;
mod local;
#[cfg(all(loom, test))]
mod loom_models;
#[cfg(not(loom))]
mod run_queue;
#[cfg(not(loom))]
mod scheduler;
#[cfg(not(loom))]
mod thread;
#[cfg(any(not(loom), test))]
mod token;

pub use local::ThreadLocal;
#[cfg(not(loom))]
pub use scheduler::{Hooks, Scheduler};
#[cfg(not(loom))]
pub use thread::Main;
pub use underfoot_abi::MAX_THREADS;

use crate::Cpu;

/// A thread, by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ThreadId(pub u32);

/// How urgent a thread is: among those that can run the greatest runs, those of the same priority by
/// turns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Priority(pub u8);

impl Priority {
    /// Runs only when nothing else can.
    pub const IDLE: Self = Self(0);
    /// What most threads have.
    pub const NORMAL: Self = Self(8);
    /// Who makes room in memory for others.
    pub const RECLAIM: Self = Self(12);
    /// A boosted reader.
    pub const BOOST: Self = Self(24);
}

/// The scheduler, as the rest of the kernel sees it. In the guest there is one; tests have one over
/// the threads of `std`, models one over loom's.
pub trait Sched: Sync {
    /// The thread that runs on this CPU.
    fn current(&self, cpu: &Cpu) -> ThreadId;
    /// What the running thread keeps for the primitives that it uses.
    fn local<'a>(&'a self, cpu: &'a Cpu) -> &'a ThreadLocal;
    /// The same of any thread.
    fn local_of(&self, thread: ThreadId) -> &ThreadLocal;
    /// Sleeps until [`Self::unpark`] is called for this thread; at once if it was since its last
    /// `park` returned. May return early, so look again. Call it with interrupts open and preemption
    /// enabled.
    fn park(&self, cpu: &Cpu);
    /// Ends the thread's [`Self::park`], or lets its next one return at once. What the thread waits
    /// for must have been stored before. From anywhere, interrupts included.
    fn unpark(&self, cpu: &Cpu, thread: ThreadId);
    /// Whether nobody else can run on this CPU but its idle thread.
    fn is_alone(&self, cpu: &Cpu) -> bool;
    /// Lets another thread of the same priority run, if there is one.
    fn yield_now(&self, cpu: &Cpu);
    /// Preemption was enabled again, and somebody wanted it meanwhile.
    fn preempt(&self, cpu: &Cpu);
    /// Bottom halves were enabled again, and one was raised meanwhile: runs them.
    fn bottom_halves(&self, cpu: &Cpu);
    /// The thread's priority until told otherwise; `None` gives it back its own.
    fn boost(&self, cpu: &Cpu, thread: ThreadId, priority: Option<Priority>);
    /// Sleeps for at least `ns`, to the tick.
    fn sleep_ns(&self, cpu: &Cpu, ns: u64);
    /// The first thing that a new thread does: runs its main function, and ends.
    fn begin(&self, cpu: &'static Cpu) -> !;
}
