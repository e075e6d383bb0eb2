//! The read-write semaphore: many readers or one writer, who sleep.

use super::{
    TicketLock,
    atomic::{
        AtomicU32,
        Ordering::{Acquire, Relaxed, Release},
        const_fn,
    },
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

/// A writer is inside.
const WRITER: u32 = 1 << 31;
/// Somebody waits, so all who come wait too. Set and cleared under the list's lock.
const WAITERS: u32 = 1 << 30;
/// One reader inside; their number is the rest of the word.
const READER: u32 = 1;

/// What a waiter wants: its tag in the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
enum Mode {
    Read = 0,
    Write = 1,
}

impl Mode {
    /// What entering adds to the word.
    const fn entry(self) -> u32 {
        match self {
            Self::Read => READER,
            Self::Write => WRITER,
        }
    }

    /// Whether one may enter past no other waiter.
    const fn fits(self, state: u32) -> bool {
        match self {
            Self::Read => state & WRITER == 0,
            Self::Write => state & !WAITERS == 0,
        }
    }
}

crate::lock_class!(SemaphoreWaiters = "rwsem_waiters");

/// Readers share what it guards, a writer has it alone. Not for interrupts and bottom halves.
///
/// Waiters enter in the order in which they came, the readers among them who follow each other
/// together: those who leave let them in. So neither readers nor writers starve; a thread that reads
/// already must not ask again, for a writer between the two would stop it. The context word says
/// what is waited for, but does not count it as a lock held: see [`Mutex`](super::Mutex).
#[derive(Debug, Default)]
pub struct RwSemaphore<T, C = Unclassed> {
    state: AtomicU32,
    waiters: TicketLock<WaitList, false, SemaphoreWaiters>,
    class: PhantomData<fn() -> C>,
    value: UnsafeCell<T>,
}

// SAFETY: readers share references to the value across threads (`Sync`), and a writer has it as its
// own (`Send`), as with `std`'s RwLock.
unsafe impl<T: Send + Sync, C> Sync for RwSemaphore<T, C> {}

impl<T, C: Classed> RwSemaphore<T, C> {
    const_fn! {
        /// A free semaphore around `value`.
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

    /// Makes it that of a new object. Nobody else may know the object yet.
    pub fn reset(&self, cpu: &Cpu) {
        self.state.store(0, Relaxed);
        self.waiters.reset();
        *self.waiters.lock_unfair(cpu) = WaitList::new();
    }

    fn address(&self) -> usize {
        core::ptr::from_ref(self).addr()
    }

    /// What the context word names while a thread waits for this: bits 4 to 35 of its address.
    #[must_use]
    pub fn identity(&self) -> u32 {
        (self.address() >> 4) as u32
    }

    /// Whether others wait for it now: who holds it long may want to let go.
    #[must_use]
    pub fn is_contended(&self) -> bool {
        self.state.load(Relaxed) & WAITERS != 0
    }

    /// Enters as a reader, sleeping as long as a writer is inside or waits.
    #[inline]
    pub fn read<'a>(&'a self, cpu: &'a Cpu) -> ReadGuard<'a, T, C> {
        self.enter(cpu, Mode::Read, 0);
        ReadGuard {
            semaphore: self,
            cpu,
        }
    }

    /// Enters as the writer, sleeping as long as others are inside.
    #[inline]
    pub fn write<'a>(&'a self, cpu: &'a Cpu) -> WriteGuard<'a, T, C> {
        self.write_nested(cpu, 0)
    }

    /// As [`Self::write`], within other semaphores of its class, `level` deep.
    #[inline]
    pub fn write_nested<'a>(&'a self, cpu: &'a Cpu, level: usize) -> WriteGuard<'a, T, C> {
        self.enter(cpu, Mode::Write, level);
        WriteGuard {
            semaphore: self,
            cpu,
        }
    }

    /// Enters as a reader if no writer is inside and nobody waits.
    #[inline]
    pub fn try_read<'a>(&'a self, cpu: &'a Cpu) -> Option<ReadGuard<'a, T, C>> {
        self.attempt(cpu, Mode::Read).then(|| {
            lockdep::acquired::<C>(cpu, self.address());
            ReadGuard {
                semaphore: self,
                cpu,
            }
        })
    }

    /// Enters as the writer if nobody is inside.
    #[inline]
    pub fn try_write<'a>(&'a self, cpu: &'a Cpu) -> Option<WriteGuard<'a, T, C>> {
        self.attempt(cpu, Mode::Write).then(|| {
            lockdep::acquired::<C>(cpu, self.address());
            WriteGuard {
                semaphore: self,
                cpu,
            }
        })
    }

    #[inline]
    fn enter(&self, cpu: &Cpu, mode: Mode, level: usize) {
        lockdep::acquire::<C>(cpu, self.address(), level);
        if !self.attempt(cpu, mode) {
            self.wait(cpu, mode);
        }
    }

    #[inline]
    fn attempt(&self, cpu: &Cpu, mode: Mode) -> bool {
        let mut state = self.state.load(Relaxed);
        while state & WAITERS == 0 && mode.fits(state) {
            // Pairs with the releases in `leave` and `downgrade`.
            match self
                .state
                .compare_exchange_weak(state, state + mode.entry(), Acquire, Relaxed)
            {
                Ok(_) => {
                    self.entered(cpu, cpu.sched.current(cpu));
                    return true;
                }
                Err(now) => state = now,
            }
        }
        false
    }

    /// Publishes that `thread` is inside. By itself, or under the list's lock by who lets it in.
    #[inline]
    fn entered(&self, cpu: &Cpu, thread: ThreadId) {
        let words = &cpu.header.threads[thread.0 as usize];
        words.holds.took(self.identity());
    }

    #[cold]
    fn wait(&self, cpu: &Cpu, mode: Mode) {
        let before = cpu.context().wait();
        cpu.waits_for(Wait::Semaphore, self.identity());
        if !self.enter_or_join(cpu, mode) {
            self.sleep(cpu);
        }
        cpu.waits_for(before.0, before.1);
    }

    /// Sleeps until the running thread, which is among the waiters, is let in. Whoever does that
    /// takes it off the list, under its lock: with that this thread acquires what that one did.
    fn sleep(&self, cpu: &Cpu) {
        let thread = cpu.sched.current(cpu);
        while {
            let _waiters = self.waiters.lock_unfair(cpu);
            WaitList::has(cpu.sched, thread)
        } {
            cpu.sched.park(cpu);
        }
    }

    /// Enters after all, or joins the waiters; whether it entered.
    fn enter_or_join(&self, cpu: &Cpu, mode: Mode) -> bool {
        let mut waiters = self.waiters.lock_unfair(cpu);
        let mut state = self.state.load(Relaxed);
        loop {
            let free = waiters.is_empty() && mode.fits(state);
            let next = if free {
                state + mode.entry()
            } else {
                state | WAITERS
            };
            // Pairs with the releases in `leave` and `downgrade`.
            match self
                .state
                .compare_exchange_weak(state, next, Acquire, Relaxed)
            {
                Ok(_) if free => {
                    self.entered(cpu, cpu.sched.current(cpu));
                    return true;
                }
                Ok(_) => break,
                Err(now) => state = now,
            }
        }
        waiters.push(cpu.sched, cpu.sched.current(cpu), mode as u32);
        false
    }

    #[inline]
    fn leave(&self, cpu: &Cpu, mode: Mode) {
        // Pairs with the acquires of those who enter next.
        let left = self.state.fetch_sub(mode.entry(), Release) - mode.entry();
        if left == WAITERS {
            self.admit(cpu);
        }
    }

    /// Lets in those who wait first, as many as may be inside together.
    #[cold]
    fn admit(&self, cpu: &Cpu) {
        let mut waiters = self.waiters.lock_unfair(cpu);
        while let Some((thread, tag)) = waiters.first(cpu.sched) {
            let mode = if tag == Mode::Write as u32 {
                Mode::Write
            } else {
                Mode::Read
            };
            // Pairs with the releases of all who left; the list's lock passes that on to those who
            // enter. As somebody waits, nobody else enters meanwhile.
            if !mode.fits(self.state.load(Acquire)) {
                break;
            }
            self.state.fetch_add(mode.entry(), Relaxed);
            self.entered(cpu, thread);
            waiters.pop(cpu.sched);
            if waiters.is_empty() {
                self.state.fetch_and(!WAITERS, Relaxed);
            }
            cpu.sched.unpark(cpu, thread);
        }
    }

    /// The writer becomes a reader; readers who wait first enter too.
    fn downgrade(&self, cpu: &Cpu) {
        // Pairs with the acquires of the readers who enter next.
        let state = self.state.fetch_sub(WRITER - READER, Release);
        if state & WAITERS != 0 {
            self.admit(cpu);
        }
    }
}

/// The semaphore, held for reading.
#[must_use]
pub struct ReadGuard<'a, T, C: Classed = Unclassed> {
    semaphore: &'a RwSemaphore<T, C>,
    cpu: &'a Cpu,
}

impl<T, C: Classed> Deref for ReadGuard<'_, T, C> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: no writer is inside until this guard is dropped.
        unsafe { &*self.semaphore.value.get() }
    }
}

