//! The ticket spinlock.

use super::{
    Backoff, BottomHalfGuard, IrqGuard,
    atomic::{
        AtomicU32,
        Ordering::{Acquire, Relaxed, Release},
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
};
use underfoot_abi::Wait;

/// A fair spinlock: CPUs enter in the order in which they asked. Its holder is not preempted.
///
/// With `RECORDED`, holds and waits are recorded, as
/// [`LockHold`](underfoot_abi::Metric::LockHold) and [`LockWait`](underfoot_abi::Metric::LockWait);
/// such a lock must not be taken in an interrupt, whose records would mix with the interrupted
/// ones. A zeroed lock around a zeroed value is unlocked.
#[derive(Debug, Default)]
#[repr(C)]
pub struct TicketLock<T, const RECORDED: bool = true, C = Unclassed> {
    next: AtomicU32,
    owner: AtomicU32,
    sleepers: Sleepers,
    class: PhantomData<fn() -> C>,
    value: UnsafeCell<T>,
}

// SAFETY: the lock hands out references to the value to one CPU at a time, so sharing the lock is
// sending the value.
unsafe impl<T: Send, const RECORDED: bool, C> Sync for TicketLock<T, RECORDED, C> {}

impl<T, const RECORDED: bool, C: Classed> TicketLock<T, RECORDED, C> {
    const_fn! {
        /// An unlocked lock around `value`.
        #[must_use]
        pub fn new(value: T) -> Self {
            Self {
                next: AtomicU32::new(0),
                owner: AtomicU32::new(0),
                sleepers: Sleepers::new(),
                class: PhantomData,
                value: UnsafeCell::new(value),
            }
        }
    }

    /// What the context word names while a CPU waits for this lock: bits 4 to 35 of its address.
    #[inline]
    #[must_use]
    pub fn identity(&self) -> u32 {
        (self.address() >> 4) as u32
    }

    fn address(&self) -> usize {
        core::ptr::from_ref(self).addr()
    }

    /// Takes the lock, spinning as long as others have it.
    #[inline]
    pub fn lock<'a>(&'a self, cpu: &'a Cpu) -> TicketGuard<'a, T, RECORDED, C> {
        self.lock_nested(cpu, 0)
    }

    /// As [`Self::lock`], within other locks of its class, `level` deep.
    #[inline]
    pub fn lock_nested<'a>(
        &'a self,
        cpu: &'a Cpu,
        level: usize,
    ) -> TicketGuard<'a, T, RECORDED, C> {
        lockdep::acquire::<C>(cpu, self.address(), level);
        cpu.preempt_disable();
        let times = LockTimes::wait::<RECORDED>(cpu);
        let ticket = self.next.fetch_add(1, Relaxed);
        // Pairs with the release in the guard's drop.
        if self.owner.load(Acquire) != ticket {
            self.contend(cpu, ticket);
        }
        self.guard(cpu, ticket, times)
    }

    /// Takes the lock out of turn: whoever runs when it becomes free has it. For short locks that
    /// all CPUs need, on hosts that may be overcommitted: there a turn that has come to a vCPU
    /// without a CPU makes all others wait for its time slice, one after the other (Linux's
    /// `virt_spin_lock`, arch/x86/include/asm/qspinlock.h, is unfair for that reason). All who take
    /// such a lock should take it this way: a turn once asked for comes first.
    pub fn lock_unfair<'a>(&'a self, cpu: &'a Cpu) -> TicketGuard<'a, T, RECORDED, C> {
        lockdep::acquire::<C>(cpu, self.address(), 0);
        cpu.preempt_disable();
        let times = LockTimes::wait::<RECORDED>(cpu);
        let ticket = self.attempt().unwrap_or_else(|| self.chance(cpu));
        self.guard(cpu, ticket, times)
    }

    /// Takes the lock if it is free.
    #[inline]
    pub fn try_lock<'a>(&'a self, cpu: &'a Cpu) -> Option<TicketGuard<'a, T, RECORDED, C>> {
        cpu.preempt_disable();
        let times = LockTimes::wait::<RECORDED>(cpu);
        let Some(ticket) = self.attempt() else {
            cpu.preempt_enable();
            return None;
        };
        lockdep::acquired::<C>(cpu, self.address());
        Some(self.guard(cpu, ticket, times))
    }

    /// The ticket that has the lock now, if it was free.
    fn attempt(&self) -> Option<u32> {
        let ticket = self.owner.load(Relaxed);
        // Acquire: `next` equals `owner` only once the last holder has let go, but it is the owner
        // word that the holder released; it is read again for that.
        self.next
            .compare_exchange(ticket, ticket.wrapping_add(1), Acquire, Relaxed)
            .ok()?;
        let _released = self.owner.load(Acquire);
        Some(ticket)
    }

    /// Masks interrupts (and says so in the context word: [`crate::arch::PrivOps::irq_save`] does),
    /// then takes the lock: for what interrupt handlers take too.
    #[inline]
    pub fn lock_irqsave<'a>(
        &'a self,
        cpu: &'a Cpu,
    ) -> IrqGuard<'a, TicketGuard<'a, T, RECORDED, C>> {
        IrqGuard::new(cpu, || self.lock(cpu))
    }

    /// Masks interrupts, then takes the lock as [`Self::lock_unfair`] does.
    #[inline]
    pub fn lock_unfair_irqsave<'a>(
        &'a self,
        cpu: &'a Cpu,
    ) -> IrqGuard<'a, TicketGuard<'a, T, RECORDED, C>> {
        IrqGuard::new(cpu, || self.lock_unfair(cpu))
    }

    /// Holds bottom halves back, then takes the lock: for what bottom halves take too.
    #[inline]
    pub fn lock_bh<'a>(
        &'a self,
        cpu: &'a Cpu,
    ) -> BottomHalfGuard<'a, TicketGuard<'a, T, RECORDED, C>> {
        BottomHalfGuard::new(cpu, || self.lock(cpu))
    }

    /// Makes the lock that of a new object. Nobody else may know the object yet.
    pub fn reset(&self) {
        self.next.store(0, Relaxed);
        self.owner.store(0, Relaxed);
        self.sleepers.reset();
    }

    #[cold]
    fn contend(&self, cpu: &Cpu, ticket: u32) {
        let ours = || self.owner.load(Relaxed) == ticket;
        self.wait(cpu, ours, || {
            // Pairs with the release in the guard's drop.
            (self.owner.load(Acquire) == ticket).then_some(ticket)
        });
    }

    #[cold]
    fn chance(&self, cpu: &Cpu) -> u32 {
        let free = || self.owner.load(Relaxed) == self.next.load(Relaxed);
        self.wait(cpu, free, || self.attempt())
    }

    /// Spins and halts until `attempt` gives a ticket; `hope` says whether it may.
    fn wait(&self, cpu: &Cpu, hope: impl Fn() -> bool, attempt: impl Fn() -> Option<u32>) -> u32 {
        let before = cpu.context().wait();
        cpu.waits_for(Wait::Lock, self.identity());
        let mut backoff = Backoff::new();
        let ticket = loop {
            if let Some(ticket) = attempt() {
                break ticket;
            }
            backoff.pause_among(cpu, Some(&self.sleepers), &hope);
        };
        cpu.waits_for(before.0, before.1);
        ticket
    }

    #[inline]
    fn guard<'a>(
        &'a self,
        cpu: &'a Cpu,
        ticket: u32,
        times: LockTimes,
    ) -> TicketGuard<'a, T, RECORDED, C> {
        cpu.took(self.identity());
        TicketGuard {
            lock: self,
            cpu,
            ticket,
            times: times.acquired(),
        }
    }
}

