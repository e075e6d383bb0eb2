//! The workloads over address spaces, with threads as CPUs.

use super::*;
use crate::{
    Cpu,
    fixture::{self, Fixture},
    sync::{Rcu, RcuStall},
    tlb::Tlb,
};
use core::{
    cell::Cell,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
};
use underfoot_abi::{
    CHANGES, DENIED, FAULT_OUTCOMES, Header, MAX_PARAMETERS, PRESSURE_COUNTERS, Phase,
    RecordedPhase, ReportKind, SPLITS, TABLE_SAMPLES, Variant, WorkloadId,
};

const CPUS: u32 = 3;

fn silent(_: &Cpu, _: &RcuStall) {}

thread_local! {
    /// The RCU of the guest that this thread is a CPU of.
    static RCU: Cell<Option<&'static Rcu>> = const { Cell::new(None) };
}

/// What the kernel's bottom half does.
fn between(cpu: &Cpu, _: u64) {
    if let Some(rcu) = RCU.get() {
        rcu.process(cpu);
    }
    std::thread::yield_now();
}

fn build(id: WorkloadId, cpu: &Cpu, parts: SpaceParts) -> &'static dyn Workload {
    let told = &cpu.header.parameters;
    let workload: Option<Box<dyn Workload>> = match id {
        WorkloadId::Mmap1 => Mmap1::build(cpu, parts, told).map(|it| Box::new(it) as Box<_>),
        WorkloadId::Exit => Exit::build(cpu, parts, told).map(|it| Box::new(it) as Box<_>),
        WorkloadId::Pressure => Pressure::build(cpu, parts, told).map(|it| Box::new(it) as Box<_>),
        _ => Fault::build(cpu, parts, told).map(|it| Box::new(it) as Box<_>),
    };
    Box::leak(workload.expect("memory"))
}

/// A guest that is told this, and the defaults.
fn guest(id: WorkloadId, variant: Variant, told: &[(&str, u64)]) -> Fixture {
    let mut parameters = [0; MAX_PARAMETERS];
    for (value, parameter) in parameters.iter_mut().zip(id.parameters()) {
        let told = told.iter().find(|(name, _)| *name == parameter.name);
        *value = told.map_or(parameter.default, |told| told.1);
    }
    Fixture::told(CPUS, variant, &parameters)
}

/// Runs the workload until `enough`; its counters, and what the audit says.
fn run(fixture: &Fixture, id: WorkloadId, enough: impl Fn() -> bool) -> (Vec<u64>, Audit) {
    let cpus: &'static [Cpu] = (0..CPUS as usize)
        .map(|id| fixture.cpu(id))
        .collect::<Vec<_>>()
        .leak();
    let pages = fixture::allocator(&cpus[0], 4096);
    let rcu: &'static Rcu = Box::leak(Box::new(Rcu::new(u64::MAX, silent)));
    let tlb: &'static Tlb = Box::leak(Box::default());
    fixture.interrupt_by(|cpu| tlb.poll(cpu));
    let parts = SpaceParts {
        pages,
        rcu,
        tlb,
        words: |_| None,
        between,
    };
    let workload = build(id, &cpus[0], parts);
    let threads = workload.threads(CPUS as usize);
    assert!(threads <= CPUS as usize, "a CPU is one thread here");
    let ended = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for number in 0..threads {
            let cpu = &cpus[workload.seat(number, CPUS as usize).cpu];
            rcu.idle_exit(cpu);
            let ended = &ended;
            scope.spawn(move || {
                RCU.set(Some(rcu));
                workload.run(cpu, number);
                rcu.idle_enter(cpu);
                // Its CPU takes interrupts until the others' threads have ended.
                ended.fetch_add(1, Relaxed);
                while ended.load(Relaxed) < threads {
                    cpu.sched.yield_now(cpu);
                }
            });
        }
        while !enough() {
            std::thread::yield_now();
        }
        fixture.header.phase.store(Phase::Stop as u32, Relaxed);
    });
    fixture.header.phase.store(Phase::Moving as u32, Relaxed);
    let over = AtomicBool::new(false);
    let audit = std::thread::scope(|scope| {
        for cpu in &cpus[1..] {
            let over = &over;
            scope.spawn(move || {
                while !over.load(Relaxed) {
                    cpu.sched.yield_now(cpu);
                }
            });
        }
        // SAFETY: the threads have ended.
        let audit = unsafe { workload.audit(&cpus[0]) };
        over.store(true, Relaxed);
        audit
    });
    let counters = (0..id.counters().len()).map(|index| counter(fixture, index));
    (counters.collect(), audit)
}

fn counter(fixture: &Fixture, index: usize) -> u64 {
    let phase = RecordedPhase::Moving as usize;
    let areas = fixture.areas.iter();
    areas
        .map(|area| area.counters[phase][index].load(Relaxed))
        .sum()
}

