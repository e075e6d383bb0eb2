//! Faults: which way each goes.

use super::super::fault::Hold;
use super::*;
use crate::mm::watermark::Mode;
use core::sync::atomic::AtomicUsize;
use std::sync::Mutex;
use underfoot_abi::{PageByte, RecordedPhase};

fn counted(rig: &Rig, outcome: Outcome) -> u64 {
    let phase = RecordedPhase::Moving as usize;
    let areas = rig.fixture.areas.iter();
    areas
        .map(|area| area.counters[phase][outcome.counter()].load(Relaxed))
        .sum()
}

/// What stands in a fault's way.
#[derive(Clone, Copy, Debug)]
enum Situation {
    /// Nothing, but that tables are missing.
    First,
    /// Nothing: the tables are there.
    Second,
    /// The VMA's lock is taken.
    Locked,
    /// A write section of the VMA's sequence count is open.
    Changing,
    /// Nothing is mapped.
    Nothing,
}

#[test]
fn each_path_does_what_the_situation_asks_for() {
    use Outcome::{Busy, Changed, Classic, MissingTable, NoVma, Speculative, VmaLock};
    // The outcome of the fault, and why the fast path fell back.
    let table = [
        (Path::MmapLock, Situation::First, Some(Classic), None),
        (Path::MmapLock, Situation::Second, Some(Classic), None),
        (Path::MmapLock, Situation::Nothing, None, None),
        (Path::VmaLock, Situation::First, Some(VmaLock), None),
        (Path::VmaLock, Situation::Second, Some(VmaLock), None),
        (Path::VmaLock, Situation::Locked, Some(Classic), Some(Busy)),
        (Path::VmaLock, Situation::Nothing, None, Some(NoVma)),
        (
            Path::Speculative,
            Situation::First,
            Some(Classic),
            Some(MissingTable),
        ),
        (
            Path::Speculative,
            Situation::Second,
            Some(Speculative),
            None,
        ),
        (
            Path::Speculative,
            Situation::Locked,
            Some(Speculative),
            None,
        ),
        (
            Path::Speculative,
            Situation::Changing,
            Some(Classic),
            Some(Changed),
        ),
        (Path::Speculative, Situation::Nothing, None, Some(NoVma)),
    ];
    for (path, situation, outcome, why) in table {
        let row = format!("{path:?}, {situation:?}");
        let (rig, cpu) = Rig::new(path);
        let space = rig.spaces.create(&cpu).expect("memory");
        if !matches!(situation, Situation::Nothing) {
            let mapped = rig
                .spaces
                .map(&cpu, space, 0, 4 * PAGE_SIZE, Protection::Write);
            assert_eq!(mapped, Ok(()), "{row}");
        }
        if !matches!(situation, Situation::Nothing | Situation::First) {
            assert_eq!(
                rig.spaces.access(&cpu, space, PAGE_SIZE, true),
                Ok(1),
                "{row}"
            );
        }
        let before = why.map(|why| counted(&rig, why));
        let vma = rig.spaces.find(space, 0);
        match (situation, vma) {
            (Situation::Locked, Some(vma)) => vma.lock.write(&cpu),
            (Situation::Changing, Some(vma)) => vma.seq.write_begin(),
            _ => {}
        }
        let result = rig.spaces.fault(&cpu, space, 0, true);
        match (situation, vma) {
            (Situation::Locked, Some(vma)) => vma.lock.write_end(),
            (Situation::Changing, Some(vma)) => vma.seq.write_end(),
            _ => {}
        }
        assert_eq!(result.ok(), outcome, "{row}");
        assert_eq!(
            why.map(|why| counted(&rig, why)),
            before.map(|n| n + 1),
            "{row}"
        );
        let again = rig.spaces.fault(&cpu, space, 0, true);
        assert_eq!(again.ok(), outcome.map(|_| Outcome::Spurious), "{row}");
        rig.destroy(&cpu, space);
        rig.assert_clean(&cpu);
    }
}

/// Holds pages back, and gives some of them when asked.
#[derive(Default)]
struct Hoard {
    held: Mutex<Vec<usize>>,
    pages: Mutex<Option<&'static crate::mm::PageAllocator>>,
    calls: AtomicUsize,
}

impl Reclaim for Hoard {
    fn reclaim(&self, cpu: &Cpu, _pages: usize) -> usize {
        assert_eq!(cpu.context().rcu_depth(), 0, "reclaim in a read section");
        self.calls.fetch_add(1, Relaxed);
        let pages = self.pages.lock().expect("no panic");
        let mut held = self.held.lock().expect("no panic");
        let count = held.len().min(32);
        for page in held.drain(..count) {
            // SAFETY: the test took it for nobody.
            unsafe { pages.expect("pages").free(cpu, page, 0) };
        }
        count
    }
}

