//! Callbacks that wait for a grace period, in lists that run through the objects themselves.

use super::{CPUS, Rcu, TicketLock};
use crate::{Cpu, sync::atomic::const_fn};
use core::{
    ptr::NonNull,
    sync::atomic::{
        AtomicUsize,
        Ordering::{Acquire, Relaxed},
    },
};

/// Callbacks run in one call of [`Rcu::process`] (Linux's `blimit`, for the same reason: the caller
/// has other work to do).
const BATCH: usize = 64;

/// What runs when a grace period is over: gets the head that was queued, and the value with it.
///
/// # Safety
/// May only be called by [`Rcu`], once for each time that the head was queued.
pub type RcuCallback = unsafe fn(&Cpu, NonNull<RcuHead>, usize);

/// A place in a callback list, embedded in the object that waits. Any bit pattern is a valid value,
/// so an object that is poisoned or zeroed holds a valid head.
#[derive(Debug, Default)]
#[repr(C)]
pub struct RcuHead {
    next: AtomicUsize,
    callback: AtomicUsize,
    value: AtomicUsize,
}

/// A list of heads: addresses of the first and the last, 0 when empty.
#[derive(Debug, Default)]
struct List {
    first: usize,
    last: usize,
}

impl List {
    const fn new() -> Self {
        Self { first: 0, last: 0 }
    }

    /// # Safety
    /// `head` stays valid, and in no other list, until it is popped.
    unsafe fn push(&mut self, head: NonNull<RcuHead>) {
        let address = head.expose_provenance().get();
        // SAFETY: valid by the caller's promise; its fields are atomics.
        unsafe { head.as_ref() }.next.store(0, Relaxed);
        match NonNull::new(core::ptr::with_exposed_provenance_mut::<RcuHead>(self.last)) {
            // SAFETY: `last` was pushed and not popped, so it is valid by its pusher's promise.
            Some(last) => unsafe { last.as_ref() }.next.store(address, Relaxed),
            None => self.first = address,
        }
        self.last = address;
    }

    fn pop(&mut self) -> Option<NonNull<RcuHead>> {
        let head = NonNull::new(core::ptr::with_exposed_provenance_mut::<RcuHead>(
            self.first,
        ))?;
        // SAFETY: pushed and not popped yet, so it is valid by its pusher's promise.
        self.first = unsafe { head.as_ref() }.next.load(Relaxed);
        if self.first == 0 {
            self.last = 0;
        }
        Some(head)
    }

    fn append(&mut self, other: &mut Self) {
        match NonNull::new(core::ptr::with_exposed_provenance_mut::<RcuHead>(self.last)) {
            // SAFETY: `last` was pushed and not popped, so it is valid by its pusher's promise.
            Some(last) => unsafe { last.as_ref() }.next.store(other.first, Relaxed),
            None => self.first = other.first,
        }
        if other.last != 0 {
            self.last = other.last;
        }
        *other = Self::new();
    }
}

/// One CPU's callbacks, by what they wait for.
#[derive(Debug, Default)]
pub(super) struct Segments {
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
}

const_fn! {
    /// An empty list for each CPU.
    pub(super) fn lists() -> [TicketLock<Segments, false>; CPUS] {
        #[cfg(not(loom))]
        {
            [const { TicketLock::new(Segments::new()) }; CPUS]
        }
        #[cfg(loom)]
        {
            core::array::from_fn(|_| TicketLock::new(Segments::new()))
        }
    }
}

impl Rcu {
    /// Has `callback` called with `head` and `value` after a grace period, by this CPU, in
    /// [`Self::process`]. Not in an interrupt.
    ///
    /// # Safety
    /// `head` is valid and in no list until the callback is called, and the callback may then be
    /// called with it.
    pub unsafe fn call(
        &self,
        cpu: &Cpu,
        head: NonNull<RcuHead>,
        callback: RcuCallback,
        value: usize,
    ) {
        // SAFETY: valid by the caller's promise.
        let fields = unsafe { head.as_ref() };
        fields.callback.store(callback as usize, Relaxed);
        fields.value.store(value, Relaxed);
        // SAFETY: the caller's promise is the one that `push` asks for.
        unsafe { self.callbacks[cpu.id].lock(cpu).next.push(head) };
        count(cpu, 0);
        self.advance(cpu);
    }

    /// Runs this CPU's callbacks whose grace period is over (a bounded number of them), and asks for
    /// the next grace period if there are more. Between operations, outside of interrupts and read
    /// sections.
    pub fn process(&self, cpu: &Cpu) {
        self.advance(cpu);
        for _ in 0..BATCH {
            let head = self.callbacks[cpu.id].lock(cpu).done.pop();
            let Some(head) = head else { return };
            // SAFETY: queued by `call`, its grace period is over, and now it is in no list.
            unsafe { run(cpu, head) };
        }
    }

    /// Runs every callback of every CPU at once.
    ///
    /// # Safety
    /// No CPU is in a read section, or will enter one before this returns.
    pub unsafe fn drain(&self, cpu: &Cpu) {
        for list in &self.callbacks {
            let mut all = List::new();
            {
                let mut segments = list.lock(cpu);
                let Segments {
                    done,
                    waiting,
                    next,
                    ..
                } = &mut *segments;
                for part in [done, waiting, next] {
                    all.append(part);
                }
            }
            while let Some(head) = all.pop() {
                // SAFETY: queued by `call` and in no list now; that no section is left is the
                // caller's promise, and as good as a grace period.
                unsafe { run(cpu, head) };
            }
        }
    }

    /// Moves the segments on.
    fn advance(&self, cpu: &Cpu) {
        let mut segments = self.callbacks[cpu.id].lock(cpu);
        // Pairs with the release that ended the grace period: its sections are over for us too.
        let over = self.seq.load(Acquire) >= segments.target;
        let Segments {
            done,
            waiting,
            target,
            next,
        } = &mut *segments;
        if over {
            done.append(waiting);
        }
        if waiting.first == 0 && next.first != 0 {
            waiting.append(next);
            *target = self.snapshot();
        }
        if waiting.first == 0 {
            return;
        }
        let target = *target;
        drop(segments);
        self.want(cpu, target);
    }
}

/// # Safety
/// `head` was queued by [`Rcu::call`], is in no list, and its time has come.
unsafe fn run(cpu: &Cpu, head: NonNull<RcuHead>) {
    count(cpu, 1);
    // SAFETY: valid until its callback is called, by the promise made to `call`.
    let fields = unsafe { head.as_ref() };
    let (callback, value) = (fields.callback.load(Relaxed), fields.value.load(Relaxed));
    // SAFETY: `call` stored a function of this very type there.
    let callback = unsafe { core::mem::transmute::<usize, RcuCallback>(callback) };
    // SAFETY: the promise made to `call`.
    unsafe { callback(cpu, head, value) };
}

fn count(cpu: &Cpu, which: usize) {
    let counter = &cpu.area.callbacks[which];
    counter.store(counter.load(Relaxed) + 1, Relaxed);
}
