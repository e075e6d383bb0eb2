//! The sequence count: readers that never write, and retry when a writer was there.

use super::{
    Backoff,
    atomic::{
        AtomicU32,
        Ordering::{Acquire, Relaxed, Release},
        const_fn, fence,
    },
    lockdep::{self, Classed},
};
use crate::Cpu;
use underfoot_abi::Wait;

/// A sequence count, as in Linux (Documentation/locking/seqlock.rst): odd while a writer is inside.
///
/// Writers must exclude each other by other means. What it guards must be atomics, read and written
/// relaxed (Boehm, "Can seqlocks get along with programming language memory models?", MSPC 2012).
#[derive(Debug, Default)]
#[repr(transparent)]
pub struct SeqCount(AtomicU32);

impl SeqCount {
    const_fn! {
        /// A count with no writer inside.
        #[must_use]
        pub fn new() -> Self {
            Self(AtomicU32::new(0))
        }
    }

    /// Makes the count that of a new object. Nobody else may know the object yet.
    pub fn reset(&self) {
        self.0.store(0, Relaxed);
    }

    /// Begins a read section, after waiting for a writer to leave (`read_seqcount_begin`).
    #[inline]
    #[must_use]
    pub fn read_begin(&self, cpu: &Cpu) -> u32 {
        // Pairs with the release in `write_end`.
        let seq = self.0.load(Acquire);
        if seq & 1 == 0 { seq } else { self.wait(cpu) }
    }

    #[cold]
    fn wait(&self, cpu: &Cpu) -> u32 {
        let before = cpu.context().wait();
        cpu.waits_for(Wait::SeqCount, self.address() as u32);
        let mut backoff = Backoff::new();
        let seq = loop {
            // As in `read_begin`.
            let seq = self.0.load(Acquire);
            if seq & 1 == 0 {
                break seq;
            }
            backoff.pause(cpu, || self.0.load(Relaxed) & 1 == 0);
        };
        cpu.waits_for(before.0, before.1);
        seq
    }

    /// As [`Self::read_begin`], which may have to wait: so the lock-order checker hears of it.
    #[inline]
    #[must_use]
    pub fn read_begin_classed<C: Classed>(&self, cpu: &Cpu) -> u32 {
        lockdep::acquire::<C>(cpu, self.address(), 0);
        lockdep::release::<C>(cpu, self.address());
        self.read_begin(cpu)
    }

    /// Begins a read section without waiting: one that began under a writer fails its recheck
    /// (`raw_seqcount_begin`, which `dget_parent` uses).
    #[inline]
    #[must_use]
    pub fn read_begin_raw(&self) -> u32 {
        self.0.load(Acquire) & !1
    }

    /// Ends a read section; whether it must be done again because a writer was inside.
    #[inline]
    #[must_use]
    pub fn read_retry(&self, seq: u32) -> bool {
        // Pairs with the release fence in `write_begin`: a reader that saw one of the writer's
        // stores sees its odd count too.
        fence(Acquire);
        self.0.load(Relaxed) != seq
    }

    /// Enters as the one writer.
    #[inline]
    pub fn write_begin(&self) {
        self.0.store(self.0.load(Relaxed).wrapping_add(1), Relaxed);
        // Pairs with the acquire fence in `read_retry`.
        fence(Release);
    }

    /// As [`Self::write_begin`], and the lock-order checker hears of it, for readers may wait. `level`
    /// says how deep it nests in others of its class (`write_seqcount_begin_nested`).
    #[inline]
    pub fn write_begin_classed<C: Classed>(&self, cpu: &Cpu, level: usize) {
        lockdep::acquire::<C>(cpu, self.address(), level);
        self.write_begin();
    }

    /// Leaves as the one writer.
    #[inline]
    pub fn write_end(&self) {
        // Pairs with the acquire in `read_begin`: who sees the even count sees all the stores.
        self.0.store(self.0.load(Relaxed).wrapping_add(1), Release);
    }

    /// Leaves what [`Self::write_begin_classed`] entered.
    #[inline]
    pub fn write_end_classed<C: Classed>(&self, cpu: &Cpu) {
        lockdep::release::<C>(cpu, self.address());
        self.write_end();
    }

    fn address(&self) -> usize {
        core::ptr::from_ref(self).addr()
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
