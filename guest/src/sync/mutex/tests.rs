use super::*;

/// What the thread of a CPU says that it holds.
fn holds(cpu: &Cpu) -> Vec<u32> {
    cpu.thread_words().holds.iter().collect()
}
use crate::fixture::Fixture;
use underfoot_abi::{Context, Metric, RecordedPhase::Moving};

#[test]
fn no_update_is_lost() {
    const EACH: u64 = 5_000;
    let fixture = Fixture::new(3);
    let mutex = Mutex::<u64>::new(0);
    let tried: u64 = std::thread::scope(|scope| {
        let add = |id| {
            let (cpu, mutex) = (fixture.cpu(id), &mutex);
            move || {
                let mut tried = 0;
                for round in 0..EACH {
                    if round % 5 != 0 {
                        *mutex.lock(&cpu) += 1;
                    } else if let Some(mut value) = mutex.try_lock(&cpu) {
                        *value += 1;
                        assert_eq!(mutex.owner(), Some(ThreadId(id as u32)));
                    } else {
                        tried += 1;
                    }
                }
                assert_eq!(cpu.context(), Context::default());
                tried
            }
        };
        let threads = [0, 1, 2].map(|id| scope.spawn(add(id)));
        threads.map(|t| t.join().expect("no panic")).iter().sum()
    });
    let cpu = fixture.cpu(0);
    assert_eq!(*mutex.lock(&cpu), 3 * EACH - tried);
    assert_eq!(mutex.state.load(Relaxed), 0, "nobody waits");
}

#[test]
fn the_context_word_says_what_is_waited_for() {
    let fixture = Fixture::new(2);
    let (cpu, other) = (fixture.cpu(0), fixture.cpu(1));
    let mutex = Mutex::<()>::new(());
    let held = mutex.lock(&cpu);
    assert_eq!(mutex.owner(), Some(ThreadId(0)));
    assert!(mutex.try_lock(&other).is_none());
    assert_eq!(holds(&cpu), [mutex.identity()]);
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| drop(mutex.lock(&other)));
        while fixture.cpu(1).context().wait() != (Wait::Mutex, mutex.identity()) {
            std::thread::yield_now();
        }
        drop(held);
        waiter.join().expect("the waiter gets the mutex");
    });
    assert_eq!(mutex.owner(), None);
    assert_eq!(other.context(), Context::default());
    assert_eq!((holds(&cpu), holds(&other)), (vec![], vec![]));
}

/// The steps of two waiters, one by one.
#[test]
fn a_waiter_woken_in_vain_is_handed_the_mutex() {
    let fixture = Fixture::new(3);
    let [owner, first, second] = [0, 1, 2].map(|id| fixture.cpu(id));
    let mutex = Mutex::<()>::new(());
    let held = mutex.lock(&owner);
    assert!(!mutex.take_turn(&first, false));
    assert!(!mutex.take_turn(&second, false));
    drop(held);
    assert_eq!(mutex.owner(), None, "free, and the first is woken");
    let again = mutex.try_lock(&owner).expect("taken out of turn");
    assert!(!mutex.take_turn(&second, true));
    assert_eq!(
        mutex.state.load(Relaxed) & HANDOFF,
        0,
        "the second has no claim"
    );
    assert!(!mutex.take_turn(&first, true));
    drop(again);
    assert_eq!(mutex.owner(), Some(ThreadId(1)));
    assert_eq!(holds(&first), [mutex.identity()], "asleep or not");
    assert!(mutex.try_lock(&owner).is_none());
    assert!(mutex.take_turn(&first, true));
    mutex.unlock(&first);
    assert!(mutex.take_turn(&second, true));
    mutex.unlock(&second);
    assert_eq!(mutex.state.load(Relaxed), 0);
}

#[test]
fn holds_and_waits_are_recorded() {
    let fixture = Fixture::new(1);
    let cpu = fixture.cpu(0);
    let recorded = Mutex::<(), true>::new(());
    drop(recorded.lock(&cpu));
    drop(recorded.try_lock(&cpu));
    let silent = Mutex::<()>::new(());
    drop(silent.lock(&cpu));
    for metric in [Metric::LockHold, Metric::LockWait] {
        assert_eq!(fixture.count(Moving, metric), 2, "{metric:?}");
    }
}

#[test]
fn a_new_object_has_a_free_mutex() {
    let fixture = Fixture::new(2);
    let [cpu, other] = [0, 1].map(|id| fixture.cpu(id));
    let mutex = Mutex::<()>::new(());
    let held = mutex.lock(&cpu);
    assert!(!mutex.take_turn(&other, false));
    core::mem::forget(held);
    mutex.reset(&cpu);
    drop(mutex.try_lock(&cpu).expect("free"));
    assert_eq!(mutex.state.load(Relaxed), 0, "nobody waits");
}
