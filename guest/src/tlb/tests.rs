use super::*;
use crate::{Cpu, fixture::Fixture};
use proptest::prelude::*;
use std::{
    collections::BTreeSet,
    sync::atomic::{
        AtomicBool, AtomicU8,
        Ordering::{Acquire, Relaxed, Release},
    },
};
use underfoot_abi::{
    Metric, PAGE_SIZE, RecordedPhase::Moving, VCPU_FLUSH_TLB, VCPU_PREEMPTED, Variant,
};

const PAGE: usize = 0x7000_0000;

/// CPUs that have joined, and a space that lives for ever.
fn setup(cpus: u32) -> (Fixture, &'static Tlb, &'static Space) {
    let fixture = Fixture::new(cpus);
    let tlb: &Tlb = Box::leak(Box::default());
    for id in 0..cpus as usize {
        tlb.join(&fixture.cpu(id), 0);
    }
    // SAFETY: no table is ever loaded on the host.
    (fixture, tlb, Box::leak(Box::new(unsafe { Space::new(0) })))
}

/// What `cpu` finds at [`PAGE`] if the page table says `entry`.
fn lookup(tlb: &Tlb, cpu: &Cpu, entry: u64) -> u64 {
    tlb.soft(cpu)
        .access(cpu, PAGE, || Some(entry), |entry| entry)
        .expect("mapped")
}

/// Runs `shoot` on a CPU while the others answer, each on a thread of its own.
fn answered<T: Send>(tlb: &Tlb, fixture: &Fixture, shoot: impl FnOnce(&Cpu) -> T + Send) -> T {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for id in 1..fixture.areas.len() {
            let (cpu, done) = (fixture.cpu(id), &done);
            scope.spawn(move || {
                while !done.load(Acquire) {
                    tlb.poll(&cpu);
                    std::thread::yield_now();
                }
            });
        }
        let result = shoot(&fixture.cpu(0));
        done.store(true, Release);
        result
    })
}

proptest! {
    /// A batch names every page that was added; no other one unless it names everything; and
    /// everything only if the pages are too many or too scattered.
    #[test]
    fn a_batch_names_what_was_added(
        added in prop::collection::vec((0usize..120, 1usize..6), 0..14),
    ) {
        let mut batch = Batch::new();
        let mut wanted = BTreeSet::new();
        let mut most_ranges = 0;
        for (first, pages) in added {
            batch.add(PAGE + first * PAGE_SIZE, pages);
            wanted.extend(first..first + pages);
            let starts = wanted.iter().filter(|page| **page == 0 || !wanted.contains(&(**page - 1)));
            most_ranges = most_ranges.max(starts.count());
        }
        prop_assert_eq!(batch.is_empty(), wanted.is_empty());
        prop_assert_eq!(batch.is_all(), wanted.len() > CEILING || most_ranges > RANGES);
        if !batch.is_all() {
            let mut named = BTreeSet::new();
            let mut total = 0;
            for range in batch.ranges() {
                prop_assert_eq!(PageRange::unpack(range.pack()), *range);
                let first = (range.address - PAGE) / PAGE_SIZE;
                named.extend(first..first + range.pages);
                total += range.pages;
                prop_assert!(!wanted.contains(&(first + range.pages)), "ranges touch");
            }
            prop_assert_eq!(total, wanted.len());
            prop_assert_eq!(named, wanted);
        }
    }
}

