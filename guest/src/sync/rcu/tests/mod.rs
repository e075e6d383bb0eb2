use super::{rig::Rig, *};
use crate::fixture::{Fixture, leak};
use core::{
    ptr::NonNull,
    sync::atomic::{AtomicU64 as Counter, Ordering::Relaxed},
};
use underfoot_abi::{Metric, RecordedPhase::Moving};

mod classic;
mod preempt;
mod sleepable;
mod stall;

const LONG_NS: u64 = 60_000_000_000;

fn silent(_: &Cpu, _: &RcuStall) {}

/// The CPUs of `fixture`, with threads of their own, known to `rcu`.
fn online(fixture: &Fixture, rcu: RcuFlavour<'_>) -> Vec<Cpu> {
    let rig = Rig::leak();
    let ids = 0..fixture.areas.len();
    let cpus: Vec<_> = ids.map(|id| rig.cpu(fixture.cpu(id))).collect();
    cpus.iter().for_each(|cpu| rcu.idle_exit(cpu));
    cpus
}

/// Adds one to the counter whose address is `value`.
///
/// # Safety
/// There is such a counter.
unsafe fn bump(_: &Cpu, _: NonNull<RcuHead>, value: usize) {
    // SAFETY: the caller's promise.
    let counter = unsafe { &*core::ptr::with_exposed_provenance::<Counter>(value) };
    counter.fetch_add(1, Relaxed);
}

/// Queues a callback that adds one to the counter returned, 100 bytes waiting with it.
fn call(rcu: RcuFlavour<'_>, cpu: &Cpu) -> &'static Counter {
    // SAFETY: leaked and zeroed; zeroes are a valid head and a valid counter.
    let (head, counter) = unsafe { (&*leak::<RcuHead>(), &*leak::<Counter>()) };
    let value = core::ptr::from_ref(counter).expose_provenance();
    // SAFETY: the head is leaked and queued once; the value is a counter's address.
    unsafe { rcu.call(cpu, NonNull::from(head), bump, value, 100) };
    counter
}

/// Whether a thread drains them, or runs those whose time has come.
#[test]
fn callbacks_that_threads_run_find_bottom_halves_held_back() {
    /// # Safety
    /// As [`bump`].
    unsafe fn bump_if_held(cpu: &Cpu, head: NonNull<RcuHead>, value: usize) {
        if cpu.hold.holds_bottom_halves() {
            // SAFETY: the caller's promise.
            unsafe { bump(cpu, head, value) };
        }
    }
    let fixture = Fixture::new(1);
    let classic = Rcu::new(LONG_NS, silent);
    let cpus = online(&fixture, RcuFlavour::Classic(&classic));
    // SAFETY: leaked and zeroed; zeroes are a valid head and a valid counter.
    let (heads, counter) = unsafe { (&*leak::<[RcuHead; 2]>(), &*leak::<Counter>()) };
    let value = core::ptr::from_ref(counter).expose_provenance();
    let queue = |head| {
        // SAFETY: the head is leaked and queued once; the value is a counter's address.
        unsafe { classic.call(&cpus[0], NonNull::from(head), bump_if_held, value) };
    };
    queue(&heads[0]);
    // SAFETY: no CPU is in a read section.
    unsafe { classic.drain(&cpus[0]) };
    assert_eq!(counter.load(Relaxed), 1);
    queue(&heads[1]);
    for _ in 0..8 {
        classic.quiescent(&cpus[0]);
        classic.process(&cpus[0]);
    }
    assert_eq!(counter.load(Relaxed), 2);
    assert!(!cpus[0].hold.holds_bottom_halves());
}

/// All callbacks of three CPUs run, once, and are accounted for.
fn callbacks_run_once(rcu: RcuFlavour<'_>, fixture: &Fixture) {
    const EACH: usize = 500;
    let cpus = online(fixture, rcu);
    let work = |cpu: &Cpu| {
        let mut counters = Vec::new();
        for _ in 0..EACH {
            counters.push(call(rcu, cpu));
            rcu.quiescent(cpu);
            rcu.process(cpu);
        }
        rcu.idle_enter(cpu);
        counters
    };
    let counters: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = cpus
            .iter()
            .map(|cpu| scope.spawn(move || work(cpu)))
            .collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, _>| thread.join().expect("no panic");
        threads.into_iter().flat_map(join).collect()
    });
    // SAFETY: all CPUs are idle.
    unsafe { rcu.drain(&cpus[0]) };
    assert!(counters.iter().all(|counter| counter.load(Relaxed) == 1));
    assert_eq!(counters.len(), 3 * EACH);
    let total = (0..3).fold(Backlog::default(), |sum, id| sum.plus(rcu.backlog(id)));
    assert_eq!((total.callbacks, total.bytes), (0, 0));
    assert!(total.most_callbacks >= 3 && total.most_bytes == 100 * total.most_callbacks);
    assert!(cpus.iter().all(|cpu| !rcu.needs_cpu(cpu)));
    let run: u64 = cpus
        .iter()
        .map(|cpu| cpu.area.callbacks[1].load(Relaxed))
        .sum();
    assert_eq!(run, 3 * EACH as u64);
}

#[test]
fn all_callbacks_run_once_whoever_queued_them() {
    let (classic, preemptible, sleepable) = (
        Rcu::new(LONG_NS, silent),
        PreemptRcu::new(LONG_NS, silent),
        SrcuDomain::new(LONG_NS, silent),
    );
    for rcu in [
        RcuFlavour::Classic(&classic),
        RcuFlavour::Preemptible(&preemptible),
        RcuFlavour::Sleepable(&sleepable),
    ] {
        let fixture = Fixture::new(3);
        callbacks_run_once(rcu, &fixture);
        let recorded = fixture.count(Moving, Metric::Callback);
        assert_eq!(recorded, 1_500, "{:?}", rcu.kind());
    }
}
