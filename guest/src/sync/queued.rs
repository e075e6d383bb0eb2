//! The queued spinlock.

use super::{
    Backoff, BottomHalfGuard, IrqGuard,
    atomic::{
        AtomicPtr, AtomicU32,
        Ordering::{AcqRel, Acquire, Relaxed, Release},
        const_fn,
    },
    backoff::Sleepers,
    lock_times::LockTimes,
    lockdep::{self, Classed, Unclassed},
};
use crate::Cpu;
use core::{
    cell::UnsafeCell,
    marker::PhantomData,
    ops::{Deref, DerefMut},
    ptr,
};
use underfoot_abi::Wait;

/// A place in the queue, on the stack of the CPU that waits.
struct Node {
    /// Who comes next.
    next: AtomicPtr<Node>,
    /// 1 once this place is the first.
    first: AtomicU32,
    /// Whose place it is.
    cpu: usize,
}

/// A fair spinlock whose waiters spin each on a word of its own: MCS's queue (Mellor-Crummey and
/// Scott, TOCS 1991) in front of a word, as Linux's queued spinlock has it
/// (kernel/locking/qspinlock.c). A place in the queue is needed only for the wait: the holder has
/// none.
///
/// With `RECORDED`, as for [`TicketLock`](super::TicketLock). Waiters that have spun long enough
/// halt, and only the one whose turn it is is kicked. While nobody is queued, whoever runs takes a
/// free lock. The queue is made of addresses, so not for objects that late readers may find
/// overwritten.
#[derive(Debug, Default)]
#[repr(C)]
pub struct QueuedLock<T, const RECORDED: bool = true, C = Unclassed> {
    locked: AtomicU32,
    /// The last place; null while nobody waits.
    tail: AtomicPtr<Node>,
    /// The first of the queue, if it halts until the lock is free.
    first_sleeper: Sleepers,
    /// Those who halt until they are the first.
    sleepers: Sleepers,
    class: PhantomData<fn() -> C>,
    value: UnsafeCell<T>,
}

// SAFETY: the lock hands out references to the value to one CPU at a time, so sharing the lock is
// sending the value.
unsafe impl<T: Send, const RECORDED: bool, C> Sync for QueuedLock<T, RECORDED, C> {}
// SAFETY: while the lock is moved nobody waits for it, so the queue is empty.
unsafe impl<T: Send, const RECORDED: bool, C> Send for QueuedLock<T, RECORDED, C> {}

impl<T, const RECORDED: bool, C: Classed> QueuedLock<T, RECORDED, C> {
    const_fn! {
        /// An unlocked lock around `value`.
        #[must_use]
        pub fn new(value: T) -> Self {
            Self {
                locked: AtomicU32::new(0),
                tail: AtomicPtr::new(ptr::null_mut()),
                first_sleeper: Sleepers::new(),
                sleepers: Sleepers::new(),
                class: PhantomData,
                value: UnsafeCell::new(value),
            }
        }
    }

    fn address(&self) -> usize {
        ptr::from_ref(self).addr()
    }

    /// What the context word names while a CPU waits for this lock: bits 4 to 35 of its address.
    #[inline]
    #[must_use]
    pub fn identity(&self) -> u32 {
        (self.address() >> 4) as u32
    }

    /// Takes the lock, spinning as long as others have it.
    #[inline]
    pub fn lock<'a>(&'a self, cpu: &'a Cpu) -> QueuedGuard<'a, T, RECORDED, C> {
        self.lock_nested(cpu, 0)
    }

