use super::*;
use crate::fixture::{self, Fixture};
use proptest::prelude::*;
use std::collections::HashMap;

const DATA: PageByte = PageByte::new(PageKind::Data, false);
const FREE: PageByte = PageByte::new(PageKind::Free, false);

#[derive(Clone, Debug)]
enum Step {
    Allocate(usize),
    Free(prop::sample::Index),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (0..=MAX_ORDER).prop_map(Step::Allocate),
        (0..3usize).prop_map(Step::Allocate),
        any::<prop::sample::Index>().prop_map(Step::Free),
    ];
    prop::collection::vec(step, 1..200)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Blocks are aligned and apart, the page map tells the truth, nothing is lost, and all memory
    /// comes together again.
    #[test]
    fn blocks_are_apart_and_come_back(steps in steps(), pages in 700usize..1024) {
        let fixture = Fixture::new(1);
        let cpu = fixture.cpu(0);
        let allocator = fixture::allocator(&cpu, pages);
        let mut owned: HashMap<usize, usize> = HashMap::new(); // page to block
        let mut blocks: Vec<(usize, usize)> = Vec::new();
        for step in steps {
            match step {
                Step::Allocate(order) => {
                    let Some(block) = allocator.allocate(&cpu, order, DATA) else { continue };
                    prop_assert!(block.is_multiple_of(PAGE_SIZE << order));
                    for page in (block..).step_by(PAGE_SIZE).take(1 << order) {
                        prop_assert_eq!(owned.insert(page, block), None);
                    }
                    blocks.push((block, order));
                }
                Step::Free(index) if !blocks.is_empty() => {
                    let (block, order) = blocks.swap_remove(index.index(blocks.len()));
                    owned.retain(|_, of| *of != block);
                    // SAFETY: the test forgets the block.
                    unsafe { allocator.free(&cpu, block, order) };
                }
                Step::Free(_) => {}
            }
            prop_assert_eq!(allocator.free_pages(&cpu), pages - owned.len());
        }
        let covered = allocator.covers().start;
        for page in (covered..).step_by(PAGE_SIZE).take(pages) {
            let right = if owned.contains_key(&page) { DATA } else { FREE };
            prop_assert_eq!(allocator.kind(page), right);
        }
        for (block, order) in blocks {
            // SAFETY: the test forgets the block.
            unsafe { allocator.free(&cpu, block, order) };
        }
        allocator.audit(&cpu);
        prop_assert!(allocator.allocate(&cpu, MAX_ORDER, DATA).is_some());
        prop_assert_eq!(fixture.errors(), 0);
    }
}

#[test]
fn a_write_after_free_is_seen_with_its_address() {
    let fixture = Fixture::new(1);
    let cpu = fixture.cpu(0);
    let allocator = fixture::allocator(&cpu, 512);
    let page = allocator.allocate(&cpu, 0, DATA).expect("memory");
    // SAFETY: the use after free that follows is what is tested; the memory stays.
    unsafe { allocator.free(&cpu, page, 0) };
    fixture::word(page + 2048).store(7, Relaxed);
    allocator.audit(&cpu);
    assert_eq!(fixture.errors(), 1);
    assert_eq!(allocator.allocate(&cpu, 0, DATA), Some(page));
    assert_eq!(fixture.errors(), 2);
    let first = cpu.area.first_error.each_ref().map(|w| w.load(Relaxed));
    assert_eq!(first, [(page + 2048) as u64, 7]);
}

#[test]
fn freeing_twice_or_in_another_size_is_an_error_and_changes_nothing() {
    let fixture = Fixture::new(1);
    let cpu = fixture.cpu(0);
    let allocator = fixture::allocator(&cpu, 512);
    let block = allocator.allocate(&cpu, 2, DATA).expect("memory");
    for (address, order) in [(block, 1), (block + PAGE_SIZE, 0), (block + 8, 2), (8, 0)] {
        // SAFETY: refused, which is what is tested.
        unsafe { allocator.free(&cpu, address, order) };
    }
    assert_eq!((fixture.errors(), allocator.free_pages(&cpu)), (4, 508));
    for _ in 0..2 {
        // SAFETY: the first time nobody uses the block; the second is refused.
        unsafe { allocator.free(&cpu, block, 2) };
    }
    assert_eq!((fixture.errors(), allocator.free_pages(&cpu)), (5, 512));
}

#[test]
fn memory_runs_out_without_harm() {
    let fixture = Fixture::new(1);
    let cpu = fixture.cpu(0);
    let allocator = fixture::allocator(&cpu, 5);
    assert_eq!(allocator.allocate(&cpu, 3, DATA), None);
    for _ in 0..5 {
        assert!(allocator.allocate(&cpu, 0, DATA).is_some());
    }
    assert_eq!(allocator.allocate(&cpu, 0, DATA), None);
    assert!(allocator.zeroed_slice::<AtomicU64>(&cpu, 1, DATA).is_none());
}

#[test]
fn slices_are_zeroed_whatever_was_there() {
    let fixture = Fixture::new(1);
    let cpu = fixture.cpu(0);
    let allocator = fixture::allocator(&cpu, 1);
    let page = allocator.allocate(&cpu, 0, DATA).expect("memory");
    // SAFETY: nobody uses it.
    unsafe { allocator.free(&cpu, page, 0) };
    let slice = allocator
        .zeroed_slice::<AtomicU64>(&cpu, 512, DATA)
        .expect("memory");
    assert!(slice.iter().all(|word| word.load(Relaxed) == 0));
}

#[test]
fn cpus_share_the_allocator() {
    let fixture = Fixture::new(3);
    let allocator = fixture::allocator(&fixture.cpu(0), 512);
    std::thread::scope(|scope| {
        for id in 0..3 {
            let cpu = fixture.cpu(id);
            scope.spawn(move || {
                for round in 0..300 {
                    let order = (round + id) % 4;
                    let block = allocator.allocate(&cpu, order, DATA).expect("memory");
                    fixture::word(block).store(id as u64, Relaxed);
                    std::thread::yield_now();
                    assert_eq!(fixture::word(block).load(Relaxed), id as u64);
                    // SAFETY: this CPU's own, and forgotten.
                    unsafe { allocator.free(&cpu, block, order) };
                }
            });
        }
    });
    assert_eq!(allocator.free_pages(&fixture.cpu(0)), 512);
    allocator.audit(&fixture.cpu(0));
    assert_eq!(fixture.errors(), 0);
}

/// The record of the entry that maps a page; a page that is mapped cannot be freed.
#[test]
fn mapped_pages_know_their_entry_and_stay() {
    let fixture = Fixture::new(1);
    let cpu = fixture.cpu(0);
    let pages = fixture::allocator(&cpu, 64);
    let page = pages.allocate(&cpu, 0, DATA).expect("memory");
    let mapping = Mapping {
        space: 7,
        number: u32::MAX,
    };
    assert_eq!(pages.mapping(page), None);
    pages.set_mapping(page, mapping);
    assert_eq!(pages.mapping(page), Some(mapping));
    assert_eq!(pages.mapping(pages.covers().end), None);
    // SAFETY: nobody uses it; that it is mapped is what is tested.
    unsafe { pages.free(&cpu, page, 0) };
    assert_eq!(fixture.errors(), 1);
    assert_eq!(pages.mapping(page), Some(mapping));
    pages.clear_mapping(page);
    // SAFETY: nobody uses it.
    unsafe { pages.free(&cpu, page, 0) };
    assert_eq!((fixture.errors(), pages.mapping(page)), (1, None));
    assert_eq!(pages.free_pages(&cpu), 64);
}
