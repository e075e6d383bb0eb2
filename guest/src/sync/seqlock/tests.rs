use super::*;
use crate::fixture::Fixture;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

#[test]
fn writers_exclude_each_other_and_readers_see_whole_updates() {
    const EACH: u64 = 5_000;
    let fixture = Fixture::new(3);
    let (lock, halves) = (
        SeqLock::<false, Unclassed>::new(),
        [const { AtomicU64::new(0) }; 2],
    );
    std::thread::scope(|scope| {
        for id in 0..2 {
            let (cpu, lock, halves) = (fixture.cpu(id), &lock, &halves);
            scope.spawn(move || {
                for _ in 0..EACH {
                    let _writer = lock.write(&cpu);
                    for half in halves {
                        half.store(half.load(Relaxed) + 1, Relaxed);
                    }
                }
            });
        }
        let cpu = fixture.cpu(2);
        let mut last = 0;
        while last < 2 * EACH {
            let seq = lock.read_begin(&cpu);
            let [a, b] = halves.each_ref().map(|half| half.load(Relaxed));
            if !lock.read_retry(seq) {
                assert_eq!(a, b);
                assert!(a >= last);
                last = a;
            }
        }
    });
}

#[test]
fn an_exclusive_reader_disturbs_no_other_reader() {
    let fixture = Fixture::new(1);
    let cpu = fixture.cpu(0);
    let lock = SeqLock::<false, Unclassed>::new();
    let seq = lock.read_begin(&cpu);
    drop(lock.read_exclusive(&cpu));
    assert!(!lock.read_retry(seq));
    drop(lock.write(&cpu));
    assert!(lock.read_retry(seq));
}
