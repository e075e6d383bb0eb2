use super::*;
use crate::fixture::Fixture;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Threads take what others bring, one at a time.
#[test]
fn nothing_is_lost_or_taken_twice() {
    const EACH: u64 = 5_000;
    let fixture = Fixture::new(4);
    let (queue, stock) = (WaitQueue::new(), AtomicU64::new(0));
    let take = || {
        stock
            .fetch_update(Relaxed, Relaxed, |n| n.checked_sub(1))
            .is_ok()
    };
    std::thread::scope(|scope| {
        for id in 0..4 {
            let (cpu, queue, stock) = (fixture.cpu(id), &queue, &stock);
            scope.spawn(move || {
                for _ in 0..EACH {
                    if id % 2 == 0 {
                        queue.wait_until(&cpu, take);
                    } else {
                        stock.fetch_add(1, Relaxed);
                        queue.wake_one(&cpu);
                    }
                }
                assert_eq!(cpu.context(), underfoot_abi::Context::default());
            });
        }
    });
    assert_eq!(stock.load(Relaxed), 0);
    assert!(!queue.wake_one(&fixture.cpu(0)), "nobody is left");
}

#[test]
fn those_who_prepared_are_woken_once_first_come_first() {
    let fixture = Fixture::new(3);
    let queue = WaitQueue::new();
    let cpus = [0, 1, 2].map(|id| fixture.cpu(id));
    assert_eq!(queue.wake_all(&cpus[0]), 0);
    queue.prepare(&cpus[0]);
    queue.prepare(&cpus[0]);
    queue.prepare(&cpus[1]);
    queue.prepare(&cpus[2]);
    assert!(queue.wake_one(&cpus[2]));
    queue.finish(&cpus[0]);
    queue.finish(&cpus[2]);
    assert_eq!(queue.wake_all(&cpus[0]), 1, "the second of three");
    queue.finish(&cpus[1]);
    assert!(!queue.wake_one(&cpus[0]));
}

#[test]
fn what_is_over_is_not_waited_for() {
    let fixture = Fixture::new(1);
    let cpu = fixture.cpu(0);
    let mut asked = 0;
    WaitQueue::new().wait_until(&cpu, || {
        asked += 1;
        true
    });
    assert_eq!(asked, 1);
}
