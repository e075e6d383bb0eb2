//! The sleeping mutex.

use super::{
    TicketLock,
    atomic::{
        AtomicU32,
        Ordering::{Acquire, Relaxed, Release},
        const_fn,
    },
    lock_times::LockTimes,
    lockdep::{self, Classed, Unclassed},
    wait_list::WaitList,
};
use crate::{Cpu, sched::ThreadId};
use core::{
    cell::UnsafeCell,
    marker::PhantomData,
    ops::{Deref, DerefMut},
};
use underfoot_abi::Wait;

/// Somebody waits: set and cleared under the list's lock.
const WAITERS: u32 = 1 << 31;
/// The first waiter was woken in vain: it is next. Set under the list's lock, while there is an
/// owner.
const HANDOFF: u32 = 1 << 30;
/// The owner's number plus one; 0 while the mutex is free.
const OWNER: u32 = HANDOFF - 1;

crate::lock_class!(MutexWaiters = "mutex_waiters");

/// A lock whose waiters sleep. Not for interrupts and bottom halves.
///
/// As Linux's (Documentation/locking/mutex-design.rst): whoever runs may take a free mutex before
/// those whom it woke, which keeps it busy, until the first waiter was woken in vain once: then it is
/// handed to that one. The context word says what is waited for, but does not count a mutex as held:
/// its holder may sleep, and the word is the CPU's.
///
/// With `RECORDED`, holds and waits are recorded as those of a
/// [`TicketLock`](super::TicketLock) are. A zeroed mutex around a zeroed value is free.
#[derive(Debug, Default)]
pub struct Mutex<T, const RECORDED: bool = false, C = Unclassed> {
    state: AtomicU32,
    waiters: TicketLock<WaitList, false, MutexWaiters>,
    class: PhantomData<fn() -> C>,
    value: UnsafeCell<T>,
}

// SAFETY: the mutex hands out references to the value to one thread at a time, so sharing the mutex
// is sending the value.
unsafe impl<T: Send, const RECORDED: bool, C> Sync for Mutex<T, RECORDED, C> {}

/// The owner word of the running thread.
fn me(cpu: &Cpu) -> u32 {
    cpu.sched.current(cpu).0 + 1
}

impl<T, const RECORDED: bool, C: Classed> Mutex<T, RECORDED, C> {
    const_fn! {
        /// A free mutex around `value`.
        #[must_use]
        pub fn new(value: T) -> Self {
            Self {
                state: AtomicU32::new(0),
                waiters: TicketLock::new(WaitList::new()),
                class: PhantomData,
                value: UnsafeCell::new(value),
            }
        }
    }

    fn address(&self) -> usize {
        core::ptr::from_ref(self).addr()
    }

    /// What the context word names while a thread waits for this mutex: bits 4 to 35 of its address.
    #[must_use]
    pub fn identity(&self) -> u32 {
        (self.address() >> 4) as u32
    }

    /// Who has it.
    #[must_use]
    pub fn owner(&self) -> Option<ThreadId> {
        let owner = self.state.load(Relaxed) & OWNER;
        owner.checked_sub(1).map(ThreadId)
    }

    /// Takes the mutex, sleeping as long as others have it. Call it where
    /// [`park`](crate::sched::Sched::park) may be called.
    #[inline]
    pub fn lock<'a>(&'a self, cpu: &'a Cpu) -> MutexGuard<'a, T, RECORDED, C> {
        self.lock_nested(cpu, 0)
    }

    /// As [`Self::lock`], within other locks of its class, `level` deep.
    #[inline]
    pub fn lock_nested<'a>(&'a self, cpu: &'a Cpu, level: usize) -> MutexGuard<'a, T, RECORDED, C> {
        lockdep::acquire::<C>(cpu, self.address(), level);
        let times = LockTimes::wait::<RECORDED>(cpu);
        if !self.attempt(cpu) {
            self.sleep(cpu);
        }
        self.guard(cpu, times)
    }

    /// Takes the mutex if it is free and promised to nobody.
    #[inline]
    pub fn try_lock<'a>(&'a self, cpu: &'a Cpu) -> Option<MutexGuard<'a, T, RECORDED, C>> {
        let times = LockTimes::wait::<RECORDED>(cpu);
        self.attempt(cpu).then(|| {
            lockdep::acquired::<C>(cpu, self.address());
            self.guard(cpu, times)
        })
    }

    #[inline]
    fn guard<'a>(&'a self, cpu: &'a Cpu, times: LockTimes) -> MutexGuard<'a, T, RECORDED, C> {
        MutexGuard {
            mutex: self,
            cpu,
            times: times.acquired(),
        }
    }

    /// Makes the mutex that of a new object. Nobody else may know the object yet.
    pub fn reset(&self, cpu: &Cpu) {
        self.state.store(0, Relaxed);
        self.waiters.reset();
        *self.waiters.lock_unfair(cpu) = WaitList::new();
    }

