//! What waits in a callback list, and the lists, which run through the objects themselves.

use crate::{Cpu, record::Span};
use core::{
    ptr::NonNull,
    sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed},
};

/// What runs when a grace period is over: gets the head that was queued, and the value with it.
///
/// # Safety
/// May only be called by the kind of RCU that it was queued with, once for each time.
pub type RcuCallback = unsafe fn(&Cpu, NonNull<RcuHead>, usize);

/// A place in a callback list, embedded in the object that waits. Any bit pattern is a valid value,
/// so an object that is poisoned or zeroed holds a valid head.
#[derive(Debug, Default)]
#[repr(C)]
pub struct RcuHead {
    next: AtomicUsize,
    callback: AtomicUsize,
    value: AtomicUsize,
    /// When it was queued, in which phase of the run, and how many bytes wait with it.
    queued_tsc: AtomicU64,
    phase: AtomicU32,
    bytes: AtomicU32,
}

impl RcuHead {
    /// Notes what is to be called.
    pub(super) fn prepare(&self, cpu: &Cpu, callback: RcuCallback, value: usize, bytes: u32) {
        let (queued_tsc, phase) = Span::start(cpu).into_parts();
        self.callback.store(callback as usize, Relaxed);
        self.value.store(value, Relaxed);
        self.queued_tsc.store(queued_tsc, Relaxed);
        self.phase.store(phase, Relaxed);
        self.bytes.store(bytes, Relaxed);
    }

    /// How many bytes wait with it.
    pub(super) fn bytes(&self) -> u32 {
        self.bytes.load(Relaxed)
    }

    /// The time since it was queued.
    pub(super) fn waited(&self) -> Span {
        Span::resume(self.queued_tsc.load(Relaxed), self.phase.load(Relaxed))
    }

    /// Calls what it was queued with.
    ///
    /// # Safety
    /// `head` was queued with the promise of `call`, is in no list, and its time has come.
    pub(super) unsafe fn run(cpu: &Cpu, head: NonNull<Self>) {
        // SAFETY: valid until its callback is called, by the promise made to `call`.
        let fields = unsafe { head.as_ref() };
        let (callback, value) = (fields.callback.load(Relaxed), fields.value.load(Relaxed));
        // SAFETY: `prepare` stored a function of this very type there.
        let callback = unsafe { core::mem::transmute::<usize, RcuCallback>(callback) };
        // SAFETY: the promise made to `call`.
        unsafe { callback(cpu, head, value) };
    }
}

/// A list of heads: addresses of the first and the last, 0 when empty.
#[derive(Debug, Default)]
pub(super) struct List {
    first: usize,
    last: usize,
}

impl List {
    pub(super) const fn new() -> Self {
        Self { first: 0, last: 0 }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.first == 0
    }

    /// # Safety
    /// `head` stays valid, and in no other list, until it is popped.
    pub(super) unsafe fn push(&mut self, head: NonNull<RcuHead>) {
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

    pub(super) fn pop(&mut self) -> Option<NonNull<RcuHead>> {
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

    pub(super) fn append(&mut self, other: &mut Self) {
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
