//! Translations that are shot down.

use super::*;
use crate::space::entry::index;
use underfoot_abi::{Metric, RecordedPhase::Moving, Wait};

const LEN: usize = 8 * PAGE_SIZE;
/// Where no table of the first mapping is of use.
const ELSEWHERE: usize = 1 << 40;

/// Two CPUs, and a space of `LEN` bytes that the second has written to.
fn rig() -> (Rig, [Cpu; 2], &'static Space) {
    let rules = Rules {
        path: Path::VmaLock,
        ..RULES
    };
    let kind = TableKind::Fragments;
    let (rig, cpu) = Rig::with(2, Variant::None, rules, kind, &NoReclaim, Some(Way::Ipi));
    let cpus = [cpu, rig.fixture.cpu(1)];
    let space = rig.spaces.create(&cpus[0]).expect("memory");
    let mapped = rig.spaces.map(&cpus[0], space, 0, LEN, Protection::Write);
    assert_eq!(mapped, Ok(()));
    for address in (0..LEN).step_by(PAGE_SIZE) {
        assert_eq!(rig.spaces.access(&cpus[1], space, address, true), Ok(1));
        assert_eq!(rig.spaces.access(&cpus[1], space, address, true), Ok(0));
    }
    (rig, cpus, space)
}

fn refused(address: usize) -> Result<usize, AccessError> {
    Err(AccessError::Fault(FaultError::Refused { address }))
}

/// Shootdowns so far.
fn shots(rig: &Rig) -> u64 {
    rig.fixture.count(Moving, Metric::Shootdown)
}

#[test]
fn what_is_unmapped_is_free_at_once_after_one_shootdown() {
    let (rig, [cpu, other], space) = rig();
    let second = rig
        .spaces
        .map(&cpu, space, ELSEWHERE, LEN, Protection::Read);
    assert_eq!(second, Ok(()));
    assert_eq!(rig.spaces.access(&other, space, ELSEWHERE, false), Ok(1));
    let unmapped = rig.answered(&cpu, || rig.spaces.unmap(&cpu, space, 0, 2 * ELSEWHERE));
    assert_eq!(unmapped, Ok(()));
    assert_eq!(shots(&rig), 1);
    assert_eq!(rig.spaces.written_back(), rig.fixture.updates());
    for address in [0, ELSEWHERE] {
        let found = rig.spaces.access(&other, space, address, false);
        assert_eq!(found, refused(address));
    }
    rig.destroy(&cpu, space);
    rig.assert_clean(&cpu);
}

#[test]
fn discarded_and_evicted_pages_are_found_anew() {
    let (rig, [cpu, other], space) = rig();
    let half = LEN / 2;
    let discarded = rig.answered(&cpu, || rig.spaces.discard(&cpu, space, 0, half));
    assert_eq!(discarded, Ok(()));
    let evicted = rig.answered(&cpu, || rig.spaces.evict(&cpu, 4));
    assert_eq!(evicted, 4);
    assert_eq!(rig.spaces.written_back(), rig.fixture.updates());
    for address in (0..LEN).step_by(PAGE_SIZE) {
        assert_eq!(rig.spaces.access(&other, space, address, false), Ok(1));
    }
    rig.destroy(&cpu, space);
    rig.assert_clean(&cpu);
}

/// Less is allowed at once everywhere; more where it is needed, by a fault that finds all well.
#[test]
fn permissions_that_shrink_are_shot_down_and_those_that_grow_are_not() {
    let (rig, [cpu, other], space) = rig();
    let protect = |how| rig.answered(&cpu, || rig.spaces.protect(&cpu, space, 0, LEN, how));
    assert_eq!(protect(Protection::Read), Ok(()));
    assert_eq!(shots(&rig), 1);
    assert_eq!(rig.spaces.access(&other, space, 0, true), refused(0));
    assert_eq!(rig.spaces.access(&other, space, 0, false), Ok(0));
    assert_eq!(protect(Protection::Write), Ok(()));
    assert_eq!(shots(&rig), 1);
    assert_eq!(rig.spaces.access(&other, space, 0, true), Ok(1));
    assert_eq!(rig.spaces.access(&other, space, 0, true), Ok(0));
    rig.destroy(&cpu, space);
    rig.assert_clean(&cpu);
}

#[test]
fn moved_pages_are_used_at_their_new_place_alone() {
    let (rig, [cpu, other], space) = rig();
    let moved = rig.answered(&cpu, || rig.spaces.remap(&cpu, space, 0, LEN, ELSEWHERE));
    assert_eq!(moved, Ok(()));
    assert_eq!(shots(&rig), 1);
    for address in (0..LEN).step_by(PAGE_SIZE) {
        let found = rig.spaces.access(&other, space, address, true);
        assert_eq!(found, refused(address));
        let new = ELSEWHERE + address;
        assert_eq!(rig.spaces.access(&other, space, new, true), Ok(0));
    }
    rig.destroy(&cpu, space);
    rig.assert_clean(&cpu);
}

/// As long as a CPU may use the old translations, reclaim must not find the pages at their new place.
#[test]
fn moved_pages_are_at_neither_place_until_all_have_answered() {
    let (rig, [cpu, other], space) = rig();
    let mapped = |address| {
        let leaf = rig.spaces.leaf(&other, space, address);
        leaf.map(|leaf| leaf.entries()[index(address, 0)].load(Relaxed) != 0)
    };
    let meanwhile = std::thread::scope(|scope| {
        let remap = scope.spawn(|| rig.spaces.remap(&cpu, space, 0, LEN, ELSEWHERE));
        while cpu.context().wait().0 != Wait::Ipi {
            std::thread::yield_now();
        }
        let meanwhile = [0, ELSEWHERE].map(mapped);
        while !remap.is_finished() {
            rig.tlb.poll(&other);
        }
        assert_eq!(remap.join().expect("no panic"), Ok(()));
        meanwhile
    });
    assert_eq!(meanwhile, [Some(false); 2]);
    assert_eq!([0, ELSEWHERE].map(mapped), [None, Some(true)]);
    rig.destroy(&cpu, space);
    rig.assert_clean(&cpu);
}

/// A CPU that keeps the space lazily is asked when the space dies, and not before; another space in the
/// same memory is none that it knows.
#[test]
fn a_space_that_dies_is_taken_from_lazy_cpus() {
    let (rig, [cpu, other], space) = rig();
    rig.tlb.be_lazy(&other);
    assert_eq!(
        rig.spaces.unmap(&cpu, space, 0, PAGE_SIZE),
        Ok(()),
        "nobody answers"
    );
    assert_eq!(rig.spaces.access(&other, space, 0, false), refused(0));
    rig.tlb.be_lazy(&other);
    rig.destroy(&cpu, space);
    let next = rig.spaces.create(&cpu).expect("memory");
    assert!(core::ptr::eq(space, next));
    assert_eq!(rig.spaces.access(&other, next, 0, false), refused(0));
    rig.destroy(&cpu, next);
    rig.assert_clean(&cpu);
}
