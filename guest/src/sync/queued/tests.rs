use super::*;
use crate::fixture::Fixture;
use underfoot_abi::{Context, Metric, RecordedPhase::Moving};

#[test]
fn no_update_is_lost() {
    const EACH: u64 = 5_000;
    let fixture = Fixture::new(4);
    let lock = QueuedLock::<u64>::new(0);
    let failed: u64 = std::thread::scope(|scope| {
        let add = |id| {
            let (cpu, lock) = (fixture.cpu(id), &lock);
            move || {
                let mut failed = 0;
                for round in 0..EACH {
                    match round % 4 {
                        0 => *lock.lock_irqsave(&cpu) += 1,
                        1 => *lock.lock_bh(&cpu) += 1,
                        2 => match lock.try_lock(&cpu) {
                            Some(mut value) => *value += 1,
                            None => failed += 1,
                        },
                        _ => *lock.lock(&cpu) += 1,
                    }
                }
                assert_eq!(cpu.context(), Context::default());
                assert!(cpu.hold.is_preemptible());
                failed
            }
        };
        let threads = [0, 1, 2, 3].map(|id| scope.spawn(add(id)));
        threads.map(|t| t.join().expect("no panic")).iter().sum()
    });
    assert_eq!(*lock.lock(&fixture.cpu(0)), 4 * EACH - failed);
    assert!(lock.tail.load(Relaxed).is_null(), "nobody is queued");
    let records = 4 * EACH - failed + 1;
    assert_eq!(fixture.count(Moving, Metric::LockHold), records);
    assert_eq!(fixture.count(Moving, Metric::LockWait), records);
}

#[test]
fn the_context_word_says_what_is_held_and_what_is_waited_for() {
    let fixture = Fixture::new(2);
    let (cpu, other) = (fixture.cpu(0), fixture.cpu(1));
    let lock = QueuedLock::<(), false>::new(());
    let held = lock.lock_irqsave(&cpu);
    assert_eq!((cpu.context().locks(), cpu.context().masked()), (1, true));
    assert!(!cpu.hold.is_preemptible());
    assert!(lock.try_lock(&other).is_none());
    assert!(other.hold.is_preemptible());
    assert_eq!(cpu.area.holds.iter().collect::<Vec<_>>(), [lock.identity()]);
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| drop(lock.lock(&other)));
        while fixture.cpu(1).context().wait() != (Wait::Lock, lock.identity()) {
            std::thread::yield_now();
        }
        drop(held);
        waiter.join().expect("the waiter gets the lock");
    });
    assert_eq!(cpu.context(), Context::default());
    assert_eq!(other.context(), Context::default());
    assert!(cpu.area.holds.is_empty() && other.area.holds.is_empty());
    assert!(cpu.hold.is_preemptible());
    assert_eq!(fixture.count(Moving, Metric::LockHold), 0, "not recorded");
}

#[test]
fn the_safe_forms_hold_back_what_they_say() {
    let fixture = Fixture::new(1);
    let cpu = fixture.cpu(0);
    let lock = QueuedLock::<(), false>::new(());
    let held = lock.lock_bh(&cpu);
    assert!(cpu.hold.holds_bottom_halves() && !cpu.context().masked());
    drop(held);
    assert!(!cpu.hold.holds_bottom_halves());
    let outer = lock.lock_irqsave(&cpu);
    let inner = QueuedLock::<(), false>::new(());
    drop(inner.lock_irqsave(&cpu));
    assert!(cpu.context().masked(), "as before the inner one");
    drop(outer);
    assert!(!cpu.context().masked());
}
