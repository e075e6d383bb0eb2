//! One kernel thread.

use super::{Priority, ThreadLocal, token::Token};
use crate::Cpu;
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};

/// No thread: the end of a list.
pub(super) const NOBODY: u32 = u32::MAX;

/// What a thread runs: it gets its CPU and the number that it was started with.
pub type Main = fn(&'static Cpu, usize);

/// Where a thread is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Life {
    /// Nobody has this number.
    Free = 0,
    /// It runs, can run, or is parked.
    Alive = 1,
    /// It has left its main function and still stands on its stack.
    Leaving = 2,
    /// Its stack is nobody's any more.
    Gone = 3,
}

/// A thread, or a number that none has. All zeroes is a number that none has.
pub(super) struct Thread {
    pub(super) life: AtomicU32,
    pub(super) token: Token,
    /// The CPU that it belongs to.
    pub(super) cpu: AtomicU32,
    pub(super) base: AtomicU8,
    /// What others gave it; 0 is nothing.
    pub(super) boosted: AtomicU8,
    /// On its CPU's run queue; under the queue's lock.
    pub(super) queued: AtomicU32,
    /// The next on the run queue; under the queue's lock.
    pub(super) next: AtomicU32,
    /// The next of those that sleep until a time; only its own CPU, interrupts masked.
    pub(super) next_sleeper: AtomicU32,
    pub(super) deadline_tsc: AtomicU64,
    /// When it was woken; 0 if that was told already.
    pub(super) woken_tsc: AtomicU64,
    /// The context word while it does not run.
    pub(super) context: AtomicU64,
    /// Who waits for its end, plus one.
    pub(super) joiner: AtomicU32,
    /// Lowest address of its stack, and how it began; set before it first runs.
    pub(super) stack: AtomicU64,
    pub(super) main: AtomicU64,
    pub(super) argument: AtomicU64,
    pub(super) local: ThreadLocal,
    /// While it does not run. Only its own CPU, interrupts masked.
    pub(super) stack_pointer: UnsafeCell<usize>,
}

// SAFETY: `stack_pointer` is touched only by the CPU that the thread belongs to, with interrupts
// masked, or by the one that starts it before any other knows it; the rest is atomics and
// `ThreadLocal`, which says itself who may touch it.
unsafe impl Sync for Thread {}

impl Thread {
    pub(super) const fn new() -> Self {
        Self {
            life: AtomicU32::new(Life::Free as u32),
            token: Token::new(),
            cpu: AtomicU32::new(0),
            base: AtomicU8::new(0),
            boosted: AtomicU8::new(0),
            queued: AtomicU32::new(0),
            next: AtomicU32::new(0),
            next_sleeper: AtomicU32::new(0),
            deadline_tsc: AtomicU64::new(0),
            woken_tsc: AtomicU64::new(0),
            context: AtomicU64::new(0),
            joiner: AtomicU32::new(0),
            stack: AtomicU64::new(0),
            main: AtomicU64::new(0),
            argument: AtomicU64::new(0),
            local: ThreadLocal::new(),
            stack_pointer: UnsafeCell::new(0),
        }
    }

    /// What counts now.
    pub(super) fn priority(&self) -> Priority {
        Priority(self.base.load(Relaxed).max(self.boosted.load(Relaxed)))
    }
}
