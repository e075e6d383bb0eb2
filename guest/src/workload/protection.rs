//! How the tree of `walk` is protected: its readers by a kind of RCU, its objects by a kind of lock.

use super::torture::BOOST_AFTER_NS;
use crate::{
    Cpu,
    sync::{FlavourGuard, Mutex, MutexGuard, RcuFlavour, TicketGuard, TicketLock},
};

/// What a user may choose, in the order of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Spinlocks and classic RCU.
    Classic,
    /// Spinlocks and preemptible RCU.
    Preemptible,
    /// Spinlocks and sleepable RCU.
    Sleepable,
    /// Spinlocks turned into mutexes, and RCU into sleepable RCU.
    MutexSrcu,
    /// Spinlocks that sleep, as PREEMPT_RT has them, and preemptible RCU.
    SleepingSpinlock,
}

impl Form {
    /// All of them, by their number in the contract.
    pub(super) const ALL: [Self; 5] = [
        Self::Classic,
        Self::Preemptible,
        Self::Sleepable,
        Self::MutexSrcu,
        Self::SleepingSpinlock,
    ];

    /// That of this number; the first for a number that is none.
    pub(super) fn from_number(number: u64) -> Self {
        let known = usize::try_from(number).ok();
        let form = known.and_then(|index| Self::ALL.get(index));
        form.copied().unwrap_or(Self::Classic)
    }
}

/// A form, and the machine that its readers use.
pub(super) struct Protection {
    pub(super) rcu: RcuFlavour<'static>,
    form: Form,
}

impl Protection {
    /// `form`, with its machine of `flavours`. Preempted readers that hold a grace period up for long
    /// are boosted.
    pub(super) fn new(form: Form, flavours: &[RcuFlavour<'static>; 3]) -> Self {
        let [classic, preemptible, sleepable] = *flavours;
        let rcu = match form {
            Form::Classic => classic,
            Form::Preemptible | Form::SleepingSpinlock => preemptible,
            Form::Sleepable | Form::MutexSrcu => sleepable,
        };
        rcu.set_boost(Some(BOOST_AFTER_NS));
        Self { rcu, form }
    }

    /// Takes an object's lock; outside of read sections unless these may block on it.
    #[inline]
    pub(super) fn lock<'a>(&self, cpu: &'a Cpu, lock: &'a ObjectLock) -> Locked<'a> {
        match self.form {
            Form::Classic | Form::Preemptible | Form::Sleepable => {
                Locked::Spinning(lock.spinning.lock(cpu))
            }
            Form::MutexSrcu => Locked::Mutex(lock.sleeping.lock(cpu)),
            Form::SleepingSpinlock => {
                let lock = lock.sleeping.lock(cpu);
                // Whoever has such a lock is a reader too (`__rt_spin_lock`,
                // kernel/locking/spinlock_rt.c): code that had preemption disabled relied on it.
                let section = self.rcu.read_lock(cpu);
                Locked::SleepingSpinlock { section, lock }
            }
        }
    }

    /// A reader has met a writer, and waits for it if it may: as PREEMPT_RT's readers of a sequence
    /// count do (`__seqprop_spinlock_sequence`, include/linux/seqlock.h), by taking the writer's lock
    /// once, within its section. Other readers just look again.
    #[cold]
    pub(super) fn wait_for_writer(&self, cpu: &Cpu, lock: &ObjectLock) {
        if self.form == Form::SleepingSpinlock {
            drop(self.lock(cpu, lock));
        }
    }

    /// The same as [`Self::lock`] where the object may be poison by now: a spinlock if it is free. What a mutex knows
    /// of its waiters must not be believed there, so that such an object is left alone.
    pub(super) fn try_lock<'a>(&self, cpu: &'a Cpu, lock: &'a ObjectLock) -> Option<Locked<'a>> {
        match self.form {
            Form::Classic | Form::Preemptible | Form::Sleepable => {
                lock.spinning.try_lock(cpu).map(Locked::Spinning)
            }
            Form::MutexSrcu | Form::SleepingSpinlock => None,
        }
    }
}

crate::lock_class!(pub(super) DentryLock = "dentry_lock");
crate::lock_class!(pub(super) DentryMutex = "dentry_mutex");

/// What an object has for every form; one of the two is used.
#[derive(Default)]
#[repr(C)]
pub(super) struct ObjectLock {
    spinning: TicketLock<(), true, DentryLock>,
    sleeping: Mutex<(), true, DentryMutex>,
}

impl ObjectLock {
    /// Makes it that of a new object. Nobody else may know the object yet.
    pub(super) fn reset(&self, cpu: &Cpu) {
        self.spinning.reset();
        self.sleeping.reset(cpu);
    }
}

/// An object's lock, held; dropped, it is free again.
#[must_use]
#[expect(dead_code, reason = "guards are held, not read")]
pub(super) enum Locked<'a> {
    Spinning(TicketGuard<'a, (), true, DentryLock>),
    Mutex(MutexGuard<'a, (), true, DentryMutex>),
    SleepingSpinlock {
        /// Ends before the lock is free.
        section: FlavourGuard<'a>,
        lock: MutexGuard<'a, (), true, DentryMutex>,
    },
}

#[cfg(test)]
mod tests;
