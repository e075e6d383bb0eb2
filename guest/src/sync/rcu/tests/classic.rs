use super::*;
use core::sync::atomic::{
    AtomicUsize,
    Ordering::{Acquire, Release},
};
use underfoot_abi::{Context, Variant};

fn online(fixture: &Fixture, rcu: &Rcu) -> Vec<Cpu> {
    super::online(fixture, RcuFlavour::Classic(rcu))
}

fn call(rcu: &Rcu, cpu: &Cpu) -> &'static Counter {
    super::call(RcuFlavour::Classic(rcu), cpu)
}

#[test]
fn a_callback_waits_for_every_reader_that_was_there() {
    let fixture = Fixture::new(2);
    let rcu = Rcu::new(LONG_NS, silent);
    let cpus = online(&fixture, &rcu);
    let section = rcu.read_lock(&cpus[1]);
    let ran = call(&rcu, &cpus[0]);
    for _ in 0..10 {
        rcu.quiescent(&cpus[0]);
        rcu.tick(&cpus[1], cpus[1].context());
        rcu.process(&cpus[0]);
    }
    assert_eq!((ran.load(Relaxed), rcu.completed()), (0, 0));
    drop(section);
    rcu.tick(&cpus[1], cpus[1].context());
    rcu.process(&cpus[0]);
    assert_eq!((ran.load(Relaxed), rcu.completed()), (1, 1));
    assert_eq!(fixture.header.grace_periods.load(Relaxed), 1);
    assert_eq!(fixture.count(Moving, Metric::GracePeriod), 1);
    assert_eq!(fixture.count(Moving, Metric::RcuRead), 1);
    let callbacks = cpus[0].area.callbacks.each_ref().map(|c| c.load(Relaxed));
    assert_eq!(callbacks, [1, 1]);
}

#[test]
fn a_callback_queued_during_a_grace_period_waits_for_the_next() {
    let fixture = Fixture::new(2);
    let rcu = Rcu::new(LONG_NS, silent);
    let cpus = online(&fixture, &rcu);
    let first = call(&rcu, &cpus[0]); // starts grace period 1
    rcu.quiescent(&cpus[0]);
    let second = call(&rcu, &cpus[0]);
    rcu.quiescent(&cpus[1]); // ends it
    rcu.process(&cpus[0]);
    assert_eq!((first.load(Relaxed), second.load(Relaxed)), (1, 0));
    rcu.quiescent(&cpus[1]);
    rcu.quiescent(&cpus[0]);
    rcu.process(&cpus[0]);
    assert_eq!((second.load(Relaxed), rcu.completed()), (1, 2));
}

#[test]
fn the_host_is_told_which_grace_period_waits_for_whom() {
    let fixture = Fixture::new(3);
    let rcu = Rcu::new(LONG_NS, silent);
    let cpus = online(&fixture, &rcu);
    let header = &fixture.header;
    let told = || {
        let number = header.grace_number.load(Relaxed);
        let passed = |cpu: &Cpu| cpu.area.grace_passed.load(Relaxed) == number;
        let waits = cpus.iter().filter(|cpu| !passed(cpu));
        let waited_for = waits.fold(0, |mask, cpu| mask | 1 << cpu.id);
        (number, header.grace_cpus.load(Relaxed) & waited_for)
    };
    rcu.idle_enter(&cpus[2]);
    call(&rcu, &cpus[0]); // starts grace period 1
    assert_eq!(told(), (1, 0b011), "the idle one is not waited for");
    assert!(header.grace_began_tsc.load(Relaxed) > 0);
    let section = rcu.read_lock(&cpus[1]);
    rcu.tick(&cpus[1], cpus[1].context());
    rcu.quiescent(&cpus[0]);
    assert_eq!(told(), (1, 0b010), "it reads");
    // The host wants one after this, and one more.
    header.grace_wanted.store(6, Relaxed);
    drop(section);
    rcu.quiescent(&cpus[1]);
    assert_eq!(header.grace_number.load(Relaxed), 2);
    for _ in 0..10 {
        for cpu in &cpus[..2] {
            rcu.tick(cpu, cpu.context());
        }
    }
    assert_eq!((header.grace_number.load(Relaxed), rcu.completed()), (6, 3));
}

