//! The sequence lock: a sequence count whose writers exclude each other by a lock of its own.

use super::{
    SeqCount, TicketGuard, TicketLock,
    lockdep::{Classed, Unclassed},
};
use crate::Cpu;

/// As Linux's `seqlock_t` (Documentation/locking/seqlock.rst). What it guards must be atomics, as
/// for [`SeqCount`]. With `RECORDED`, holds of its lock and waits for it are recorded, as [`TicketLock`] says.
#[derive(Debug, Default)]
pub struct SeqLock<const RECORDED: bool = false, C = Unclassed> {
    count: SeqCount,
    lock: TicketLock<(), RECORDED, C>,
}

impl<const RECORDED: bool, C: Classed> SeqLock<RECORDED, C> {
    super::atomic::const_fn! {
        /// A lock with no writer inside.
        #[must_use]
        pub fn new() -> Self {
            Self {
                count: SeqCount::new(),
                lock: TicketLock::new(()),
            }
        }
    }

    /// Begins a read section, after waiting for a writer to leave.
    #[inline]
    #[must_use]
    pub fn read_begin(&self, cpu: &Cpu) -> u32 {
        self.count.read_begin(cpu)
    }

    /// Ends a read section; whether it must be done again because a writer was inside.
    #[inline]
    #[must_use]
    pub fn read_retry(&self, seq: u32) -> bool {
        self.count.read_retry(seq)
    }

    /// Reads alone, where retries would have no end: excludes writers, disturbs no other reader
    /// (`read_seqlock_excl`).
    #[inline]
    pub fn read_exclusive<'a>(&'a self, cpu: &'a Cpu) -> TicketGuard<'a, (), RECORDED, C> {
        self.lock.lock(cpu)
    }

    /// Enters as a writer. Interrupts and bottom halves must neither read nor write what this
    /// guards, unless the caller holds them back.
    #[inline]
    pub fn write<'a>(&'a self, cpu: &'a Cpu) -> SeqLockGuard<'a, RECORDED, C> {
        let lock = self.lock.lock(cpu);
        self.count.write_begin();
        SeqLockGuard {
            count: &self.count,
            _lock: lock,
        }
    }
}

/// The lock, held by a writer; dropped, it is free again.
#[must_use]
pub struct SeqLockGuard<'a, const RECORDED: bool, C: Classed = Unclassed> {
    count: &'a SeqCount,
    /// Let go after the count is even again: fields are dropped after [`Drop::drop`].
    _lock: TicketGuard<'a, (), RECORDED, C>,
}

impl<const RECORDED: bool, C: Classed> Drop for SeqLockGuard<'_, RECORDED, C> {
    #[inline]
    fn drop(&mut self) {
        self.count.write_end();
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
