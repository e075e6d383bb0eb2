use super::*;

/// What the thread of a CPU says that it holds.
fn holds(cpu: &Cpu) -> Vec<u32> {
    cpu.thread_words().holds.iter().collect()
}
use crate::fixture::Fixture;
use std::sync::atomic::AtomicU64;
use underfoot_abi::Context;

#[test]
fn writers_exclude_all_and_readers_see_whole_updates() {
    const EACH: u64 = 4_000;
    let fixture = Fixture::new(4);
    let semaphore = RwSemaphore::<[u64; 2]>::new([0; 2]);
    let (read, written) = (AtomicU64::new(0), AtomicU64::new(0));
    let write = |value: &mut [u64; 2]| {
        value[0] += 1;
        value[1] += 1;
        written.fetch_add(1, Relaxed);
    };
    let check = |value: &[u64; 2]| {
        assert_eq!(value[0], value[1]);
        read.fetch_add(1, Relaxed);
    };
    std::thread::scope(|scope| {
        for id in 0..4 {
            let (cpu, semaphore) = (fixture.cpu(id), &semaphore);
            scope.spawn(move || {
                for round in 0..EACH {
                    match (round + id as u64) % 6 {
                        0 => write(&mut semaphore.write(&cpu)),
                        1 => {
                            let mut guard = semaphore.write(&cpu);
                            write(&mut guard);
                            check(&guard.downgrade());
                        }
                        2 => {
                            if let Some(mut guard) = semaphore.try_write(&cpu) {
                                write(&mut guard);
                            }
                        }
                        3 => {
                            if let Some(guard) = semaphore.try_read(&cpu) {
                                check(&guard);
                            }
                        }
                        _ => check(&semaphore.read(&cpu)),
                    }
                }
                assert_eq!(cpu.context(), Context::default());
            });
        }
    });
    let cpu = fixture.cpu(0);
    assert_eq!(*semaphore.read(&cpu), [written.load(Relaxed); 2]);
    assert!(read.load(Relaxed) >= 3 * 4 * EACH / 6, "readers got in");
    assert_eq!(semaphore.state.load(Relaxed), 0, "nobody waits");
}

/// Waiters by their steps: whether each got in at once.
#[test]
fn a_writer_that_waits_keeps_later_readers_out_and_those_enter_together() {
    let fixture = Fixture::new(5);
    let cpus = [0, 1, 2, 3, 4].map(|id| fixture.cpu(id));
    let semaphore = RwSemaphore::<()>::new(());
    let inside = semaphore.read(&cpus[0]);
    let waits = |id: usize| WaitList::has(cpus[id].sched, cpus[id].sched.current(&cpus[id]));
    assert!(!semaphore.enter_or_join(&cpus[1], Mode::Write));
    assert!(semaphore.is_contended());
    assert!(semaphore.try_read(&cpus[2]).is_none(), "behind the writer");
    for (id, mode) in [(2, Mode::Read), (3, Mode::Read), (4, Mode::Write)] {
        assert!(!semaphore.enter_or_join(&cpus[id], mode));
    }
    drop(inside);
    assert_eq!([1, 2, 3, 4].map(waits), [false, true, true, true]);
    semaphore.downgrade(&cpus[1]);
    assert_eq!([2, 3, 4].map(waits), [false, false, true]);
    let identity = semaphore.identity();
    let inside = [1, 2, 3].map(|id: usize| holds(&cpus[id]));
    assert_eq!(
        inside,
        [(); 3].map(|()| vec![identity]),
        "as they were let in"
    );
    assert_eq!(holds(&cpus[4]), []);
    for id in [1, 3, 2] {
        assert!(waits(4), "three readers are inside");
        semaphore.leave(&cpus[id], Mode::Read);
    }
    assert!(!waits(4) && !semaphore.is_contended());
    assert!(semaphore.try_read(&cpus[0]).is_none());
    semaphore.leave(&cpus[4], Mode::Write);
    assert!(semaphore.try_write(&cpus[0]).is_some());
}

#[test]
fn the_context_word_says_what_is_waited_for() {
    let fixture = Fixture::new(2);
    let (cpu, other) = (fixture.cpu(0), fixture.cpu(1));
    let semaphore = RwSemaphore::<()>::new(());
    let held = semaphore.write(&cpu);
    assert_eq!(holds(&cpu), [semaphore.identity()]);
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| drop(semaphore.read(&other)));
        while fixture.cpu(1).context().wait() != (Wait::Semaphore, semaphore.identity()) {
            std::thread::yield_now();
        }
        drop(held);
        waiter.join().expect("the reader gets in");
    });
    assert_eq!(other.context(), Context::default());
    assert_eq!((holds(&cpu), holds(&other)), (vec![], vec![]));
}