#[test]
fn idle_and_offline_cpus_hold_nothing_up() {
    let fixture = Fixture::new(4);
    let rcu = Rcu::new(LONG_NS, silent);
    let cpus: Vec<_> = (0..4).map(|id| fixture.cpu(id)).collect();
    cpus[..3].iter().for_each(|cpu| rcu.idle_exit(cpu)); // CPU 3 never came up
    rcu.idle_enter(&cpus[1]);
    let ran = call(&rcu, &cpus[0]);
    rcu.idle_enter(&cpus[2]); // goes idle while it is waited for
    assert_eq!(rcu.completed(), 0);
    rcu.quiescent(&cpus[0]);
    rcu.process(&cpus[0]);
    assert_eq!((ran.load(Relaxed), rcu.completed()), (1, 1));
    rcu.idle_exit(&cpus[1]);
    let section = rcu.read_lock(&cpus[1]);
    let ran = call(&rcu, &cpus[0]);
    rcu.quiescent(&cpus[0]);
    rcu.process(&cpus[0]);
    assert_eq!(ran.load(Relaxed), 0, "awake again, and reading");
    drop(section);
}

#[test]
fn sections_nest_and_the_outermost_is_recorded() {
    let fixture = Fixture::new(1);
    let rcu = Rcu::new(LONG_NS, silent);
    let cpu = fixture.cpu(0);
    let outer = rcu.read_lock(&cpu);
    let inner = rcu.read_lock(&cpu);
    assert_eq!(cpu.context().rcu_depth(), 2);
    drop(inner);
    assert_eq!(cpu.context().rcu_depth(), 1);
    drop(outer);
    assert_eq!(cpu.context().rcu_depth(), 0);
    assert_eq!(fixture.count(Moving, Metric::RcuRead), 1);
}

static REPORTS: [Counter; 4] = [const { Counter::new(0) }; 4];

fn note(_: &Cpu, stall: &RcuStall) {
    REPORTS[0].fetch_add(1, Relaxed);
    REPORTS[1].store(stall.waiting, Relaxed);
    REPORTS[2].store(stall.grace_period, Relaxed);
    REPORTS[3].store(stall.age_ns, Relaxed);
}

#[test]
fn a_stalled_grace_period_is_reported_once_with_its_cpus() {
    let fixture = Fixture::with(3, Variant::RcuStall);
    let rcu = Rcu::new(1, note);
    let cpus = online(&fixture, &rcu);
    rcu.tick(&cpus[0], cpus[0].context());
    assert_eq!(REPORTS[0].load(Relaxed), 0, "no grace period, no stall");
    let ran = call(&rcu, &cpus[0]);
    for _ in 0..5 {
        for cpu in &cpus {
            rcu.quiescent(cpu);
            rcu.tick(cpu, cpu.context());
        }
        rcu.process(&cpus[0]);
    }
    let [count, waiting, number, age] = REPORTS.each_ref().map(|r| r.load(Relaxed));
    assert_eq!((count, waiting & 0b100, number), (1, 0b100, 1));
    assert!(age >= 1);
    assert_eq!(fixture.header.rcu_stalls.load(Relaxed), 1);
    assert_eq!(
        ran.load(Relaxed),
        0,
        "CPU 2 kept its quiescent states to itself"
    );
}

/// As one does that spins in a callback for a lock of the thread below it: another CPU's tick tells.
#[test]
fn a_bottom_half_that_does_not_end_is_a_stall() {
    static WAITING: Counter = Counter::new(0);
    let fixture = Fixture::new(2);
    let rcu = Rcu::new(1, |_, stall| {
        WAITING.fetch_add(stall.waiting, Relaxed);
    });
    let cpus = online(&fixture, &rcu);
    let ran = call(&rcu, &cpus[0]);
    let inside = Context(Context::INTERRUPT | Context::BOTTOM_HALF);
    for _ in 0..3 {
        rcu.tick(&cpus[1], inside);
        rcu.ipi(&cpus[1], inside);
        rcu.tick(&cpus[0], Context::default());
    }
    assert_eq!((rcu.completed(), WAITING.load(Relaxed) & 0b10), (0, 0b10));
    rcu.tick(&cpus[1], Context::default());
    rcu.process(&cpus[0]);
    assert_eq!((rcu.completed(), ran.load(Relaxed)), (1, 1));
}