#[test]
fn who_is_given_no_page_pays() {
    use Outcome::{Classic, NoMemory, Reclaimed, Speculative, VmaLock};
    // How the fault ends; how often the fast path was refused, and made room by itself.
    let table = [
        (Path::MmapLock, Fallback::Reclaim, Classic, 0, 0),
        (Path::VmaLock, Fallback::Reclaim, VmaLock, 1, 1),
        (Path::VmaLock, Fallback::Classic, Classic, 1, 0),
        (Path::Speculative, Fallback::Reclaim, Speculative, 1, 1),
        (Path::Speculative, Fallback::Classic, Classic, 1, 0),
    ];
    for (path, fallback, outcome, refused, reclaimed) in table {
        let row = format!("{path:?}, {fallback:?}");
        let hoard: &Hoard = Box::leak(Box::default());
        let rules = Rules {
            path,
            fallback,
            ..RULES
        };
        let (rig, cpu) = Rig::with(1, Variant::None, rules, TableKind::Fragments, hoard, None);
        let space = rig.spaces.create(&cpu).expect("memory");
        let mapped = rig
            .spaces
            .map(&cpu, space, 0, 4 * PAGE_SIZE, Protection::Write);
        assert_eq!(mapped, Ok(()));
        assert_eq!(
            rig.spaces.access(&cpu, space, PAGE_SIZE, true),
            Ok(1),
            "{row}"
        );
        let pages = rig.memory.pages;
        *hoard.pages.lock().expect("no panic") = Some(pages);
        let byte = PageByte::new(PageKind::Data, false);
        while pages.free_estimate() >= 56 {
            let page = pages.allocate(&cpu, 0, byte).expect("memory");
            hoard.held.lock().expect("no panic").push(page);
        }
        assert!(rig.memory.allocate(&cpu, byte, Mode::FastPath).is_err());
        let refused_before = counted(&rig, NoMemory);
        assert_eq!(rig.spaces.fault(&cpu, space, 0, true), Ok(outcome), "{row}");
        assert_eq!(counted(&rig, NoMemory) - refused_before, refused, "{row}");
        assert_eq!(counted(&rig, Reclaimed), reclaimed, "{row}");
        assert_eq!(hoard.calls.load(Relaxed), 1, "{row}");
        rig.destroy(&cpu, space);
        assert_eq!(rig.fixture.errors(), 0);
    }
}

#[test]
fn a_fault_without_memory_is_an_error_and_a_report() {
    let (rig, cpu) = Rig::new(Path::VmaLock);
    let space = rig.spaces.create(&cpu).expect("memory");
    let len = 4096 * PAGE_SIZE;
    assert_eq!(
        rig.spaces.map(&cpu, space, 0, len, Protection::Write),
        Ok(())
    );
    let failed =
        (0..4096).find_map(|page| rig.spaces.access(&cpu, space, page * PAGE_SIZE, true).err());
    assert!(matches!(
        failed,
        Some(AccessError::Fault(FaultError::OutOfMemory { .. }))
    ));
    assert_eq!(rig.report_kind(), Some(ReportKind::OutOfMemory));
    assert!(
        rig.memory.pages.free_pages(&cpu) > 40,
        "the reserve is left alone"
    );
    rig.destroy(&cpu, space);
    assert_eq!(rig.fixture.errors(), 0);
}

/// A table is gone by the time that a page is allocated for it: the page goes back.
#[test]
fn a_fault_that_finds_its_table_gone_keeps_no_page() {
    let (rig, cpu) = Rig::new(Path::Speculative);
    let start = || {
        let space = rig.spaces.create(&cpu).expect("memory");
        let mapped = rig.spaces.map(&cpu, space, 0, PAGE_SIZE, Protection::Write);
        assert_eq!(mapped, Ok(()));
        assert_eq!(rig.spaces.access(&cpu, space, 0, true), Ok(1));
        space
    };
    let gone = start();
    let leaf = rig.spaces.leaf(&cpu, gone, 0).expect("it was made");
    rig.destroy(&cpu, gone);
    // It is somebody else's page by now, which has no entry where the fault looks.
    let pages = rig.memory.pages;
    let byte = PageByte::new(PageKind::Data, false);
    let mut others = Vec::new();
    loop {
        let page = pages.allocate(&cpu, 0, byte).expect("it is free");
        if page == leaf.address() / PAGE_SIZE * PAGE_SIZE {
            break;
        }
        others.push(page);
    }
    for page in others {
        // SAFETY: the test took it for nobody.
        unsafe { pages.free(&cpu, page, 0) };
    }
    leaf.entries()[0].store(0, Relaxed);
    let space = start();
    let vma = rig.spaces.find(space, 0).expect("it was mapped");
    let hold = Hold::Sequence(vma.seq.read_begin_raw());
    let free = pages.free_pages(&cpu);
    let result = rig
        .spaces
        .populate_leaf(&cpu, space, vma, 0, hold, (leaf, Mode::FastPath));
    assert_eq!(result, Err(Outcome::Changed));
    assert_eq!(pages.free_pages(&cpu), free);
}
