use super::*;
use crate::fixture::{self, Fixture};
use crate::mm::{PageAllocator, PageTable, PteFlags};
use crate::random::Random;
use crate::tlb::Tlb;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use proptest::prelude::*;
use underfoot_abi::{MoverArea, MoverMetric, PAGE_SIZE, PageByte, PageKind, Variant};

/// Frames are reached where they are: the host has one mapping of them, which nobody clears.
const DIRECT: usize = 0;

/// A guest that maps its memory to itself, and a mover of it. Nothing is translated by the table but
/// by the tests.
struct Rig {
    fixture: Fixture,
    pages: &'static PageAllocator,
    table: &'static PageTable,
    frames: &'static Frames,
    area: &'static MoverArea,
    job: Job,
}

impl Rig {
    fn new(variant: Variant) -> Self {
        let fixture = Fixture::with(1, variant);
        let cpu = fixture.cpu(0);
        let pages = fixture::allocator(&cpu, 1024);
        let kind = PageByte::new(PageKind::PageTable, true);
        let table = PageTable::new(&cpu, pages, kind).expect("memory");
        let flags = PteFlags::PRESENT | PteFlags::WRITABLE;
        let mapped = table.identity(&cpu, pages, pages.covers(), false, flags);
        mapped.expect("tables");
        let table = Box::leak(Box::new(table));
        // SAFETY: leaked memory, which nobody translates to by this table.
        let frames = unsafe { Frames::new(&cpu, pages, table, DIRECT) };
        let frames = Box::leak(Box::new(frames.expect("memory")));
        // SAFETY: zeroes are a valid area.
        let area = unsafe { &*fixture::leak::<MoverArea>() };
        let job = Job::new(Parts {
            pages,
            table,
            tlb: Box::leak(Box::new(Tlb::new())),
            frames,
            area,
            patience_ns: u64::MAX,
        });
        Self {
            fixture,
            pages,
            table,
            frames,
            area,
            job,
        }
    }

    fn page(&self, kind: PageKind) -> usize {
        let byte = PageByte::new(kind, false);
        let page = self.pages.allocate(&self.fixture.cpu(0), 0, byte);
        page.expect("memory")
    }

    fn move_page(&self, page: usize, kind: PageKind) -> Outcome {
        self.job.move_page(&self.fixture.cpu(0), page, kind)
    }

    /// The first word of the page, as the processor would find it.
    fn word(&self, page: usize) -> &AtomicU64 {
        fixture::word(self.table.walk(page).expect("mapped").physical)
    }

    fn misplaced(&self) -> u64 {
        self.job.audit(self.pages.covers());
        self.area.misplaced.load(Relaxed)
    }
}

#[test]
fn states_of_an_entry() {
    let flags = PteFlags::PRESENT | PteFlags::WRITABLE | PteFlags::USER;
    let entry = AtomicU64::new(0x5000 | flags.bits());
    let state = || State::of(entry.load(Relaxed));
    assert!(!give_up(&entry), "nothing to give up");
    let window = Window::open(&entry).expect("mapped");
    assert_eq!(state(), State::InFlight(0x5000));
    assert!(Window::open(&entry).is_none(), "two windows of one page");
    assert!(give_up(&entry));
    assert_eq!(entry.load(Relaxed), 0x5000 | flags.bits());
    assert!(window.begin_copy().is_none(), "given up");

    let window = Window::open(&entry).expect("mapped");
    let copying = window.begin_copy().expect("not given up");
    assert!(!give_up(&entry), "too late");
    assert_eq!(state(), State::InFlight(0x5000));
    copying.finish(0x9000);
    assert_eq!(entry.load(Relaxed), 0x9000 | flags.bits());
    assert_eq!(wait_until_mapped(&entry, || panic!("mapped")), Some(false));
    entry.store(0, Relaxed);
    assert_eq!(wait_until_mapped(&entry, || panic!("no window")), None);
    assert!(Window::open(&entry).is_none());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

    /// Whatever moves how often, contents stay, no two pages share a frame, and counts add up.
    #[test]
    fn pages_keep_what_they_hold(moves in prop::collection::vec(0usize..12, 1..600)) {
        let rig = Rig::new(Variant::None);
        let pages: Vec<usize> = (0..12).map(|_| rig.page(PageKind::Slab)).collect();
        for (number, page) in pages.iter().enumerate() {
            rig.word(*page).store(number as u64, Relaxed);
        }
        for number in &moves {
            let before = rig.table.walk(pages[*number]).expect("mapped").physical;
            prop_assert_eq!(rig.move_page(pages[*number], PageKind::Slab), Outcome::Committed);
            let after = rig.table.walk(pages[*number]).expect("mapped").physical;
            prop_assert_ne!(before, after);
            prop_assert!(rig.frames.is_sound(rig.table, pages[*number]));
        }
        for (number, page) in pages.iter().enumerate() {
            prop_assert_eq!(rig.word(*page).load(Relaxed), number as u64);
        }
        let frame = |page: &usize| rig.table.walk(*page).expect("mapped").physical;
        let used: std::collections::BTreeSet<_> = pages.iter().map(frame).collect();
        prop_assert_eq!(used.len(), pages.len());
        prop_assert_eq!(rig.misplaced(), 0);
        let counts = &rig.area.counts[PageKind::Slab as usize];
        for count in [&counts.attempted, &counts.committed] {
            prop_assert_eq!(count.load(Relaxed), moves.len() as u64);
        }
        for metric in MoverMetric::ALL {
            let count = rig.area.histograms[metric as usize].count.load(Relaxed);
            prop_assert_eq!(count, moves.len() as u64, "{:?}", metric);
        }
        prop_assert_eq!(rig.area.stale_writes.load(Relaxed), 0);
    }
}

