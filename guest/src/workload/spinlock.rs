//! The spinlocks of `lock`: one kind of three.

use crate::{
    Cpu,
    sync::{QueuedGuard, QueuedLock, SeqLock, SeqLockGuard, TicketGuard, TicketLock},
};

crate::lock_class!(
    /// Those that `lock` contends for.
    pub(super) TestLock = "test_lock"
);

/// One lock.
pub(super) enum Spinlock {
    Ticket(TicketLock<(), true, TestLock>),
    Queued(QueuedLock<(), true, TestLock>),
    /// Its writers exclude each other; readers go on beside them.
    Sequence(SeqLock<true, TestLock>),
}

impl Spinlock {
    /// One of this kind, by its number in the contract; the first for a number that is none.
    pub(super) fn of_kind(number: u64) -> Self {
        match number {
            1 => Self::Queued(QueuedLock::new(())),
            2 => Self::Sequence(SeqLock::new()),
            _ => Self::Ticket(TicketLock::new(())),
        }
    }

    /// Takes it, to write what it guards.
    #[inline]
    pub(super) fn lock<'a>(&'a self, cpu: &'a Cpu) -> Held<'a> {
        match self {
            Self::Ticket(lock) => Held::Ticket(lock.lock(cpu)),
            Self::Queued(lock) => Held::Queued(lock.lock(cpu)),
            Self::Sequence(lock) => Held::Sequence(lock.write(cpu)),
        }
    }
}

/// The lock, held; dropped, it is free again.
#[must_use]
#[expect(dead_code, reason = "guards are held, not read")]
pub(super) enum Held<'a> {
    Ticket(TicketGuard<'a, (), true, TestLock>),
    Queued(QueuedGuard<'a, (), true, TestLock>),
    Sequence(SeqLockGuard<'a, true, TestLock>),
}
