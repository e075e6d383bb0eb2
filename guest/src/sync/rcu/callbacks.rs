//! Callbacks that wait for a grace period, in lists by CPU and by grace period. The same for every
//! kind of RCU.

use super::{
    CPUS, RcuCallback, RcuHead, TicketLock,
    backlog::{Backlog, Waiting},
    bit,
    head::List,
    sequence::Sequence,
};
use crate::{
    Cpu,
    sync::{
        Backoff,
        atomic::{AtomicU64, const_fn},
    },
};
use core::{ptr::NonNull, sync::atomic::Ordering::Relaxed};
use underfoot_abi::Metric;

/// Callbacks run in one call of [`Callbacks::process`] (Linux's `blimit`, for the same reason: the
/// caller has other work to do), if there are not many.
const BATCH: usize = 64;
/// Of many that wait, one in 2^this is run: who queues more than a batch from tick to tick would
/// otherwise run out of memory (Linux's `rcu_divisor`).
const DIVISOR: u32 = 3;

/// What callbacks ask of a kind of RCU.
pub(super) trait GracePeriods {
    /// Its grace periods.
    fn sequence(&self) -> &Sequence;
    /// Starts a grace period if one is wanted, or moves the one in progress on, if it can.
    fn advance(&self, cpu: &Cpu);
}

/// One CPU's callbacks, by what they wait for (Linux's `rcu_segcblist`).
#[derive(Debug, Default)]
struct Segments {
    /// Their grace period is over.
    done: List,
    /// They wait for `target`.
    waiting: List,
    target: u64,
    /// They came after `waiting` got its target.
    next: List,
}

impl Segments {
    const_fn! {
        fn new() -> Self {
            Self {
                done: List::new(),
                waiting: List::new(),
                target: 0,
                next: List::new(),
            }
        }
    }

    /// Moves callbacks on; the grace period to be asked for, if any wait.
    fn advance(&mut self, sequence: &Sequence) -> Option<u64> {
        if sequence.is_over(self.target) {
            self.done.append(&mut self.waiting);
        }
        if self.waiting.is_empty() && !self.next.is_empty() {
            self.waiting.append(&mut self.next);
            self.target = sequence.snapshot();
        }
        (!self.waiting.is_empty()).then_some(self.target)
    }

    /// Some callback, whatever it waits for.
    fn pop_any(&mut self) -> Option<NonNull<RcuHead>> {
        let later = [&mut self.waiting, &mut self.next];
        let head = self.done.pop();
        head.or_else(|| later.into_iter().find_map(List::pop))
    }
}

crate::lock_class!(
    /// Of one CPU's callbacks, of any kind of RCU.
    CallbackList = "rcu_callbacks"
);

/// The callbacks of all CPUs.
///
/// The locks mask interrupts: threads, bottom halves and interrupts of one CPU may all be here.
pub(super) struct Callbacks {
    lists: [TicketLock<Segments, false, CallbackList>; CPUS],
    waiting: [Waiting; CPUS],
    /// CPUs that are to run theirs as soon as they can, a bit each. A tick has them run too: this is no more than a hint.
    hurried: AtomicU64,
}

impl Callbacks {
    const_fn! {
        pub(super) fn new() -> Self {
            Self {
                #[cfg(not(loom))]
                lists: [const { TicketLock::new(Segments::new()) }; CPUS],
                #[cfg(loom)]
                lists: core::array::from_fn(|_| TicketLock::new(Segments::new())),
                #[cfg(not(loom))]
                waiting: [const { Waiting::new() }; CPUS],
                #[cfg(loom)]
                waiting: core::array::from_fn(|_| Waiting::new()),
                hurried: AtomicU64::new(0),
            }
        }
    }

    /// Queues `head` on this CPU, `bytes` of memory waiting with it.
    ///
    /// # Safety
    /// `head` is valid and in no list until the callback is called, and the callback may then be
    /// called with it.
    pub(super) unsafe fn call(
        &self,
        cpu: &Cpu,
        grace: &impl GracePeriods,
        head: NonNull<RcuHead>,
        (callback, value, bytes): (RcuCallback, usize, u32),
    ) {
        // SAFETY: valid by the caller's promise.
        unsafe { head.as_ref() }.prepare(cpu, callback, value, bytes);
        let target = {
            let mut segments = self.lists[cpu.id].lock_irqsave(cpu);
            self.waiting[cpu.id].add(bytes);
            count(cpu, 0);
            // SAFETY: the caller's promise is the one that `push` asks for.
            unsafe { segments.next.push(head) };
            segments.advance(grace.sequence())
        };
        ask(cpu, grace, target);
    }

    /// Runs this CPU's callbacks whose grace period is over (a bounded number of them), and asks for
    /// the next grace period if there are more. Returns whether some that could run are left.
    pub(super) fn process(&self, cpu: &Cpu, grace: &impl GracePeriods) -> bool {
        if self.waiting[cpu.id].is_empty() {
            return false;
        }
        self.advance(cpu, grace);
        let most = BATCH.max((self.waiting[cpu.id].callbacks() >> DIVISOR) as usize);
        for _ in 0..most {
            let head = {
                let mut segments = self.lists[cpu.id].lock_irqsave(cpu);
                let Some(head) = segments.done.pop() else {
                    return false;
                };
                // In here, since one CPU's record has one writer at a time.
                Self::note_run(cpu, head);
                head
            };
            // SAFETY: queued by `call`, its grace period is over, and now it is in no list.
            unsafe { self.run(cpu, cpu.id, head) };
        }
        !self.lists[cpu.id].lock_irqsave(cpu).done.is_empty()
    }

