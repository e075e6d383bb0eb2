use super::*;
use crate::{
    fixture::{Fixture, allocator},
    sync::{RcuStall, Rig, machines},
};
use core::sync::atomic::AtomicBool;
use underfoot_abi::WorkloadId;

const LONG_NS: u64 = 60_000_000_000;

/// Enough for each busted form to be caught many times over.
const MANY: u64 = 1_000_000;

/// All parameters.
fn told(first: [u64; 5]) -> Parameters {
    let mut parameters = WorkloadId::Torture.defaults();
    parameters[..first.len()].copy_from_slice(&first);
    parameters
}

fn reads(fixture: &Fixture) -> u64 {
    let areas = fixture.areas.iter();
    areas.map(|area| area.progress.load(Relaxed)).sum()
}

/// What came of a run.
struct Outcome {
    fixture: Fixture,
    audit: Audit,
    completed: u64,
}

impl Outcome {
    fn count(&self, counter: usize) -> u64 {
        let areas = self.fixture.areas.iter();
        areas
            .map(|area| area.counters[1][counter].load(Relaxed))
            .sum()
    }
}

/// A writer makes as many writes on CPU 0 as the other CPUs make reads, and at least `least`, or until
/// an error is found; threads change where these sleep or yield.
fn torture(cpus: u32, kind: RcuKind, variant: Variant, least: u64) -> Outcome {
    let fixture = Fixture::with(cpus, variant);
    let flavours = machines(LONG_NS, RcuStall::report);
    let rcu = flavours[kind as usize];
    let rig = Rig::leak();
    rig.hear(rcu);
    let cpus: Vec<_> = (0..cpus as usize)
        .map(|id| rig.cpu(fixture.cpu(id)))
        .collect();
    let pages = allocator(&cpus[0], 512);
    let torture = Torture::build(&cpus[0], pages, flavours, &told([kind as u64, 1, 1, 0, 0]))
        .expect("memory");
    cpus.iter().for_each(|cpu| rcu.idle_exit(cpu));
    let (done, start) = (AtomicBool::new(false), std::sync::Barrier::new(cpus.len()));
    std::thread::scope(|scope| {
        for cpu in &cpus[1..] {
            let (torture, done, start) = (&torture, &done, &start);
            scope.spawn(move || {
                let mut random = Random::new(7, cpu.id as u64);
                start.wait();
                while !done.load(Relaxed) {
                    torture.read(cpu, &mut random);
                    rcu.tick(cpu, cpu.context());
                }
                rcu.idle_enter(cpu);
            });
        }
        start.wait();
        let mut turn = 0;
        while fixture.errors() == 0 && (turn < least || reads(&fixture) < least) {
            torture.write(&cpus[0], torture.pipe(0), turn as usize);
            rcu.tick(&cpus[0], cpus[0].context());
            turn += 1;
        }
        done.store(true, Relaxed);
    });
    // SAFETY: the threads have ended.
    let audit = unsafe { torture.audit(&cpus[0]) };
    Outcome {
        audit,
        completed: rcu.completed(),
        fixture,
    }
}

#[test]
fn the_right_forms_are_clean() {
    for kind in RcuKind::ALL {
        let outcome = torture(3, kind, Variant::None, 100);
        assert_eq!(
            (outcome.fixture.errors(), outcome.audit.errors),
            (0, 0),
            "{kind:?}"
        );
        assert_eq!(outcome.fixture.header.reports_made.load(Relaxed), 0);
        let waits = outcome.count(SYNCHRONIZE) + outcome.count(EXPEDITED);
        assert!(
            waits > 0 && outcome.completed >= waits,
            "{kind:?}: each wait is one"
        );
        assert_eq!(outcome.audit.updates, outcome.count(WRITES));
        assert_eq!(waits + outcome.count(CALLS), outcome.count(WRITES));
        assert!(outcome.count(0) >= 100 && outcome.count(OLD) == 0);
        assert!(outcome.count(CALLBACKS_WAITING) > 0 && outcome.count(BYTES_WAITING) > 0);
        assert!(
            outcome
                .fixture
                .count(underfoot_abi::RecordedPhase::Moving, Metric::Callback)
                > 0
        );
    }
}

fn is_caught(kind: RcuKind, variant: Variant) {
    let outcome = torture(2, kind, variant, MANY);
    assert!(outcome.fixture.errors() > 0, "{variant:?}");
    assert!(outcome.count(OLD) > 0, "{variant:?}: by a reader");
    let header = outcome.fixture.header;
    assert_eq!(header.reports_made.load(Relaxed), 1, "once");
    assert_eq!(outcome.fixture.first_report(), Some(ReportKind::RcuTorture));
}

#[test]
fn a_classic_grace_period_of_one_cpu_is_caught() {
    is_caught(RcuKind::Classic, Variant::RcuClassicBusted);
}

#[test]
fn forgetting_preempted_readers_is_caught() {
    is_caught(RcuKind::Preemptible, Variant::RcuPreemptBusted);
}

#[test]
fn forgetting_the_readers_of_the_old_index_is_caught() {
    is_caught(RcuKind::Sleepable, Variant::RcuSleepBusted);
}

/// A variant of one kind is nothing to the others.
#[test]
fn other_kinds_are_not_accused() {
    let outcome = torture(2, RcuKind::Classic, Variant::RcuSleepBusted, 60);
    assert_eq!(outcome.fixture.errors(), 0);
}

#[test]
fn threads_sit_where_they_should() {
    let fixture = Fixture::new(3);
    let cpu = fixture.cpu(0);
    let pages = allocator(&cpu, 512);
    let flavours = machines(LONG_NS, RcuStall::report);
    let torture = Torture::build(&cpu, pages, flavours, &told([1, 2, 4, 1, 1])).expect("memory");
    assert_eq!(torture.threads(3), 4 + 3 + 6);
    let seats: Vec<_> = (0..13).map(|number| torture.seat(number, 3)).collect();
    for (cpu, first) in [(0, 0), (0, 3), (0, 4), (1, 5), (0, 7), (2, 12)] {
        assert_eq!(seats[first].cpu, cpu, "thread {first}");
    }
    let hogs = seats.iter().filter(|seat| seat.priority == HOG);
    assert_eq!(hogs.count(), 3);
    assert!(Priority::NORMAL < HOG && HOG < Priority::BOOST);
}
