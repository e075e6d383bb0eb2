use super::*;
use crate::fixture::{self, Fixture};
use std::sync::atomic::AtomicUsize as Count;
use underfoot_abi::{MAX_PARAMETERS, RecordedPhase::Moving, Variant};

const CPUS: usize = 3;
/// A host that says nothing.
const NOTHING: Parameters = [0; MAX_PARAMETERS];

/// Every CPU runs its threads by turns, and answers others, until the initiators have made
/// `operations` operations together, or somebody has found an error.
fn run(variant: Variant, way: Way, operations: u64) -> (Fixture, Audit) {
    let fixture = Fixture::with(CPUS as u32, variant);
    let cpu = fixture.cpu(0);
    let allocator = fixture::allocator(&cpu, 256);
    let kind = PageByte::new(PageKind::PageTable, true);
    let table = PageTable::new(&cpu, allocator, kind).expect("memory");
    let table: &PageTable = Box::leak(Box::new(table));
    let tlb: &Tlb = Box::leak(Box::default());
    // SAFETY: no table is ever loaded on the host.
    let space: &Space = Box::leak(Box::new(unsafe { Space::new(0) }));
    let parts = ShootdownParts {
        table,
        tlb,
        space,
        words: |_| None,
        hardware: false,
    };
    let mut shootdown = Shootdown::build(&cpu, allocator, parts, &NOTHING).expect("memory");
    shootdown.way = way;
    for id in 0..CPUS {
        tlb.join(&fixture.cpu(id), 0);
    }
    let ended = Count::new(0);
    std::thread::scope(|scope| {
        for id in 0..CPUS {
            let (fixture, shootdown, ended) = (&fixture, &shootdown, &ended);
            scope.spawn(move || {
                let cpu = fixture.cpu(id);
                let mut threads: Vec<_> = (0..shootdown.threads(CPUS))
                    .filter(|number| shootdown.seat(*number, CPUS).cpu == id)
                    .map(|number| Thread::new(shootdown, &cpu, number))
                    .collect();
                assert!(!threads.is_empty());
                while count(fixture, 0) < operations && fixture.errors() == 0 {
                    for thread in &mut threads {
                        tlb.poll(&cpu);
                        shootdown.step(&cpu, thread);
                    }
                }
                ended.fetch_add(1, Release);
                while ended.load(Acquire) < CPUS {
                    tlb.poll(&cpu);
                    std::thread::yield_now();
                }
            });
        }
    });
    // SAFETY: all the threads have ended.
    let audit = unsafe { shootdown.audit(&cpu) };
    (fixture, audit)
}

fn count(fixture: &Fixture, counter: usize) -> u64 {
    let of =
        |area: &&underfoot_abi::VcpuArea| area.counters[Moving as usize][counter].load(Relaxed);
    fixture.areas.iter().map(of).sum()
}

#[test]
fn no_reader_uses_an_old_translation() {
    for way in [Way::Ipi, Way::Pv, Way::Hypercall] {
        let (fixture, audit) = run(Variant::None, way, 400);
        assert_eq!((fixture.errors(), audit.errors), (0, 0));
        assert_eq!(audit.updates, fixture.updates());
        assert_eq!(audit.checked, 3 * 2 * 8);
        let operations = count(&fixture, 0);
        assert!(operations >= 400);
        assert_eq!(count(&fixture, 1), 8 * operations);
        // Each of the two others is asked, left alone as lazy, or has not used the space yet.
        let dealt_with = count(&fixture, 2) + count(&fixture, 5);
        assert!(dealt_with <= 2 * operations);
        assert_eq!(count(&fixture, 3) + count(&fixture, 4), count(&fixture, 2));
        assert!(count(&fixture, Shootdown::READS) > 0);
        assert!(audit.updates >= 8 * (operations / 2 - 1));
        // The host has no such hypercall here, and nobody is held.
        assert_eq!((count(&fixture, 6), count(&fixture, 8)), (0, 0));
    }
}

#[test]
fn a_cpu_that_is_left_out_is_caught_by_its_reader() {
    let (fixture, _) = run(Variant::SkipCpu, Way::Ipi, u64::MAX);
    let report = fixture.reports()[0];
    assert_eq!(report.kind.load(Acquire), ReportKind::Translation as u32);
    assert_eq!(report.cpu.load(Relaxed), CPUS as u32 - 1);
}

#[test]
fn what_the_host_left_out_is_the_default() {
    assert_eq!(allowed(&NOTHING), [0, 8, 2, 1]);
}