#[test]
fn what_must_not_move_is_left_alone() {
    let rig = Rig::new(Variant::None);
    for kind in [PageKind::PageTable, PageKind::Descriptor, PageKind::Stack] {
        assert_eq!(rig.move_page(rig.page(kind), kind), Outcome::Skipped);
    }
    let pinned = rig.page(PageKind::Data);
    rig.frames.pin(pinned..pinned + PAGE_SIZE);
    assert_eq!(rig.move_page(pinned, PageKind::Data), Outcome::Skipped);
    rig.frames.unpin(pinned..pinned + PAGE_SIZE);
    assert_eq!(rig.move_page(pinned, PageKind::Data), Outcome::Committed);
    // It has become something else since it was chosen.
    assert_eq!(rig.move_page(pinned, PageKind::Slab), Outcome::Skipped);

    let stack = rig.page(PageKind::Stack);
    rig.frames.set_own_stack(stack..stack + PAGE_SIZE, true);
    assert_eq!(rig.move_page(stack, PageKind::Stack), Outcome::Committed);

    let byte = PageByte::new(PageKind::Data, true);
    let reached = rig.page(PageKind::Data);
    rig.pages.set_kind(reached, 0, byte);
    assert_eq!(rig.move_page(reached, PageKind::Data), Outcome::Skipped);
    assert_eq!(rig.misplaced(), 0);
}

#[test]
fn a_write_to_a_frame_that_was_left_is_seen() {
    let rig = Rig::new(Variant::None);
    let page = rig.page(PageKind::Data);
    let left = rig.table.walk(page).expect("mapped").physical;
    assert_eq!(rig.move_page(page, PageKind::Data), Outcome::Committed);
    fixture::word(left + 8).store(7, Relaxed);
    for _ in 0..SPARES {
        assert_eq!(rig.area.stale_writes.load(Relaxed), 0);
        assert_eq!(rig.move_page(page, PageKind::Data), Outcome::Committed);
    }
    assert_eq!(rig.area.stale_writes.load(Relaxed), 1);
}

#[test]
fn a_page_in_the_wrong_frame_is_seen() {
    let rig = Rig::new(Variant::None);
    let [one, other] = [(); 2].map(|()| rig.page(PageKind::Data));
    let [one, other] = [one, other].map(|page| rig.table.leaf(page).expect("a table"));
    let value = one.load(Relaxed);
    one.store(other.load(Relaxed), Relaxed);
    assert_eq!(rig.misplaced(), 1, "two pages share a frame");
    one.store(0, Relaxed);
    assert_eq!(rig.misplaced(), 1, "a page is unmapped");
    one.store(value, Relaxed);
    assert_eq!(rig.misplaced(), 0);
}

#[test]
fn picks_are_of_the_target_kinds_and_reach_all_pages() {
    let rig = Rig::new(Variant::None);
    let slabs: Vec<usize> = (0..30).map(|_| rig.page(PageKind::Slab)).collect();
    let text = rig.page(PageKind::Text);
    rig.page(PageKind::Rodata);
    let targets = PageKind::Slab.bit() | PageKind::Text.bit() | PageKind::PageTable.bit();
    let mut pick = Pick::new(targets, Random::new(1, 0));
    let picked: std::collections::BTreeSet<_> = (0..4_000)
        .filter_map(|_| pick.next(rig.pages, rig.frames))
        .collect();
    let mut expected: std::collections::BTreeSet<_> =
        slabs.iter().map(|page| (*page, PageKind::Slab)).collect();
    expected.insert((text, PageKind::Text));
    assert_eq!(picked, expected);
}