impl<T, C: Classed> Drop for ReadGuard<'_, T, C> {
    #[inline]
    fn drop(&mut self) {
        lockdep::release::<C>(self.cpu, self.semaphore.address());
        let holds = &self.cpu.thread_words().holds;
        holds.let_go(self.semaphore.identity());
        self.semaphore.leave(self.cpu, Mode::Read);
    }
}

/// The semaphore, held for writing.
#[must_use]
pub struct WriteGuard<'a, T, C: Classed = Unclassed> {
    semaphore: &'a RwSemaphore<T, C>,
    cpu: &'a Cpu,
}

impl<'a, T, C: Classed> WriteGuard<'a, T, C> {
    /// Goes on as a reader; no writer comes between.
    #[inline]
    pub fn downgrade(self) -> ReadGuard<'a, T, C> {
        let this = core::mem::ManuallyDrop::new(self);
        this.semaphore.downgrade(this.cpu);
        ReadGuard {
            semaphore: this.semaphore,
            cpu: this.cpu,
        }
    }
}

impl<T, C: Classed> Deref for WriteGuard<'_, T, C> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: nobody else is inside until this guard is dropped, and `DerefMut` borrows it
        // mutably.
        unsafe { &*self.semaphore.value.get() }
    }
}

impl<T, C: Classed> DerefMut for WriteGuard<'_, T, C> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as for `Deref`, and the guard is borrowed mutably.
        unsafe { &mut *self.semaphore.value.get() }
    }
}

impl<T, C: Classed> Drop for WriteGuard<'_, T, C> {
    #[inline]
    fn drop(&mut self) {
        lockdep::release::<C>(self.cpu, self.semaphore.address());
        let holds = &self.cpu.thread_words().holds;
        holds.let_go(self.semaphore.identity());
        self.semaphore.leave(self.cpu, Mode::Write);
    }
}

#[cfg(all(test, loom))]
mod loom_models;
#[cfg(all(test, not(loom)))]
mod tests;
