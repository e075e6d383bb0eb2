use super::*;
use crate::{fixture::Fixture, sched::Priority};
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use underfoot_abi::{MAX_COUNTERS, Variant, WorkloadId};

/// A part whose threads each do one operation, one update and count one thing more.
struct Part {
    threads: usize,
    counter: usize,
    found: AtomicU64,
    /// An update that the audit will not find.
    loses: bool,
}

impl Part {
    fn leak(threads: usize, counter: usize, loses: bool) -> &'static Self {
        Box::leak(Box::new(Self {
            threads,
            counter,
            found: AtomicU64::new(0),
            loses,
        }))
    }
}

impl Workload for Part {
    fn threads(&self, _cpus: usize) -> usize {
        self.threads
    }

    fn seat(&self, number: usize, _cpus: usize) -> Seat {
        Seat {
            cpu: self.threads - 1 - number,
            priority: Priority::NORMAL,
        }
    }

    fn run(&self, cpu: &'static Cpu, number: usize) {
        assert!(number < self.threads, "its own numbers");
        record::operation(cpu);
        record::count(cpu, self.counter, 10);
        record::peak(cpu, self.counter + 1, 7);
        record::updated(cpu);
        if !(self.loses && number == 0) {
            self.found.fetch_add(1, Relaxed);
        }
    }

    unsafe fn audit(&self, _cpu: &Cpu) -> Audit {
        Audit {
            checked: 5,
            errors: u64::from(self.loses),
            updates: self.found.load(Relaxed),
        }
    }
}

/// The torture's place among the parts, and the shootdown's.
const PLACES: [usize; 2] = [3, 5];

/// Runs a mix of two parts, with three threads and with two, one after the other.
fn run(loses: bool) -> (Fixture, Audit, [u64; MAX_COUNTERS]) {
    let fixture = Fixture::with(3, Variant::None);
    let cpus: &'static [Cpu] = (0..3).map(|id| fixture.cpu(id)).collect::<Vec<_>>().leak();
    let mut parts: [Option<&'static dyn Workload>; MIX_PARTS.len()] = [None; MIX_PARTS.len()];
    parts[PLACES[0]] = Some(Part::leak(3, 4, false));
    parts[PLACES[1]] = Some(Part::leak(2, 1, loses));
    let mix = Mix::new(parts);
    assert_eq!(mix.threads(3), 5);
    let seats: Vec<usize> = (0..5).map(|number| mix.seat(number, 3).cpu).collect();
    assert_eq!(seats, [2, 1, 0, 1, 0]);
    for (number, cpu) in seats.into_iter().enumerate() {
        mix.run(&cpus[cpu], number);
    }
    // SAFETY: there are no threads.
    let audit = unsafe { mix.audit(&cpus[0]) };
    let moving = fixture.areas.iter().map(|area| &area.counters[1]);
    let sums = moving.fold([0; MAX_COUNTERS], |sums: [u64; MAX_COUNTERS], counters| {
        core::array::from_fn(|index| sums[index] + counters[index].load(Relaxed))
    });
    (fixture, audit, sums)
}

#[test]
fn each_part_counts_in_its_place() {
    let (fixture, audit, sums) = run(false);
    let [first, second] = PLACES.map(mix_counters);
    let mut expected = [0; MAX_COUNTERS];
    expected[0] = 5;
    (expected[first], expected[first + 4], expected[first + 5]) = (3, 30, 21);
    (expected[second], expected[second + 1], expected[second + 2]) = (2, 20, 14);
    assert_eq!(sums, expected);
    assert!(second + 3 <= WorkloadId::Mix.counters().len());
    let progress = fixture.areas.iter().map(|area| area.progress.load(Relaxed));
    assert_eq!(progress.sum::<u64>(), 5);
    assert_eq!((audit.checked, audit.errors), (10, 0));
    assert_eq!(audit.updates, fixture.updates());
}

#[test]
fn an_update_that_one_part_lost_is_missed() {
    let (fixture, audit, _) = run(true);
    assert_eq!((audit.errors, audit.updates), (1, 4));
    assert_ne!(audit.updates, fixture.updates());
}

#[test]
#[should_panic(expected = "mix has 0 threads")]
fn nobody_has_no_threads() {
    let mix = Mix::new([None; MIX_PARTS.len()]);
    mix.seat(0, 1);
}