#[test]
fn a_translation_is_kept_until_its_shootdown_and_no_longer() {
    let (fixture, tlb, space) = setup(3);
    let cpus: Vec<Cpu> = (0..3).map(|id| fixture.cpu(id)).collect();
    for cpu in &cpus {
        tlb.activate(cpu, None, space);
        assert_eq!(lookup(tlb, cpu, 1), 1);
        assert_eq!(lookup(tlb, cpu, 2), 1, "cached");
    }
    // Another page's shootdown leaves it where it is.
    let other = Batch::page(PAGE + PAGE_SIZE);
    let shot = answered(tlb, &fixture, |cpu| tlb.shoot(cpu, space, &other, Way::Ipi));
    assert_eq!((shot.asked, shot.lazy), (2, 0));
    assert!(matches!(shot.slowest, Some(1 | 2)));
    for cpu in &cpus {
        assert_eq!(lookup(tlb, cpu, 2), 1);
    }
    for (new, batch) in [(2, Batch::page(PAGE)), (3, Batch::all())] {
        answered(tlb, &fixture, |cpu| tlb.shoot(cpu, space, &batch, Way::Ipi));
        for cpu in &cpus {
            assert_eq!(lookup(tlb, cpu, new), new);
        }
    }
    let last: u64 = fixture
        .areas
        .iter()
        .map(|area| area.last_answers[Moving as usize].load(Relaxed))
        .sum();
    assert_eq!(last, 3);
    assert_eq!(fixture.count(Moving, Metric::Shootdown), 3);
}

#[test]
fn a_lazy_cpu_is_left_alone_and_catches_up() {
    let (fixture, tlb, space) = setup(2);
    let (cpu, lazy) = (fixture.cpu(0), fixture.cpu(1));
    tlb.activate(&lazy, None, space);
    assert_eq!(lookup(tlb, &lazy, 1), 1);
    tlb.be_lazy(&lazy);
    // Nobody answers.
    let shot = tlb.shoot(&cpu, space, &Batch::page(PAGE), Way::Ipi);
    assert_eq!((shot.asked, shot.sent, shot.lazy), (0, 0, 1));
    tlb.activate(&lazy, None, space);
    assert_eq!(lookup(tlb, &lazy, 2), 2);
    tlb.be_lazy(&lazy);
    tlb.activate(&lazy, None, space);
    assert_eq!(
        lookup(tlb, &lazy, 3),
        2,
        "nothing changed, nothing is flushed"
    );
    // A lazy CPU may still walk tables, and use the kernel's own translations.
    tlb.be_lazy(&lazy);
    let mut tables = Batch::page(PAGE);
    tables.frees_tables();
    let shot = answered(tlb, &fixture, |cpu| {
        tlb.shoot(cpu, space, &tables, Way::Ipi)
    });
    assert_eq!((shot.asked, shot.lazy), (1, 0));
    let page = Batch::page(PAGE);
    let shot = answered(tlb, &fixture, |cpu| {
        tlb.shoot(cpu, tlb.kernel(), &page, Way::Ipi)
    });
    assert_eq!((shot.asked, shot.lazy), (1, 0));
}

#[test]
fn who_missed_a_change_flushes_everything() {
    let (fixture, tlb, space) = setup(2);
    let target = fixture.cpu(1);
    tlb.activate(&target, None, space);
    assert_eq!(lookup(tlb, &target, 1), 1);
    // A change whose order never reaches the CPU, as after a note.
    space.change();
    let other = Batch::page(PAGE + PAGE_SIZE);
    answered(tlb, &fixture, |cpu| tlb.shoot(cpu, space, &other, Way::Ipi));
    assert_eq!(lookup(tlb, &target, 2), 2);
}

#[test]
fn a_space_that_was_left_or_retired_is_on_no_cpu() {
    let (fixture, tlb, space) = setup(3);
    // SAFETY: as in `setup`.
    let next: &Space = Box::leak(Box::new(unsafe { Space::new(0) }));
    let (one, two) = (fixture.cpu(1), fixture.cpu(2));
    tlb.activate(&one, None, space);
    tlb.activate(&two, None, space);
    assert_eq!(space.active(), 0b110);
    lookup(tlb, &one, 1);
    tlb.activate(&one, Some(space), next);
    assert_eq!((space.active(), next.active()), (0b100, 0b010));
    assert_eq!(lookup(tlb, &one, 2), 2, "no translation of the old space");
    tlb.be_lazy(&two);
    answered(tlb, &fixture, |cpu| tlb.retire(cpu, space));
    assert_eq!(space.active(), 0);
    // Its memory may hold another space by now: that one is loaded anew.
    lookup(tlb, &two, 5);
    tlb.activate(&two, Some(space), space);
    assert_eq!(space.active(), 0b100);
    assert_eq!(lookup(tlb, &two, 6), 6);
}

