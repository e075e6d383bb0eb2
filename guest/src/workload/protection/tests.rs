use super::*;
use crate::{
    fixture::{self, Fixture},
    sync::{RcuHead, RcuStall, machines},
};
use core::ptr::NonNull;
use std::{thread, time::Duration};
use underfoot_abi::Wait;

const LONG_NS: u64 = 60_000_000_000;

fn protection(form: Form) -> Protection {
    Protection::new(form, machines(LONG_NS, RcuStall::report))
}

#[test]
fn choices_are_those_of_the_contract() {
    let known = underfoot_abi::WorkloadId::Walk.parameters()[super::super::Walk::PROTECT].choices;
    assert_eq!(known.len(), Form::ALL.len());
    for (number, form) in Form::ALL.into_iter().enumerate() {
        assert_eq!(
            (form as usize, Form::from_number(number as u64)),
            (number, form)
        );
    }
    assert_eq!(Form::from_number(u64::MAX), Form::Classic);
}

#[test]
fn a_lock_that_sleeps_is_no_spinlock() {
    for form in Form::ALL {
        let fixture = Fixture::new(1);
        let cpu = fixture.cpu(0);
        let (protection, lock) = (protection(form), ObjectLock::default());
        let held = protection.lock(&cpu, &lock);
        let sleeps = matches!(form, Form::MutexSrcu | Form::SleepingSpinlock);
        assert_eq!(cpu.hold.is_preemptible(), sleeps, "{form:?}");
        assert_eq!(lock.sleeping.owner().is_some(), sleeps, "{form:?}");
        drop(held);
        assert!(cpu.hold.is_preemptible() && lock.sleeping.owner().is_none());
        // An object that may be poison has no mutex to speak of.
        assert_eq!(
            protection.try_lock(&cpu, &lock).is_none(),
            sleeps,
            "{form:?}"
        );
    }
}

#[test]
fn the_holder_of_a_sleeping_spinlock_is_a_reader() {
    let fixture = Fixture::new(1);
    let cpu = fixture.cpu(0);
    let (protection, lock) = (protection(Form::SleepingSpinlock), ObjectLock::default());
    protection.rcu.idle_exit(&cpu);
    let held = protection.lock(&cpu, &lock);
    // SAFETY: zeroes are a valid head, which is in no list and stays for ever.
    unsafe {
        let head = NonNull::new_unchecked(fixture::leak::<RcuHead>());
        protection.rcu.call(&cpu, head, nothing, 0, 0);
    }
    let waiting = || {
        for _ in 0..8 {
            protection.rcu.tick(&cpu, cpu.context());
            protection.rcu.process(&cpu);
        }
        protection.rcu.backlog(cpu.id).callbacks
    };
    assert_eq!(waiting(), 1, "it holds the grace period up");
    drop(held);
    assert_eq!(waiting(), 0);
}

/// # Safety
/// None: it does nothing.
unsafe fn nothing(_: &Cpu, _: NonNull<RcuHead>, _: usize) {}

#[test]
fn a_reader_waits_for_a_writer_only_where_it_may_block() {
    for form in Form::ALL {
        let fixture = Fixture::new(2);
        let [writer, reader] = [0, 1].map(|id| fixture.cpu(id));
        let (protection, lock) = (protection(form), ObjectLock::default());
        let held = protection.lock(&writer, &lock);
        thread::scope(|scope| {
            let waiter = scope.spawn(|| {
                let _section = protection.rcu.read_lock(&reader);
                protection.wait_for_writer(&reader, &lock);
            });
            if form == Form::SleepingSpinlock {
                let waits = || fixture.cpu(1).context().wait();
                while waits() != (Wait::Mutex, lock.sleeping.identity()) {
                    thread::sleep(Duration::from_millis(1));
                }
            } else {
                // It ends while the lock is held.
                while !waiter.is_finished() {
                    thread::sleep(Duration::from_millis(1));
                }
            }
            drop(held);
            waiter.join().expect("no panic");
        });
        assert!(lock.sleeping.owner().is_none(), "{form:?}");
    }
}