/// The lock, held; dropped, it is free again.
#[must_use]
pub struct TicketGuard<'a, T, const RECORDED: bool, C: Classed = Unclassed> {
    lock: &'a TicketLock<T, RECORDED, C>,
    cpu: &'a Cpu,
    ticket: u32,
    times: LockTimes,
}

impl<T, const RECORDED: bool, C: Classed> Deref for TicketGuard<'_, T, RECORDED, C> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the guard's ticket is the owner's until it is dropped, so nobody else has the
        // value, and `DerefMut` borrows the guard mutably.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T, const RECORDED: bool, C: Classed> DerefMut for TicketGuard<'_, T, RECORDED, C> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as for `Deref`, and the guard is borrowed mutably.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T, const RECORDED: bool, C: Classed> Drop for TicketGuard<'_, T, RECORDED, C> {
    #[inline]
    fn drop(&mut self) {
        let released_tsc = self.times.released();
        lockdep::release::<C>(self.cpu, self.lock.address());
        // First, so that no two CPUs say that they hold it.
        self.cpu.let_go(self.lock.identity());
        // Pairs with the acquire in `lock`: the next holder sees what this one did.
        self.lock.owner.store(self.ticket.wrapping_add(1), Release);
        let queue = self.lock.next.load(Relaxed) != self.ticket.wrapping_add(1);
        if queue {
            // Only one of them has its turn, and which one is not known here.
            self.lock.sleepers.kick(self.cpu);
        } else {
            self.lock.sleepers.kick_one(self.cpu);
        }
        self.times.record(self.cpu, released_tsc);
        self.cpu.preempt_enable();
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
