use super::{Mutex, OWNER, WAITERS, me};
use crate::{
    Cpu,
    sync::{
        atomic::Ordering::{Acquire, Relaxed},
        loom_models::{Shared, explore, sched::ModelSched},
    },
};
use loom::{sync::Arc, thread};

type Guarded = Mutex<Shared>;

/// One thread adds twice: the second time it may take the mutex out of turn, and a waiter is then
/// handed it. The other adds by `enter`, which says whether it did.
fn mutex(enter: fn(&Guarded, &Cpu) -> bool) {
    explore(3, move || {
        ModelSched::run(|sched| {
            let mutex = Arc::new(Guarded::new(Shared::default()));
            let thread = {
                let mutex = mutex.clone();
                thread::spawn(move || {
                    let cpu = sched.cpu(0);
                    mutex.lock(&cpu).add();
                    mutex.lock(&cpu).add();
                })
            };
            let cpu = sched.cpu(1);
            let added = u32::from(enter(&mutex, &cpu));
            thread.join().expect("no panic");
            assert_eq!(mutex.lock(&cpu).get(), 2 + added);
            assert_eq!(mutex.owner(), None);
        });
    });
}

#[test]
fn loom_mutex_excludes_and_is_handed_over() {
    mutex(|mutex, cpu| {
        mutex.lock(cpu).add();
        true
    });
}

/// Who comes out of turn finds what the last owner did, though that one let go for a waiter.
#[test]
fn loom_mutex_excludes_three() {
    explore(1, || {
        ModelSched::run_asleep(|sched| {
            let mutex = Arc::new(Guarded::new(Shared::default()));
            let threads = [0, 1, 2].map(|id| {
                let (mutex, cpu) = (mutex.clone(), sched.cpu(id));
                thread::spawn(move || mutex.lock(&cpu).add())
            });
            for thread in threads {
                thread.join().expect("no panic");
            }
            assert_eq!(mutex.lock(&sched.cpu(0)).get(), 3);
        });
    });
}

#[test]
fn loom_mutex_attempt_excludes() {
    mutex(|mutex, cpu| mutex.try_lock(cpu).map(|guard| guard.add()).is_some());
}

#[test]
#[should_panic(expected = "Causality violation")]
fn loom_mutex_taken_in_two_steps_is_caught() {
    mutex(|mutex, cpu| {
        let free = mutex.state.load(Acquire) & OWNER == 0;
        if free {
            mutex.state.store(me(cpu), Relaxed);
            // SAFETY: it is not, and loom says so.
            unsafe { &*mutex.value.get() }.add();
            mutex.unlock(cpu);
        }
        free
    });
}

/// One thread has the mutex for a while; the other goes to sleep by `join`, unless that gives it the
/// mutex. If not, it must be woken.
fn waiter(join: fn(&Guarded, &Cpu) -> bool) {
    explore(3, move || {
        ModelSched::run(|sched| {
            let mutex = Arc::new(Guarded::new(Shared::default()));
            let thread = {
                let mutex = mutex.clone();
                thread::spawn(move || mutex.lock(&sched.cpu(0)).add())
            };
            let cpu = sched.cpu(1);
            let taken = join(&mutex, &cpu);
            if taken {
                mutex.unlock(&cpu);
            }
            thread.join().expect("no panic");
            assert!(taken || sched.is_woken(1), "sleeps for ever");
        });
    });
}

#[test]
fn loom_mutex_waiter_is_woken() {
    waiter(|mutex, cpu| mutex.take_turn(cpu, false));
}

#[test]
#[should_panic(expected = "sleeps for ever")]
fn loom_mutex_waiter_that_does_not_look_again_sleeps_for_ever() {
    waiter(|mutex, cpu| {
        if mutex.attempt(cpu) {
            return true;
        }
        let mut waiters = mutex.waiters.lock(cpu);
        waiters.push(cpu.sched, cpu.sched.current(cpu), 0);
        mutex.state.fetch_or(WAITERS, Relaxed);
        false
    });
}