    /// Becomes the owner if there is none, leaving what is known of waiters.
    #[inline]
    pub(super) fn attempt(&self, cpu: &Cpu) -> bool {
        let mut state = self.state.load(Relaxed);
        while state & OWNER == 0 {
            // Pairs with the releases in `unlock`.
            let taken = state | me(cpu);
            match self
                .state
                .compare_exchange_weak(state, taken, Acquire, Relaxed)
            {
                Ok(_) => {
                    self.owned(cpu, cpu.sched.current(cpu));
                    return true;
                }
                Err(now) => state = now,
            }
        }
        false
    }

    /// Publishes that `thread` has it. By itself, or under the list's lock by who hands it over.
    #[inline]
    fn owned(&self, cpu: &Cpu, thread: ThreadId) {
        let words = &cpu.header.threads[thread.0 as usize];
        words.holds.took(self.identity());
    }

    #[cold]
    fn sleep(&self, cpu: &Cpu) {
        let before = cpu.context().wait();
        cpu.waits_for(Wait::Mutex, self.identity());
        let mut woken = false;
        while !self.take_turn(cpu, woken) {
            cpu.sched.park(cpu);
            woken = true;
        }
        cpu.waits_for(before.0, before.1);
    }

    /// Takes the mutex and leaves the list of waiters; else joins it, and sees to it that the owner
    /// wakes this one. A first waiter that was `woken` in vain is promised the mutex.
    fn take_turn(&self, cpu: &Cpu, woken: bool) -> bool {
        let mut waiters = self.waiters.lock_unfair(cpu);
        let thread = cpu.sched.current(cpu);
        if !WaitList::has(cpu.sched, thread) {
            waiters.push(cpu.sched, thread, 0);
        }
        let first = waiters.first(cpu.sched).is_some_and(|it| it.0 == thread);
        let wish = WAITERS | if first && woken { HANDOFF } else { 0 };
        let mut state = self.state.load(Relaxed);
        loop {
            let owner = state & OWNER;
            if owner == me(cpu) {
                // Handed over, and acquired with the list's lock.
                break;
            }
            let wanted = if owner == 0 {
                state | me(cpu) | WAITERS
            } else {
                state | wish
            };
            // Pairs with the releases in `unlock`.
            match self
                .state
                .compare_exchange_weak(state, wanted, Acquire, Relaxed)
            {
                Ok(_) if owner == 0 => {
                    self.owned(cpu, thread);
                    break;
                }
                Ok(_) => return false,
                Err(now) => state = now,
            }
        }
        waiters.remove(cpu.sched, thread);
        if waiters.is_empty() {
            self.state.fetch_and(!WAITERS, Relaxed);
        }
        true
    }

    #[inline]
    fn unlock(&self, cpu: &Cpu) {
        // Pairs with the acquires in `attempt` and `take_turn`.
        let free = self
            .state
            .compare_exchange(me(cpu), 0, Release, Relaxed)
            .is_ok();
        if !free {
            self.pass_on(cpu);
        }
    }

    /// Lets go where somebody waits.
    #[cold]
    fn pass_on(&self, cpu: &Cpu) {
        let waiters = self.waiters.lock_unfair(cpu);
        let first = waiters.first(cpu.sched).map(|it| it.0);
        // Only this thread and those with the list's lock change the word while it has an owner.
        let state = self.state.load(Relaxed);
        let next = match first {
            None => 0,
            Some(thread) if state & HANDOFF != 0 => {
                self.owned(cpu, thread);
                WAITERS | (thread.0 + 1)
            }
            Some(_) => WAITERS,
        };
        // Pairs with the acquires in `attempt` and `take_turn`.
        self.state.store(next, Release);
        drop(waiters);
        if let Some(thread) = first {
            cpu.sched.unpark(cpu, thread);
        }
    }
}

/// The mutex, held; dropped, it is free again.
#[must_use]
pub struct MutexGuard<'a, T, const RECORDED: bool = false, C: Classed = Unclassed> {
    mutex: &'a Mutex<T, RECORDED, C>,
    cpu: &'a Cpu,
    times: LockTimes,
}

impl<T, const RECORDED: bool, C: Classed> Deref for MutexGuard<'_, T, RECORDED, C> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the guard's thread is the owner until it is dropped, so nobody else has the value,
        // and `DerefMut` borrows the guard mutably.
        unsafe { &*self.mutex.value.get() }
    }
}

impl<T, const RECORDED: bool, C: Classed> DerefMut for MutexGuard<'_, T, RECORDED, C> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as for `Deref`, and the guard is borrowed mutably.
        unsafe { &mut *self.mutex.value.get() }
    }
}

impl<T, const RECORDED: bool, C: Classed> Drop for MutexGuard<'_, T, RECORDED, C> {
    #[inline]
    fn drop(&mut self) {
        let released_tsc = self.times.released();
        lockdep::release::<C>(self.cpu, self.mutex.address());
        self.cpu.thread_words().holds.let_go(self.mutex.identity());
        self.mutex.unlock(self.cpu);
        self.times.record(self.cpu, released_tsc);
    }
}

#[cfg(all(test, loom))]
mod loom_models;
#[cfg(all(test, not(loom)))]
mod tests;