#[test]
fn a_vcpu_that_does_not_run_is_left_a_note() {
    let (fixture, tlb, space) = setup(2);
    let (cpu, target) = (fixture.cpu(0), fixture.cpu(1));
    tlb.activate(&target, None, space);
    for by_vmm in [true, false] {
        assert_eq!(lookup(tlb, &target, 1), 1);
        let (held, preempted) = (AtomicU8::new(0), AtomicU8::new(0));
        let word = if by_vmm { &held } else { &preempted };
        word.store(VCPU_PREEMPTED, Relaxed);
        // Nobody answers.
        let shot = tlb.shoot_with(&cpu, space, &Batch::page(PAGE), Way::Pv, |_| {
            Some(HostWords {
                held: &held,
                preempted: &preempted,
            })
        });
        assert_eq!(
            (shot.asked, shot.notes_held, shot.notes_preempted),
            (0, u32::from(by_vmm), u32::from(!by_vmm))
        );
        assert_eq!(word.swap(0, Relaxed), VCPU_PREEMPTED | VCPU_FLUSH_TLB);
        assert_eq!(lookup(tlb, &target, 2), 2, "its host has flushed");
        tlb.soft(&target).flush_all();
    }
    // One that runs is asked.
    let shot = answered(tlb, &fixture, |cpu| {
        let word = AtomicU8::new(0);
        tlb.shoot_with(cpu, space, &Batch::page(PAGE), Way::Pv, |_| {
            Some(HostWords {
                held: &word,
                preempted: &word,
            })
        })
    });
    assert_eq!(
        (shot.asked, shot.notes_held, shot.notes_preempted),
        (1, 0, 0)
    );
}

#[test]
fn all_cpus_shoot_at_each_other() {
    const ROUNDS: u32 = 300;
    let (fixture, tlb, space) = setup(4);
    let finished = AtomicU8::new(0);
    std::thread::scope(|scope| {
        for id in 0..4 {
            let (cpu, finished) = (fixture.cpu(id), &finished);
            scope.spawn(move || {
                tlb.activate(&cpu, None, space);
                for round in 0..ROUNDS {
                    let page = Batch::page(PAGE + round as usize % 5 * PAGE_SIZE);
                    tlb.shoot(&cpu, space, &page, Way::Ipi);
                }
                finished.fetch_add(1, Release);
                while finished.load(Acquire) < 4 {
                    tlb.poll(&cpu);
                    std::thread::yield_now();
                }
            });
        }
    });
    assert_eq!(
        fixture.count(Moving, Metric::Shootdown),
        u64::from(4 * ROUNDS)
    );
}

#[test]
fn the_busted_form_leaves_the_last_cpu_out() {
    let fixture = Fixture::with(3, Variant::SkipCpu);
    let tlb: &Tlb = Box::leak(Box::default());
    // SAFETY: as in `setup`.
    let space: &Space = Box::leak(Box::new(unsafe { Space::new(0) }));
    for id in 0..3 {
        tlb.join(&fixture.cpu(id), 0);
        tlb.activate(&fixture.cpu(id), None, space);
    }
    let skipped = fixture.cpu(2);
    assert_eq!(lookup(tlb, &skipped, 1), 1);
    let shot = answered(tlb, &fixture, |cpu| {
        tlb.shoot(cpu, space, &Batch::page(PAGE), Way::Ipi)
    });
    assert_eq!((shot.asked, shot.slowest), (1, Some(1)));
    assert_eq!(lookup(tlb, &skipped, 2), 1, "stale");
}
