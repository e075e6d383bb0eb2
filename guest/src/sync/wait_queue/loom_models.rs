use super::WaitQueue;
use crate::{
    Cpu,
    sync::{
        atomic::{AtomicU32, Ordering::Relaxed},
        loom_models::{explore, sched::ModelSched},
    },
};
use loom::{sync::Arc, thread};

/// What is waited for. Relaxed: the queue's lock must be enough.
type Event = Arc<(WaitQueue, AtomicU32)>;

fn event() -> Event {
    Arc::new((WaitQueue::new(), AtomicU32::new(0)))
}

/// One thread brings about what the other goes to sleep for by `look`, which says whether it is
/// over already. If not, it must be woken.
fn waiter(look: fn(&WaitQueue, &Cpu, &AtomicU32) -> bool, wake: fn(&WaitQueue, &Cpu)) {
    explore(3, move || {
        ModelSched::run(|sched| {
            let event = event();
            let waker = {
                let event = event.clone();
                thread::spawn(move || {
                    event.1.store(1, Relaxed);
                    wake(&event.0, &sched.cpu(0));
                })
            };
            let over = look(&event.0, &sched.cpu(1), &event.1);
            waker.join().expect("no panic");
            assert!(over || sched.is_woken(1), "sleeps for ever");
        });
    });
}

fn prepare_and_look(queue: &WaitQueue, cpu: &Cpu, event: &AtomicU32) -> bool {
    queue.prepare(cpu);
    event.load(Relaxed) != 0
}

#[test]
fn loom_wait_queue_loses_no_wake_up() {
    waiter(prepare_and_look, |queue, cpu| {
        queue.wake_one(cpu);
    });
    waiter(prepare_and_look, |queue, cpu| {
        queue.wake_all(cpu);
    });
}

#[test]
#[should_panic(expected = "sleeps for ever")]
fn loom_wait_queue_waiter_that_looks_first_sleeps_for_ever() {
    waiter(
        |queue, cpu, event| {
            let over = event.load(Relaxed) != 0;
            queue.prepare(cpu);
            over
        },
        |queue, cpu| {
            queue.wake_one(cpu);
        },
    );
}

/// Two threads take what a third brings one by one.
#[test]
fn loom_wait_queue_each_waiter_gets_one() {
    explore(1, || {
        ModelSched::run_asleep(|sched| {
            let event = event();
            let take = |event: &Event, cpu: &Cpu| {
                event.0.wait_until(cpu, || {
                    event
                        .1
                        .fetch_update(Relaxed, Relaxed, |n| n.checked_sub(1))
                        .is_ok()
                });
            };
            let takers = [0, 1].map(|id| {
                let event = event.clone();
                thread::spawn(move || take(&event, &sched.cpu(id)))
            });
            for _ in 0..2 {
                event.1.fetch_add(1, Relaxed);
                event.0.wake_one(&sched.cpu(2));
            }
            for taker in takers {
                taker.join().expect("no panic");
            }
            assert_eq!(event.1.load(Relaxed), 0);
        });
    });
}
