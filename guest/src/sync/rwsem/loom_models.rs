use super::{Mode, RwSemaphore, WAITERS, WRITER};
use crate::{
    Cpu,
    sync::{
        atomic::Ordering::{Acquire, Relaxed},
        loom_models::{Shared, explore, sched::ModelSched},
    },
};
use loom::{sync::Arc, thread};

type Guarded = RwSemaphore<Shared>;

/// One thread does `first`, the other `second`; each says how often it wrote. loom fails a model in
/// which anybody meets a writer.
fn pair(first: fn(&Guarded, &Cpu) -> u32, second: fn(&Guarded, &Cpu) -> u32) {
    explore(3, move || {
        ModelSched::run(|sched| {
            let semaphore = Arc::new(Guarded::new(Shared::default()));
            let thread = {
                let semaphore = semaphore.clone();
                thread::spawn(move || first(&semaphore, &sched.cpu(0)))
            };
            let cpu = sched.cpu(1);
            let written = second(&semaphore, &cpu) + thread.join().expect("no panic");
            assert_eq!(semaphore.read(&cpu).get(), written);
            assert_eq!(semaphore.state.load(Relaxed), 0, "somebody is left");
        });
    });
}

fn write(semaphore: &Guarded, cpu: &Cpu) -> u32 {
    semaphore.write(cpu).add();
    1
}

fn read_twice(semaphore: &Guarded, cpu: &Cpu) -> u32 {
    semaphore.read(cpu).get();
    semaphore.read(cpu).get();
    0
}

fn try_both(semaphore: &Guarded, cpu: &Cpu) -> u32 {
    semaphore.try_read(cpu).map(|guard| guard.get());
    semaphore
        .try_write(cpu)
        .map(|guard| guard.add())
        .is_some()
        .into()
}

#[test]
fn loom_rwsem_writers_exclude_readers_and_each_other() {
    pair(read_twice, write);
    pair(write, write);
}

#[test]
fn loom_rwsem_attempts_exclude() {
    pair(write, try_both);
    pair(read_twice, try_both);
    pair(try_both, try_both);
}

#[test]
fn loom_rwsem_no_writer_comes_between_a_downgrade() {
    pair(write, |semaphore, cpu| {
        let guard = semaphore.write(cpu);
        guard.add();
        let written = guard.get();
        let guard = guard.downgrade();
        assert_eq!(guard.get(), written);
        1
    });
    pair(read_twice, |semaphore, cpu| {
        let guard = semaphore.write(cpu);
        guard.add();
        guard.downgrade().get();
        1
    });
}

/// A writer waits for one reader, and another reader for the writer.
#[test]
fn loom_rwsem_all_who_wait_get_in() {
    explore(1, || {
        ModelSched::run_asleep(|sched| {
            let semaphore = Arc::new(Guarded::new(Shared::default()));
            let read = |semaphore: &Guarded, cpu: &Cpu| {
                semaphore.read(cpu).get();
                0
            };
            let works: [fn(&Guarded, &Cpu) -> u32; 3] = [write, read, read];
            let mut id = 0;
            let threads = works.map(|work| {
                let (semaphore, cpu) = (semaphore.clone(), sched.cpu(id));
                id += 1;
                thread::spawn(move || work(&semaphore, &cpu))
            });
            for thread in threads {
                thread.join().expect("no panic");
            }
            assert_eq!(semaphore.read(&sched.cpu(0)).get(), 1);
        });
    });
}

/// Two readers are inside and a writer waits: the one who leaves last lets it in for both.
#[test]
fn loom_rwsem_writer_comes_after_all_readers() {
    explore(3, || {
        ModelSched::run(|sched| {
            let semaphore = Arc::new(Guarded::new(Shared::default()));
            let cpu = sched.cpu(2);
            assert!(
                [0, 1]
                    .iter()
                    .all(|&id| semaphore.attempt(&sched.cpu(id), Mode::Read))
            );
            assert!(!semaphore.enter_or_join(&cpu, Mode::Write));
            let readers = [0, 1].map(|id| {
                let (semaphore, cpu) = (semaphore.clone(), sched.cpu(id));
                thread::spawn(move || {
                    // SAFETY: entered above for this thread.
                    unsafe { &*semaphore.value.get() }.get();
                    semaphore.leave(&cpu, Mode::Read);
                })
            });
            semaphore.sleep(&cpu);
            // SAFETY: let in as the writer.
            unsafe { &*semaphore.value.get() }.add();
            semaphore.leave(&cpu, Mode::Write);
            for reader in readers {
                reader.join().expect("no panic");
            }
        });
    });
}

#[test]
#[should_panic(expected = "Causality violation")]
fn loom_rwsem_attempt_in_two_steps_is_caught() {
    pair(write, |semaphore, cpu| {
        let free = semaphore.state.load(Acquire) == 0;
        if free {
            semaphore.state.fetch_add(WRITER, Acquire);
            // SAFETY: it is not, and loom says so.
            unsafe { &*semaphore.value.get() }.add();
            semaphore.leave(cpu, Mode::Write);
        }
        free.into()
    });
}

#[test]
#[should_panic(expected = "Causality violation")]
fn loom_rwsem_reader_that_overlooks_the_writer_is_caught() {
    pair(write, |semaphore, cpu| {
        semaphore.state.fetch_add(Mode::Read.entry(), Acquire);
        // SAFETY: it is not, and loom says so.
        unsafe { &*semaphore.value.get() }.get();
        semaphore.leave(cpu, Mode::Read);
        0
    });
}

/// One thread reads; the other goes to sleep as a writer by `join`, unless that lets it in. If not,
/// it must be woken.
fn waiter(join: fn(&Guarded, &Cpu) -> bool) {
    explore(3, move || {
        ModelSched::run(|sched| {
            let semaphore = Arc::new(Guarded::new(Shared::default()));
            let thread = {
                let semaphore = semaphore.clone();
                thread::spawn(move || semaphore.read(&sched.cpu(0)).get())
            };
            let cpu = sched.cpu(1);
            let inside = join(&semaphore, &cpu);
            if inside {
                semaphore.leave(&cpu, Mode::Write);
            }
            thread.join().expect("no panic");
            assert!(inside || sched.is_woken(1), "sleeps for ever");
        });
    });
}

#[test]
fn loom_rwsem_waiter_is_woken() {
    waiter(|semaphore, cpu| semaphore.enter_or_join(cpu, Mode::Write));
}

#[test]
#[should_panic(expected = "sleeps for ever")]
fn loom_rwsem_waiter_that_does_not_look_again_sleeps_for_ever() {
    waiter(|semaphore, cpu| {
        if semaphore.attempt(cpu, Mode::Write) {
            return true;
        }
        let mut waiters = semaphore.waiters.lock(cpu);
        waiters.push(cpu.sched, cpu.sched.current(cpu), Mode::Write as u32);
        semaphore.state.fetch_or(WAITERS, Relaxed);
        false
    });
}
