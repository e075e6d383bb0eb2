use super::*;
use crate::fixture::Fixture;
use core::sync::atomic::AtomicU32 as Counter;
use underfoot_abi::Context;

#[test]
fn nobody_leaves_before_all_are_there() {
    const ROUNDS: u32 = 500;
    let fixture = Fixture::new(3);
    let (barrier, arrived, last) = (Barrier::new(), Counter::new(0), Counter::new(0));
    std::thread::scope(|scope| {
        for id in 0..3 {
            let (cpu, barrier, arrived, last) = (fixture.cpu(id), &barrier, &arrived, &last);
            scope.spawn(move || {
                for round in 1..=ROUNDS {
                    arrived.fetch_add(1, Relaxed);
                    if barrier.wait(&cpu, 3, || {}) {
                        last.fetch_add(1, Relaxed);
                    }
                    assert!(arrived.load(Relaxed) >= 3 * round);
                }
                assert_eq!(cpu.context(), Context::default());
            });
        }
    });
    assert_eq!(last.load(Relaxed), ROUNDS, "one CPU comes last each time");
}
