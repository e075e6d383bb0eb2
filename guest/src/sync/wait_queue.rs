//! Waiting for what another thread, or an interrupt, brings about.

use super::{TicketLock, wait_list::WaitList};
use crate::Cpu;
use underfoot_abi::Wait;

crate::lock_class!(QueueWaiters = "wait_queue");

/// A queue of threads that wait until something is so.
///
/// As Linux's wait queues (include/linux/wait.h): a waiter is in the queue before it looks whether
/// it must wait, and who makes it so stores that first and looks at the queue then. Both hold the
/// queue's lock for a moment in between, so either the waiter sees the store or the waker sees the
/// waiter. Waking may be done from anywhere, interrupts included; a thread waits in one queue at a
/// time.
#[derive(Debug, Default)]
pub struct WaitQueue {
    waiters: TicketLock<WaitList, false, QueueWaiters>,
}

impl WaitQueue {
    super::atomic::const_fn! {
        /// A queue in which nobody waits.
        #[must_use]
        pub fn new() -> Self {
            Self {
                waiters: TicketLock::new(WaitList::new()),
            }
        }
    }

    /// What the context word names while a thread waits here: bits 4 to 35 of its address.
    fn identity(&self) -> u32 {
        (core::ptr::from_ref(self).addr() >> 4) as u32
    }

    /// Sleeps until `is_over`, which must not wait for anything else. Call it where
    /// [`park`](crate::sched::Sched::park) may be called.
    pub fn wait_until(&self, cpu: &Cpu, mut is_over: impl FnMut() -> bool) {
        if is_over() {
            return;
        }
        let before = cpu.context().wait();
        cpu.waits_for(Wait::Queue, self.identity());
        loop {
            self.prepare(cpu);
            if is_over() {
                break;
            }
            cpu.sched.park(cpu);
        }
        self.finish(cpu);
        cpu.waits_for(before.0, before.1);
    }

    /// From here on the running thread is woken; only then may it look whether it must wait. Does
    /// nothing if the thread is in the queue already.
    pub fn prepare(&self, cpu: &Cpu) {
        let mut waiters = self.waiters.lock_unfair_irqsave(cpu);
        let thread = cpu.sched.current(cpu);
        if !WaitList::has(cpu.sched, thread) {
            waiters.push(cpu.sched, thread, 0);
        }
    }

    /// The running thread waits no longer.
    pub fn finish(&self, cpu: &Cpu) {
        let mut waiters = self.waiters.lock_unfair_irqsave(cpu);
        waiters.remove(cpu.sched, cpu.sched.current(cpu));
    }

    /// Wakes who waits longest; whether there was anybody. What is waited for must have been stored
    /// before.
    pub fn wake_one(&self, cpu: &Cpu) -> bool {
        let first = self.waiters.lock_unfair_irqsave(cpu).pop(cpu.sched);
        if let Some(thread) = first {
            cpu.sched.unpark(cpu, thread);
        }
        first.is_some()
    }

    /// Wakes all that wait; how many. What is waited for must have been stored before.
    pub fn wake_all(&self, cpu: &Cpu) -> usize {
        let mut waiters = self.waiters.lock_unfair_irqsave(cpu);
        let mut woken = 0;
        while let Some(thread) = waiters.pop(cpu.sched) {
            cpu.sched.unpark(cpu, thread);
            woken += 1;
        }
        woken
    }
}

#[cfg(all(test, loom))]
mod loom_models;
#[cfg(all(test, not(loom)))]
mod tests;
