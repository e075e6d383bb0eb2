//! Reclaim beside readers of what it frees, with threads as CPUs.

use super::*;
use crate::fixture::{self, Fixture};
use underfoot_abi::{Phase, RecordedPhase::Moving, WorkloadId};

const CPUS: u32 = 4;

fn counter(fixture: &Fixture, index: usize) -> u64 {
    let areas = fixture.areas.iter();
    areas
        .map(|area| area.counters[Moving as usize][index].load(Relaxed))
        .sum()
}

#[test]
fn reclaim_frees_what_readers_look_at() {
    let parameters = WorkloadId::Order.defaults();
    let fixture = Fixture::told(CPUS, Variant::None, &parameters);
    let cpus: &'static [Cpu] = (0..CPUS as usize)
        .map(|id| fixture.cpu(id))
        .collect::<Vec<_>>()
        .leak();
    let pages = fixture::allocator(&cpus[0], 1_024);
    let order = Order::build(&cpus[0], pages).expect("memory");
    let free = pages.free_pages(&cpus[0]);
    let half = CPUS as usize / 2;
    std::thread::scope(|scope| {
        // A CPU is one thread here: remappers on the first half, readers on the other.
        for (cpu, number) in cpus
            .iter()
            .zip((0..half).chain(CPUS as usize..CPUS as usize + half))
        {
            let order = &order;
            scope.spawn(move || order.run(cpu, number));
        }
        while counter(&fixture, FREED) < 500 || counter(&fixture, RECLAIMS) < 100 {
            std::thread::yield_now();
        }
        fixture.header.phase.store(Phase::Stop as u32, Relaxed);
    });
    // SAFETY: the threads have ended.
    let audit = unsafe { order.audit(&cpus[0]) };
    assert_eq!((fixture.errors(), audit.errors), (0, 0));
    assert_eq!(fixture.header.reports_made.load(Relaxed), 0);
    pages.audit(&cpus[0]);
    assert_eq!(fixture.errors(), 0);
    assert_eq!(pages.free_pages(&cpus[0]), free, "every page came back");
}

/// What the reverse map's lock is for: a page that goes while somebody looks at it is seen.
#[test]
fn a_page_that_is_freed_under_a_reader_is_noticed() {
    let parameters = WorkloadId::Order.defaults();
    let fixture = Fixture::told(1, Variant::None, &parameters);
    let cpu = fixture.cpu(0);
    let pages = fixture::allocator(&cpu, 1_024);
    let order = Order::build(&cpu, pages).expect("memory");
    order.look_up(&cpu, 0);
    let page = order.cached[0].load(Relaxed);
    assert_ne!(page, 0);
    order.look_up(&cpu, 0);
    assert_eq!(fixture.errors(), 0);
    // SAFETY: nobody does anything with it; that the cache still names it is the test.
    unsafe { pages.free(&cpu, page, 0) };
    order.look_up(&cpu, 0);
    assert!(fixture.errors() > 0);
}