    /// Moves this CPU's callbacks on, and asks for the next grace period if some wait, without running any. From
    /// anywhere.
    pub(super) fn advance(&self, cpu: &Cpu, grace: &impl GracePeriods) {
        let target = self.lists[cpu.id]
            .lock_irqsave(cpu)
            .advance(grace.sequence());
        ask(cpu, grace, target);
    }

    /// Runs every callback of every CPU at once, and waits for those that other CPUs run already.
    ///
    /// # Safety
    /// No CPU is in a read section, or will enter one before this returns.
    pub(super) unsafe fn drain(&self, cpu: &Cpu) {
        let are_done = || self.waiting.iter().all(Waiting::is_empty);
        let mut backoff = Backoff::new();
        loop {
            // SAFETY: the caller's promise.
            unsafe { self.drain_lists(cpu) };
            if are_done() {
                return;
            }
            // A bottom half of another CPU took one, and may have been preempted in the middle of it.
            backoff.pause(cpu, are_done);
        }
    }

    /// Runs every callback that is in a list.
    ///
    /// # Safety
    /// As [`Self::drain`].
    pub(super) unsafe fn drain_lists(&self, cpu: &Cpu) {
        loop {
            let mut ran = false;
            for (id, list) in self.lists.iter().enumerate() {
                // SAFETY: the caller's promise.
                ran |= unsafe { self.drain_list(cpu, id, list) };
            }
            // A callback may have queued another one, here.
            if !ran {
                return;
            }
        }
    }

    /// Runs every callback of CPU `id`; whether there was one.
    ///
    /// # Safety
    /// As [`Self::drain`].
    unsafe fn drain_list(
        &self,
        cpu: &Cpu,
        id: usize,
        list: &TicketLock<Segments, false, CallbackList>,
    ) -> bool {
        let mut ran = false;
        loop {
            let head = {
                let mut segments = list.lock_irqsave(cpu);
                let Some(head) = segments.pop_any() else {
                    return ran;
                };
                Self::note_run(cpu, head);
                head
            };
            // SAFETY: queued by `call` and in no list now; that no section is left is the caller's
            // promise, and as good as a grace period.
            unsafe { self.run(cpu, id, head) };
            ran = true;
        }
    }

    /// Has all other CPUs on which callbacks wait run those soon whose grace period is over; whether there are any.
    pub(super) fn hurry_others(&self, cpu: &Cpu) -> bool {
        let mut any = false;
        for (id, waiting) in self.waiting.iter().enumerate() {
            if id != cpu.id && !waiting.is_empty() {
                self.hurried.fetch_or(1 << id, Relaxed);
                cpu.ops.kick(cpu, id);
                any = true;
            }
        }
        any
    }

    /// Whether this CPU was told to hurry, once for each time.
    pub(super) fn is_hurried(&self, cpu: &Cpu) -> bool {
        let me = bit(cpu);
        self.hurried.load(Relaxed) & me != 0 && self.hurried.fetch_and(!me, Relaxed) & me != 0
    }

    /// Callbacks that are done, of all CPUs so far.
    pub(super) fn done(&self) -> u64 {
        self.waiting.iter().map(Waiting::done).sum()
    }

    /// What waits on CPU `id`.
    pub(super) fn backlog(&self, id: usize) -> Backlog {
        self.waiting[id].read()
    }

    /// Notes that a callback is about to run here.
    fn note_run(cpu: &Cpu, head: NonNull<RcuHead>) {
        count(cpu, 1);
        // SAFETY: popped just now, so it is valid until it has run, by the promise made to `call`.
        let head = unsafe { head.as_ref() };
        head.waited().finish(cpu, Metric::Callback);
    }

    /// Runs a callback of CPU `id`.
    ///
    /// # Safety
    /// It was queued by [`Self::call`], is in no list, and its time has come.
    unsafe fn run(&self, cpu: &Cpu, id: usize, head: NonNull<RcuHead>) {
        // SAFETY: valid until it has run, by the promise made to `call`.
        let bytes = unsafe { head.as_ref() }.bytes();
        // Threads run callbacks too. These may rely on running in a bottom half, for a lock that others take with
        // these held back.
        cpu.bottom_half_disable();
        // SAFETY: the caller's promise.
        unsafe { RcuHead::run(cpu, head) };
        cpu.bottom_half_enable();
        // It waited until now: one that is in no list may not have run yet, and what it queues is
        // counted before this.
        self.waiting[id].remove(bytes);
    }
}

fn ask(cpu: &Cpu, grace: &impl GracePeriods, target: Option<u64>) {
    if let Some(target) = target {
        grace.sequence().ask(target);
        grace.advance(cpu);
    }
}

fn count(cpu: &Cpu, which: usize) {
    let counter = &cpu.area.callbacks[which];
    counter.store(counter.load(Relaxed) + 1, Relaxed);
}
