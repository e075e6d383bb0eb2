use super::*;
use crate::fixture::Fixture;
use underfoot_abi::{Context, Metric, RecordedPhase::Moving};

#[test]
fn no_update_is_lost() {
    const EACH: u64 = 20_000;
    let fixture = Fixture::new(3);
    let lock = TicketLock::<u64>::new(0);
    std::thread::scope(|scope| {
        for id in 0..3 {
            let (cpu, lock) = (fixture.cpu(id), &lock);
            scope.spawn(move || {
                for _ in 0..EACH {
                    *lock.lock(&cpu) += 1;
                }
                assert_eq!(cpu.context(), Context::default());
            });
        }
    });
    assert_eq!(*lock.lock(&fixture.cpu(0)), 3 * EACH);
    assert_eq!(fixture.count(Moving, Metric::LockHold), 3 * EACH + 1);
    assert_eq!(fixture.count(Moving, Metric::LockWait), 3 * EACH + 1);
}

#[test]
fn the_context_word_says_what_is_held_and_what_is_waited_for() {
    let fixture = Fixture::new(2);
    let (cpu, other) = (fixture.cpu(0), fixture.cpu(1));
    let lock = TicketLock::<(), false>::new(());
    let held = lock.lock_irqsave(&cpu);
    assert_eq!((cpu.context().locks(), cpu.context().masked()), (1, true));
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
    assert_eq!(fixture.count(Moving, Metric::LockHold), 0, "not recorded");
}

#[test]
fn an_attempt_fails_only_while_the_lock_is_held() {
    let fixture = Fixture::new(1);
    let cpu = fixture.cpu(0);
    let lock = TicketLock::<u32>::new(7);
    let held = lock.try_lock(&cpu).expect("free");
    assert!(lock.try_lock(&cpu).is_none());
    drop(held);
    assert_eq!(lock.try_lock(&cpu).map(|value| *value), Some(7));
}

#[test]
fn no_update_is_lost_out_of_turn() {
    const EACH: u64 = 20_000;
    let fixture = Fixture::new(3);
    let lock = TicketLock::<u64>::new(0);
    std::thread::scope(|scope| {
        for id in 0..3 {
            let (cpu, lock) = (fixture.cpu(id), &lock);
            scope.spawn(move || {
                for round in 0..EACH {
                    // One CPU asks for its turn now and then: both forms exclude each other.
                    let fair = id == 0 && round % 7 == 0;
                    *if fair {
                        lock.lock(&cpu)
                    } else {
                        lock.lock_unfair(&cpu)
                    } += 1;
                }
                assert_eq!(cpu.context(), Context::default());
            });
        }
    });
    assert_eq!(*lock.lock_unfair(&fixture.cpu(0)), 3 * EACH);
}

#[test]
fn bottom_halves_are_held_back_while_the_lock_is_held_for_them() {
    let fixture = Fixture::new(1);
    let cpu = fixture.cpu(0);
    let lock = TicketLock::<u32, false>::new(0);
    let mut held = lock.lock_bh(&cpu);
    *held += 1;
    assert!(cpu.hold.holds_bottom_halves());
    drop(held);
    assert!(!cpu.hold.holds_bottom_halves());
    assert_eq!(*lock.lock_irqsave(&cpu), 1);
    assert!(cpu.hold.is_preemptible());
}