#[test]
fn workloads_run_clean_on_every_path() {
    for id in [WorkloadId::Mmap1, WorkloadId::Exit, WorkloadId::Fault] {
        for path in 0..3 {
            for tables in 0..2 {
                let told = [
                    ("path", path),
                    ("tables", tables),
                    ("shootdown", (path + tables) % 2),
                    ("remap", tables),
                    ("protect", 1),
                    ("threads", 1),
                    ("mappers", 1),
                    ("free", tables),
                ];
                let fixture = guest(id, Variant::None, &told);
                let (counters, audit) = run(&fixture, id, || {
                    counter(&fixture, 0) > 200 && counter(&fixture, CHANGES) > 20
                });
                let row = format!("{} {told:?}", id.name());
                assert_eq!((fixture.errors(), audit.errors), (0, 0), "{row}");
                assert!(audit.checked > 0, "{row}");
                assert_eq!(fixture.header.reports_made.load(Relaxed), 0, "{row}");
                if id == WorkloadId::Mmap1 {
                    for index in [SPLITS, SPLITS + 1, DENIED] {
                        assert!(counters[index] > 0, "{row}: {}", id.counters()[index].name);
                    }
                }
                let faults: u64 = counters[1..=FAULT_OUTCOMES.len()].iter().sum();
                assert!(faults > 0, "{row}");
                // The phase may end between a change and its sample, once for each thread.
                let (changes, samples) = (counters[CHANGES], counters[TABLE_SAMPLES]);
                assert!(
                    changes.abs_diff(samples) <= CPUS.into(),
                    "{row}: {changes} {samples}"
                );
                let wasted = counters[TABLE_SAMPLES + 4] / counters[TABLE_SAMPLES];
                let pages = counters[TABLE_SAMPLES + 1] / counters[TABLE_SAMPLES];
                eprintln!("{row}: {pages} pages of tables, {wasted} bytes wasted");
            }
        }
    }
}

/// What each busted form of the tables and of the paths is caught by, in the workload made for it.
#[test]
fn workloads_catch_the_busted_forms() {
    let table = [
        (WorkloadId::Mmap1, Variant::NoPendingCheck),
        (WorkloadId::Mmap1, Variant::FreedListed),
        (WorkloadId::Mmap1, Variant::NoVmaLock),
        (WorkloadId::Mmap1, Variant::NoSequenceCheck),
        (WorkloadId::Exit, Variant::OwnerGone),
        (WorkloadId::Mmap1, Variant::SkipCpu),
    ];
    for (id, variant) in table {
        let path = match variant {
            Variant::NoSequenceCheck => 2,
            _ => 1,
        };
        let told = [
            ("accessors", 2),
            ("threads", 1),
            ("path", path),
            ("shootdown", u64::from(variant == Variant::SkipCpu)),
        ];
        let fixture = guest(id, variant, &told);
        let header: &Header = fixture.header;
        let right = match variant {
            Variant::SkipCpu => ReportKind::Translation,
            _ => ReportKind::Fragment,
        };
        // What is lost by it may be scarce before that.
        let is_caught = || header.reports[right.index()].made.load(Relaxed) > 0;
        run(&fixture, id, is_caught);
        assert!(fixture.errors() > 0, "{variant:?}");
    }
}

/// What is told of `pressure`: of three CPUs two fault, and one allocates.
fn pressed(variant: Variant, path: u64, fallback: u64, shootdown: u64) -> Fixture {
    let told = [
        ("path", path),
        ("shootdown", shootdown),
        ("fallback", fallback),
        ("faulters", 2),
        ("allocators", 1),
        ("held", 16),
    ];
    guest(WorkloadId::Pressure, variant, &told)
}

#[test]
fn pressure_is_borne_on_every_path() {
    for path in 0..3 {
        for (fallback, shootdown) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            let fixture = pressed(Variant::None, path, fallback, shootdown);
            let (_, audit) = run(&fixture, WorkloadId::Pressure, || {
                let evicted = counter(&fixture, PRESSURE_COUNTERS + 7);
                evicted > 1_000 && counter(&fixture, PRESSURE_COUNTERS) > 200
            });
            let row = format!("path {path}, fallback {fallback}, shootdown {shootdown}");
            assert_eq!((fixture.errors(), audit.errors), (0, 0), "{row}");
            assert_eq!(fixture.header.reports_made.load(Relaxed), 0, "{row}");
            assert_eq!(audit.updates, fixture.updates(), "{row}");
        }
    }
}

#[test]
fn pressure_catches_the_busted_forms() {
    for (variant, kind) in [
        (Variant::DipsIntoReserve, ReportKind::Allocation),
        (Variant::ReclaimsUnderRcu, ReportKind::Allocation),
        (Variant::NeverPays, ReportKind::Starvation),
    ] {
        let fixture = pressed(variant, 2, 0, 0);
        let header: &Header = fixture.header;
        run(&fixture, WorkloadId::Pressure, || {
            header.reports_made.load(Relaxed) > 0
        });
        assert!(fixture.errors() > 0, "{variant:?}");
        assert_eq!(fixture.first_report(), Some(kind), "{variant:?}");
    }
    let fixture = pressed(Variant::DropsUpdates, 2, 0, 0);
    let (_, audit) = run(&fixture, WorkloadId::Pressure, || {
        counter(&fixture, PRESSURE_COUNTERS + 7) > 100
    });
    assert!(audit.updates < fixture.updates());
}
