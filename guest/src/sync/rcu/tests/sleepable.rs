use super::*;
use crate::fixture;
use core::sync::atomic::Ordering::{Acquire, Release};
use underfoot_abi::Variant;

fn one_cpu(variant: Variant) -> (Fixture, Cpu) {
    let fixture = Fixture::with(1, variant);
    let cpu = Rig::leak().cpu(fixture.cpu(0));
    (fixture, cpu)
}

#[test]
fn a_grace_period_waits_for_readers_of_its_domain_only() {
    let (_fixture, cpu) = one_cpu(Variant::None);
    let [domain, other] = [0; 2].map(|_| SrcuDomain::new(LONG_NS, silent));
    let section = domain.read_lock(&cpu);
    let [by_domain, by_other] = [&domain, &other].map(RcuFlavour::Sleepable);
    let (ran, elsewhere) = (call(by_domain, &cpu), call(by_other, &cpu));
    for _ in 0..3 {
        by_domain.process(&cpu);
        by_other.process(&cpu);
    }
    assert_eq!((ran.load(Relaxed), elsewhere.load(Relaxed)), (0, 1));
    assert_eq!((domain.readers(), other.readers()), (1, 0));
    drop(section);
    domain.tick(&cpu);
    by_domain.process(&cpu);
    assert_eq!((ran.load(Relaxed), domain.completed()), (1, 1));
}

#[test]
fn sections_that_begin_after_the_flip_are_not_waited_for() {
    let (_fixture, cpu) = one_cpu(Variant::None);
    let domain = SrcuDomain::new(LONG_NS, silent);
    let old = domain.read_lock(&cpu);
    call(RcuFlavour::Sleepable(&domain), &cpu);
    let new = domain.read_lock(&cpu);
    drop(old);
    domain.tick(&cpu);
    assert_eq!(domain.completed(), 1);
    drop(new);
    domain.synchronize(&cpu);
    domain.synchronize_expedited(&cpu);
    assert_eq!(domain.completed(), 3);
}

#[test]
fn the_busted_form_waits_for_nobody() {
    let (_fixture, cpu) = one_cpu(Variant::RcuSleepBusted);
    let domain = SrcuDomain::new(LONG_NS, silent);
    let section = domain.read_lock(&cpu);
    domain.synchronize(&cpu);
    assert_eq!(domain.completed(), 1);
    drop(section);
}

static STALLED: Counter = Counter::new(0);

#[test]
fn a_stall_names_the_cpu_of_the_reader() {
    let (fixture, cpu) = one_cpu(Variant::None);
    let domain = SrcuDomain::new(1, |_, stall| {
        assert_eq!(stall.kind, RcuKind::Sleepable);
        STALLED.fetch_or(stall.waiting, Relaxed);
    });
    let section = domain.read_lock(&cpu);
    call(RcuFlavour::Sleepable(&domain), &cpu);
    for _ in 0..3 {
        domain.tick(&cpu);
    }
    assert_eq!(STALLED.load(Relaxed), 1);
    assert_eq!(fixture.header.rcu_stalls.load(Relaxed), 1);
    drop(section);
}

#[test]
fn readers_never_see_what_was_freed() {
    const ROUNDS: usize = 200;
    let fixture = Fixture::new(3);
    let domain = SrcuDomain::new(LONG_NS, silent);
    let cpus = online(&fixture, RcuFlavour::Sleepable(&domain));
    let (objects, current) = (fixture::word_pair(), fixture::word_pair());
    objects[0].store(1, Relaxed);
    let done = Counter::new(0);
    std::thread::scope(|scope| {
        for cpu in &cpus[1..] {
            let (domain, done) = (&domain, &done);
            scope.spawn(move || {
                while done.load(Relaxed) == 0 {
                    let section = domain.read_lock(cpu);
                    let index = current[0].load(Acquire) as usize;
                    std::thread::yield_now();
                    assert_eq!(objects[index].load(Relaxed), 1, "freed under a reader");
                    drop(section);
                }
            });
        }
        for round in 0..ROUNDS {
            let (old, new) = (round % 2, (round + 1) % 2);
            objects[new].store(1, Relaxed);
            current[0].store(new as u64, Release);
            domain.synchronize(&cpus[0]);
            objects[old].store(0, Relaxed);
        }
        done.store(1, Relaxed);
    });
    assert!(domain.completed() >= ROUNDS as u64);
}
