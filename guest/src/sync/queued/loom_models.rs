use super::QueuedLock;
use crate::{
    Cpu, fixture,
    sync::{
        atomic::Ordering::{Acquire, Relaxed, Release},
        loom_models::{Shared, explore},
    },
};
use loom::{sync::Arc, thread};

type Guarded = QueuedLock<Shared, false>;

/// CPUs that add under the lock, each so often, and one that does by `enter`, which says whether it
/// did.
fn queued<const N: usize>(preemptions: usize, often: [u32; N], enter: fn(&Guarded, &Cpu) -> bool) {
    explore(preemptions, move || {
        let lock = Arc::new(Guarded::new(Shared::default()));
        let mut id = 0;
        let threads = often.map(|often| {
            let lock = lock.clone();
            id += 1;
            let cpu = fixture::shared_cpu(id);
            thread::spawn(move || (0..often).for_each(|_| lock.lock(&cpu).add()))
        });
        let cpu = fixture::shared_cpu(0);
        let added = u32::from(enter(&lock, &cpu));
        for thread in threads {
            thread.join().expect("no panic");
        }
        assert_eq!(lock.lock(&cpu).get(), often.iter().sum::<u32>() + added);
        assert!(lock.tail.load(Relaxed).is_null(), "somebody is left");
    });
}

fn add(lock: &Guarded, cpu: &Cpu) -> bool {
    lock.lock(cpu).add();
    true
}

#[test]
fn loom_queued_lock_excludes() {
    queued(3, [2], add);
}

#[test]
fn loom_queued_lock_passes_the_turn_along_the_queue() {
    queued(2, [1, 1], add);
}

#[test]
fn loom_queued_lock_attempt_excludes() {
    queued(3, [2], |lock, cpu| {
        lock.try_lock(cpu).map(|guard| guard.add()).is_some()
    });
}

#[test]
#[should_panic(expected = "Causality violation")]
fn loom_queued_lock_taken_in_two_steps_is_caught() {
    queued(3, [2], |lock, _| {
        let free = lock.locked.load(Acquire) == 0;
        if free {
            lock.locked.store(1, Relaxed);
            // SAFETY: it is not, and loom says so.
            unsafe { &*lock.value.get() }.add();
            lock.locked.store(0, Release);
        }
        free
    });
}

/// The first of the queue must take the word, for whoever came before the queue may have it.
#[test]
#[should_panic(expected = "Causality violation")]
fn loom_queued_lock_turn_taken_for_the_lock_is_caught() {
    queued(3, [1], |lock, _| {
        let first = lock.tail.load(Acquire).is_null();
        if first {
            // SAFETY: it is not, and loom says so.
            unsafe { &*lock.value.get() }.add();
        }
        first
    });
}
