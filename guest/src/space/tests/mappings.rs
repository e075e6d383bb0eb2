//! Mappings: what each change leaves.

use super::*;
use crate::mm::watermark::Mode;
use crate::space::{
    entry::{Entry, index},
    page::UserPage,
};
use Protection::{Read, Write};
use proptest::prelude::*;
use std::collections::BTreeMap;

/// First page, the one after the last, protection.
type Mapped = (usize, usize, Protection);
type Change = fn(&Rig, &Cpu, &'static Space) -> Result<(), ChangeError>;

fn map(rig: &Rig, cpu: &Cpu, space: &'static Space, at: usize, pages: usize, how: Protection) {
    rig.spaces
        .map(cpu, space, at * PAGE_SIZE, pages * PAGE_SIZE, how)
        .expect("room");
}

/// What is mapped after pages 10 to 20 were mapped for writing, and then changed.
#[test]
fn changes_split_and_merge() {
    let table: [(&str, Change, &[Mapped]); 9] = [
        (
            "unmap the middle",
            |r, c, s| r.spaces.unmap(c, s, 13 * PAGE_SIZE, 2 * PAGE_SIZE),
            &[(10, 13, Write), (15, 20, Write)],
        ),
        (
            "unmap the start",
            |r, c, s| r.spaces.unmap(c, s, 8 * PAGE_SIZE, 4 * PAGE_SIZE),
            &[(12, 20, Write)],
        ),
        (
            "unmap the end",
            |r, c, s| r.spaces.unmap(c, s, 18 * PAGE_SIZE, 9 * PAGE_SIZE),
            &[(10, 18, Write)],
        ),
        (
            "unmap all",
            |r, c, s| r.spaces.unmap(c, s, 0, 99 * PAGE_SIZE),
            &[],
        ),
        (
            "protect the middle",
            |r, c, s| r.spaces.protect(c, s, 13 * PAGE_SIZE, 2 * PAGE_SIZE, Read),
            &[(10, 13, Write), (13, 15, Read), (15, 20, Write)],
        ),
        (
            "protect and back",
            |r, c, s| {
                r.spaces
                    .protect(c, s, 13 * PAGE_SIZE, 2 * PAGE_SIZE, Read)?;
                r.spaces.protect(c, s, 13 * PAGE_SIZE, 2 * PAGE_SIZE, Write)
            },
            &[(10, 20, Write)],
        ),
        (
            "map beside",
            |r, c, s| r.spaces.map(c, s, 20 * PAGE_SIZE, PAGE_SIZE, Write),
            &[(10, 21, Write)],
        ),
        (
            "map beside, other protection",
            |r, c, s| r.spaces.map(c, s, 9 * PAGE_SIZE, PAGE_SIZE, Read),
            &[(9, 10, Read), (10, 20, Write)],
        ),
        (
            "move a part",
            |r, c, s| {
                r.spaces
                    .remap(c, s, 12 * PAGE_SIZE, 3 * PAGE_SIZE, 900 * PAGE_SIZE)
            },
            &[(10, 12, Write), (15, 20, Write), (900, 903, Write)],
        ),
    ];
    for (name, change, right) in table {
        let (rig, cpu) = Rig::new(Path::MmapLock);
        let space = rig.spaces.create(&cpu).expect("memory");
        map(&rig, &cpu, space, 10, 10, Write);
        for page in 10..20 {
            let done = rig.spaces.access(&cpu, space, page * PAGE_SIZE, true);
            assert_eq!(done, Ok(1), "{name}");
        }
        assert_eq!(change(&rig, &cpu, space), Ok(()), "{name}");
        assert_eq!(rig.ranges(space), right, "{name}");
        let left: usize = right.iter().map(|(start, end, _)| end - start).sum();
        let new = usize::from(name.starts_with("map"));
        assert_eq!(rig.spaces.audit(&cpu, space), left - new, "{name}");
        rig.destroy(&cpu, space);
        rig.assert_clean(&cpu);
    }
}

#[test]
fn changes_that_cannot_be_are_refused() {
    let table: [(Change, ChangeError); 6] = [
        (
            |r, c, s| r.spaces.map(c, s, 1, PAGE_SIZE, Read),
            ChangeError::BadRange {
                start: 1,
                len: PAGE_SIZE,
            },
        ),
        (
            |r, c, s| r.spaces.unmap(c, s, 0, 0),
            ChangeError::BadRange { start: 0, len: 0 },
        ),
        (
            |r, c, s| r.spaces.map(c, s, usize::MAX & !0xfff, PAGE_SIZE, Read),
            ChangeError::BadRange {
                start: usize::MAX & !0xfff,
                len: PAGE_SIZE,
            },
        ),
        (
            |r, c, s| r.spaces.map(c, s, 9 * PAGE_SIZE, 2 * PAGE_SIZE, Read),
            ChangeError::Mapped {
                start: 9 * PAGE_SIZE,
            },
        ),
        (
            |r, c, s| r.spaces.remap(c, s, 9 * PAGE_SIZE, 2 * PAGE_SIZE, 0),
            ChangeError::NotMapped {
                start: 9 * PAGE_SIZE,
            },
        ),
        (
            |r, c, s| {
                (0..9999).try_for_each(|n| {
                    r.spaces
                        .map(c, s, (100 + 2 * n) * PAGE_SIZE, PAGE_SIZE, Read)
                })
            },
            ChangeError::TooMany,
        ),
    ];
    for (change, right) in table {
        let (rig, cpu) = Rig::new(Path::MmapLock);
        let space = rig.spaces.create(&cpu).expect("memory");
        map(&rig, &cpu, space, 10, 10, Write);
        assert_eq!(change(&rig, &cpu, space), Err(right));
        assert!(!right.to_string().is_empty());
        rig.destroy(&cpu, space);
        rig.assert_clean(&cpu);
    }
}

#[test]
fn tables_that_a_neighbour_needs_stay() {
    const MIB: usize = 1 << 20;
    let (rig, cpu) = Rig::new(Path::MmapLock);
    let space = rig.spaces.create(&cpu).expect("memory");
    for address in [0, 300 * MIB] {
        let mapped = rig.spaces.map(&cpu, space, address, PAGE_SIZE, Write);
        assert_eq!(mapped, Ok(()));
        assert_eq!(rig.spaces.access(&cpu, space, address, true), Ok(1));
    }
    // Root; one upper; two middle and two leaf tables.
    assert_eq!(rig.spaces.tables().usage().tables, 6);
    assert_eq!(rig.spaces.unmap(&cpu, space, 300 * MIB, PAGE_SIZE), Ok(()));
    assert_eq!(rig.spaces.tables().usage().tables, 4);
    assert_eq!(rig.spaces.access(&cpu, space, 0, false), Ok(0));
    assert_eq!(rig.spaces.unmap(&cpu, space, 0, PAGE_SIZE), Ok(()));
    assert_eq!(rig.spaces.tables().usage().tables, 1);
    rig.destroy(&cpu, space);
    rig.assert_clean(&cpu);
}

#[derive(Clone, Debug)]
enum Step {
    Map(usize, usize, bool),
    Unmap(usize, usize),
    Protect(usize, usize, bool),
    Remap(usize, usize, usize),
    Access(usize, bool),
}

/// Pages apart by more than one table, so that all levels come and go.
fn address(page: usize) -> usize {
    (page % 8 + (page / 8) * 0x4_0000) * PAGE_SIZE
}

fn step() -> impl Strategy<Value = Step> {
    let (page, len) = (0..32usize, 1..6usize);
    prop_oneof![
        (page.clone(), len.clone(), any::<bool>()).prop_map(|(p, l, w)| Step::Map(p, l, w)),
        (page.clone(), len.clone()).prop_map(|(p, l)| Step::Unmap(p, l)),
        (page.clone(), len.clone(), any::<bool>()).prop_map(|(p, l, w)| Step::Protect(p, l, w)),
        (page.clone(), len, page.clone()).prop_map(|(p, l, t)| Step::Remap(p, l, t)),
        (page.clone(), any::<bool>()).prop_map(|(p, w)| Step::Access(p, w)),
        (page, any::<bool>()).prop_map(|(p, w)| Step::Access(p, w)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Against a map of pages: what may be accessed, and whether a page is there already.
    #[test]
    fn spaces_do_what_a_map_of_pages_does(
        path in prop::sample::select(PATHS.to_vec()),
        whole in any::<bool>(),
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let kind = if whole { TableKind::Whole } else { TableKind::Fragments };
        let rules = Rules { path, ..RULES };
        let (rig, cpu) = Rig::with(1, Variant::None, rules, kind, &NoReclaim, None);
        let space = rig.spaces.create(&cpu).expect("memory");
        // By address: whether it may be written, and whether a page is there.
        let mut model: BTreeMap<usize, (bool, bool)> = BTreeMap::new();
        let how = |write| if write { Write } else { Read };
        let pages = |page: usize, len: usize| {
            (0..len).map(move |n| address(page) + n * PAGE_SIZE)
        };
        for step in steps {
            match step {
                Step::Map(page, len, write) => {
                    let free = pages(page, len).all(|a| !model.contains_key(&a));
                    let done = rig.spaces.map(&cpu, space, address(page), len * PAGE_SIZE, how(write));
                    prop_assert_eq!(done.is_ok(), free);
                    if free {
                        model.extend(pages(page, len).map(|a| (a, (write, false))));
                    }
                }
                Step::Unmap(page, len) => {
                    rig.spaces.unmap(&cpu, space, address(page), len * PAGE_SIZE).expect("room");
                    pages(page, len).for_each(|a| { model.remove(&a); });
                }
                Step::Protect(page, len, write) => {
                    rig.spaces.protect(&cpu, space, address(page), len * PAGE_SIZE, how(write)).expect("room");
                    for a in pages(page, len) {
                        if let Some(state) = model.get_mut(&a) {
                            state.0 = write;
                        }
                    }
                }
                Step::Remap(page, len, to) => {
                    let done = rig.spaces.remap(&cpu, space, address(page), len * PAGE_SIZE, address(to));
                    if done.is_ok() {
                        let moved: Vec<_> = pages(page, len).map(|a| model.remove(&a)).collect();
                        for (a, state) in pages(to, len).zip(moved) {
                            prop_assert!(model.insert(a, state.expect("mapped")).is_none());
                        }
                    }
                }
                Step::Access(page, write) => {
                    let done = rig.spaces.access(&cpu, space, address(page), write);
                    match model.get_mut(&address(page)) {
                        Some((writable, there)) if *writable || !write => {
                            prop_assert_eq!(done, Ok(usize::from(!*there)));
                            *there = true;
                        }
                        _ => prop_assert_eq!(
                            done,
                            Err(AccessError::Fault(FaultError::Refused { address: address(page) }))
                        ),
                    }
                }
            }
            prop_assert_eq!(rig.spaces.audit(&cpu, space), model.values().filter(|state| state.1).count());
        }
        rig.destroy(&cpu, space);
        rig.assert_clean(&cpu);
    }
}

/// A fault that has the mapping's lock makes a table and maps a page just before the mapping moves.
#[test]
fn a_table_made_while_a_move_waits_is_moved_too() {
    const TO: usize = 1 << 40;
    let (rig, cpu) = Rig::new(Path::VmaLock);
    let space = rig.spaces.create(&cpu).expect("memory");
    let mapped = rig.spaces.map(&cpu, space, 0, PAGE_SIZE, Protection::Write);
    assert_eq!(mapped, Ok(()));
    let vma = rig.spaces.find(space, 0).expect("mapped");
    assert!(vma.lock.try_read());
    std::thread::scope(|scope| {
        let other = rig.fixture.cpu(0);
        let (rig, cpu) = (&rig, &cpu);
        let remap = scope.spawn(move || rig.spaces.remap(cpu, space, 0, PAGE_SIZE, TO));
        // Until it waits for the lock.
        while vma.lock.try_read() {
            vma.lock.read_end();
            std::thread::yield_now();
        }
        let leaf = rig.spaces.make_leaf(&other, space, 0, Mode::Kernel);
        let byte = PageByte::new(PageKind::Data, false);
        let page = rig.memory.allocate(&other, byte, Mode::Kernel);
        let (leaf, page) = (leaf.expect("memory"), page.expect("memory"));
        let identity = vma.identity(space.id(), 0);
        // SAFETY: just allocated.
        unsafe { UserPage::at(page) }.init(&other, identity);
        rig.spaces.note_mapping(space, page, 0);
        leaf.entries()[index(0, 0)].store(Entry::page(page, identity, true).0, Relaxed);
        vma.lock.read_end();
        assert_eq!(remap.join().expect("no panic"), Ok(()));
    });
    assert_eq!(rig.spaces.access(&cpu, space, TO, true), Ok(0));
    rig.destroy(&cpu, space);
    rig.assert_clean(&cpu);
}