/// The bottom half that is stuck moves none on; nor need another CPU want a grace period.
#[test]
fn callbacks_behind_a_stuck_one_have_their_grace_period_by_the_tick() {
    let fixture = Fixture::new(1);
    let rcu = Rcu::new(LONG_NS, silent);
    let cpus = online(&fixture, &rcu);
    let inside = Context(Context::INTERRUPT | Context::BOTTOM_HALF);
    let kind = RcuFlavour::Classic(&rcu);
    call(&rcu, &cpus[0]);
    let ran = call(&rcu, &cpus[0]);
    rcu.quiescent(&cpus[0]);
    let in_progress = || rcu.periods.sequence.number() % 2 == 1;
    assert_eq!((rcu.completed(), in_progress()), (1, false));
    kind.tick(&cpus[0], inside);
    kind.advance(&cpus[0]);
    kind.tick(&cpus[0], inside);
    assert_eq!((rcu.completed(), in_progress()), (1, true));
    kind.tick(&cpus[0], Context::default());
    while rcu.process(&cpus[0]) {}
    assert_eq!((rcu.completed(), ran.load(Relaxed)), (2, 1));
}

/// A guest that its host kept from running is not accused for that time.
#[test]
fn time_in_which_nobody_looked_does_not_count() {
    static STALLS: AtomicUsize = AtomicUsize::new(0);
    let fixture = Fixture::with(2, Variant::RcuStall);
    // Above what counts as being away.
    let rcu = Rcu::new(250_000_000, |_, _| {
        STALLS.fetch_add(1, Relaxed);
    });
    let cpus = online(&fixture, &rcu);
    call(&rcu, &cpus[0]);
    std::thread::sleep(std::time::Duration::from_millis(300));
    rcu.tick(&cpus[0], cpus[0].context());
    assert_eq!(STALLS.load(Relaxed), 0, "all were away");
    while STALLS.load(Relaxed) == 0 {
        std::thread::sleep(std::time::Duration::from_millis(1));
        rcu.tick(&cpus[0], cpus[0].context());
    }
}

/// CPUs publish objects, retire them through `synchronize` or `call`, and read each other's.
#[test]
fn readers_never_see_what_was_freed() {
    const ROUNDS: usize = 200;
    let fixture = Fixture::new(3);
    // SAFETY: both are leaked and zeroed.
    let (objects, current) = unsafe { (&*leak::<[AtomicUsize; 2]>(), &*leak::<AtomicUsize>()) };
    let rcu = Rcu::new(LONG_NS, silent);
    objects[0].store(1, Relaxed);
    let cpus = online(&fixture, &rcu);
    let done = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for cpu in &cpus[1..] {
            let (rcu, done) = (&rcu, &done);
            scope.spawn(move || {
                while done.load(Relaxed) == 0 {
                    let section = rcu.read_lock(cpu);
                    let index = current.load(Acquire);
                    for _ in 0..20 {
                        assert_eq!(objects[index].load(Relaxed), 1, "freed under a reader");
                    }
                    drop(section);
                    rcu.quiescent(cpu);
                }
                rcu.idle_enter(cpu);
            });
        }
        for round in 0..ROUNDS {
            let (old, new) = (round % 2, (round + 1) % 2);
            objects[new].store(1, Relaxed);
            current.store(new, Release);
            rcu.synchronize(&cpus[0]);
            objects[old].store(0, Relaxed);
        }
        done.store(1, Relaxed);
    });
    assert!(rcu.completed() >= ROUNDS as u64);
    assert_eq!(cpus[0].context(), Context::default());
}

#[test]
fn an_expedited_wait_is_answered_by_interrupts() {
    let fixture = Fixture::new(2);
    let rcu = Rcu::new(LONG_NS, silent);
    let cpus = online(&fixture, &rcu);
    let section = rcu.read_lock(&cpus[1]);
    let target = rcu.want(&cpus[0]);
    rcu.quiescent(&cpus[0]);
    rcu.ipi(&cpus[1], cpus[1].context());
    assert_eq!(rcu.completed(), 0);
    drop(section);
    assert_eq!((rcu.completed(), target), (1, 2));
    let target = rcu.want(&cpus[0]);
    rcu.quiescent(&cpus[0]);
    rcu.ipi(&cpus[1], cpus[1].context());
    assert_eq!((rcu.completed(), target), (2, 4), "without a section");
}

#[test]
fn waiters_are_answered_whichever_way_they_wait() {
    const ROUNDS: u64 = 50;
    let fixture = Fixture::new(2);
    let rcu = Rcu::new(LONG_NS, silent);
    let cpus = online(&fixture, &rcu);
    let done = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while done.load(Relaxed) == 0 {
                drop(rcu.read_lock(&cpus[1]));
                rcu.ipi(&cpus[1], cpus[1].context());
                std::thread::yield_now();
            }
        });
        for _ in 0..ROUNDS {
            rcu.synchronize(&cpus[0]);
            rcu.synchronize_expedited(&cpus[0]);
        }
        done.store(1, Relaxed);
    });
    assert!(rcu.completed() >= 2 * ROUNDS);
}