    /// As [`Self::lock`], within other locks of its class, `level` deep.
    #[inline]
    pub fn lock_nested<'a>(
        &'a self,
        cpu: &'a Cpu,
        level: usize,
    ) -> QueuedGuard<'a, T, RECORDED, C> {
        lockdep::acquire::<C>(cpu, self.address(), level);
        // A holder that is not running would keep all others waiting.
        cpu.preempt_disable();
        let times = LockTimes::wait::<RECORDED>(cpu);
        if !self.attempt() {
            self.queue(cpu);
        }
        self.guard(cpu, times)
    }

    /// Takes the lock if it is free and nobody is queued.
    #[inline]
    pub fn try_lock<'a>(&'a self, cpu: &'a Cpu) -> Option<QueuedGuard<'a, T, RECORDED, C>> {
        cpu.preempt_disable();
        let times = LockTimes::wait::<RECORDED>(cpu);
        if !self.attempt() {
            cpu.preempt_enable();
            return None;
        }
        lockdep::acquired::<C>(cpu, self.address());
        Some(self.guard(cpu, times))
    }

    /// Masks interrupts, then takes the lock: for what interrupt handlers take too.
    #[inline]
    pub fn lock_irqsave<'a>(
        &'a self,
        cpu: &'a Cpu,
    ) -> IrqGuard<'a, QueuedGuard<'a, T, RECORDED, C>> {
        IrqGuard::new(cpu, || self.lock(cpu))
    }

    /// Holds bottom halves back, then takes the lock: for what bottom halves take too.
    #[inline]
    pub fn lock_bh<'a>(
        &'a self,
        cpu: &'a Cpu,
    ) -> BottomHalfGuard<'a, QueuedGuard<'a, T, RECORDED, C>> {
        BottomHalfGuard::new(cpu, || self.lock(cpu))
    }

    /// Takes the word if it is free and nobody is queued.
    #[inline]
    fn attempt(&self) -> bool {
        self.tail.load(Relaxed).is_null() && self.take()
    }

    /// Takes the word if it is free.
    #[inline]
    pub(super) fn take(&self) -> bool {
        // Pairs with the release in the guard's drop.
        self.locked.load(Relaxed) == 0
            && self.locked.compare_exchange(0, 1, Acquire, Relaxed).is_ok()
    }

    /// Takes the word in turn.
    #[cold]
    fn queue(&self, cpu: &Cpu) {
        let before = cpu.context().wait();
        cpu.waits_for(Wait::Lock, self.identity());
        let node = Node {
            next: AtomicPtr::new(ptr::null_mut()),
            first: AtomicU32::new(0),
            cpu: cpu.id,
        };
        let here = ptr::from_ref(&node).cast_mut();
        // Release: who finds this place finds it made. Acquire: the same of the one before.
        let last = self.tail.swap(here, AcqRel);
        if !last.is_null() {
            // SAFETY: the CPU of the place before leaves it only after it has seen its `next`, or
            // has taken the tail from it, and the tail is here now.
            let last = unsafe { &*last };
            // Pairs with the acquire in `leave_queue`.
            last.next.store(here, Release);
            // Pairs with the release in `leave_queue`.
            let is_first = || node.first.load(Acquire) != 0;
            wait(cpu, &self.sleepers, is_first, is_first);
        }
        let may_be_free = || self.locked.load(Relaxed) == 0;
        wait(cpu, &self.first_sleeper, may_be_free, || self.take());
        self.leave_queue(cpu, &node);
        cpu.waits_for(before.0, before.1);
    }

    /// Makes the next place the first. After this nobody knows `node`.
    fn leave_queue(&self, cpu: &Cpu, node: &Node) {
        let here = ptr::from_ref(node).cast_mut();
        let mut next = node.next.load(Acquire);
        if next.is_null() {
            // Release: who comes next must find this place as it is left.
            let was_last = self
                .tail
                .compare_exchange(here, ptr::null_mut(), Release, Relaxed);
            if was_last.is_ok() {
                return;
            }
            // Somebody has taken the tail, and is about to say so here.
            let mut backoff = Backoff::new();
            while next.is_null() {
                backoff.pause(cpu, || !node.next.load(Relaxed).is_null());
                next = node.next.load(Acquire);
            }
        }
        // SAFETY: the CPU of the next place leaves it only once it is the first.
        let next = unsafe { &*next };
        let id = next.cpu;
        // Pairs with the acquire in `queue`. After this the next place may be gone.
        next.first.store(1, Release);
        self.sleepers.kick_cpu(cpu, id);
    }

    #[inline]
    fn guard<'a>(&'a self, cpu: &'a Cpu, times: LockTimes) -> QueuedGuard<'a, T, RECORDED, C> {
        cpu.took(self.identity());
        QueuedGuard {
            lock: self,
            cpu,
            times: times.acquired(),
        }
    }
}

/// Spins and halts until `attempt` succeeds; `hope` says whether it may.
fn wait(cpu: &Cpu, sleepers: &Sleepers, hope: impl Fn() -> bool, attempt: impl Fn() -> bool) {
    let mut backoff = Backoff::new();
    while !attempt() {
        backoff.pause_among(cpu, Some(sleepers), &hope);
    }
}

/// The lock, held; dropped, it is free again.
#[must_use]
pub struct QueuedGuard<'a, T, const RECORDED: bool, C: Classed = Unclassed> {
    lock: &'a QueuedLock<T, RECORDED, C>,
    cpu: &'a Cpu,
    times: LockTimes,
}

impl<T, const RECORDED: bool, C: Classed> Deref for QueuedGuard<'_, T, RECORDED, C> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the word is this guard's until it is dropped, so nobody else has the value, and
        // `DerefMut` borrows the guard mutably.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T, const RECORDED: bool, C: Classed> DerefMut for QueuedGuard<'_, T, RECORDED, C> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as for `Deref`, and the guard is borrowed mutably.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T, const RECORDED: bool, C: Classed> Drop for QueuedGuard<'_, T, RECORDED, C> {
    #[inline]
    fn drop(&mut self) {
        let released_tsc = self.times.released();
        lockdep::release::<C>(self.cpu, self.lock.address());
        // First, so that no two CPUs say that they hold it.
        self.cpu.let_go(self.lock.identity());
        // Pairs with the acquire in `take`: the next holder sees what this one did.
        self.lock.locked.store(0, Release);
        self.lock.first_sleeper.kick(self.cpu);
        self.times.record(self.cpu, released_tsc);
        self.cpu.preempt_enable();
    }
}

#[cfg(all(test, loom))]
mod loom_models;
#[cfg(all(test, not(loom)))]
mod tests;
