//! Slots of spaces, mappings and nodes: what is gone keeps its own until its grace period is over.

use super::*;
use crate::mm::watermark::Refused;

/// What [`Rig`] is built for.
const MOST: usize = 32;

#[test]
fn there_is_room_for_all_spaces_wherever_they_are_made() {
    const CPUS: usize = 8;
    let kind = TableKind::Fragments;
    let (rig, cpu) = Rig::with(CPUS as u32, Variant::None, RULES, kind, &NoReclaim, None);
    let made: Vec<_> = (0..MOST)
        .map(|number| rig.spaces.try_create(&rig.fixture.cpu(number % CPUS)))
        .collect();
    for (number, space) in made.into_iter().enumerate() {
        rig.destroy(&cpu, space.unwrap_or_else(|why| panic!("{number}: {why}")));
    }
    rig.assert_clean(&cpu);
}

/// Nothing but the waits runs callbacks here.
#[test]
fn who_finds_no_slot_waits_for_those_that_are_gone() {
    let (rig, cpu) = Rig::new(Path::MmapLock);
    let space = rig.spaces.create(&cpu).expect("memory");
    for turn in 0..20_000 {
        let mapped = rig
            .spaces
            .map(&cpu, space, 0, PAGE_SIZE, Protection::Write)
            .and_then(|()| rig.spaces.unmap(&cpu, space, 0, PAGE_SIZE));
        assert_eq!(mapped, Ok(()), "turn {turn}");
    }
    rig.destroy(&cpu, space);
    for turn in 0..2_000 {
        let space = rig.spaces.create(&cpu);
        let space = space.unwrap_or_else(|why| panic!("space {turn}: {why}"));
        // SAFETY: nobody else knows it.
        unsafe { rig.spaces.destroy(&cpu, space) };
    }
    rig.settle(&cpu);
    rig.assert_clean(&cpu);
}

#[test]
fn too_many_spaces_are_not_a_lack_of_memory() {
    let (rig, cpu) = Rig::new(Path::MmapLock);
    let mut spaces = Vec::new();
    let refused = loop {
        match rig.spaces.create(&cpu) {
            Ok(space) => spaces.push(space),
            Err(refused) => break refused,
        }
    };
    assert_eq!(refused, Refused::Full);
    assert!(spaces.len() >= MOST, "{}", spaces.len());
    for space in spaces {
        rig.destroy(&cpu, space);
    }
    rig.assert_clean(&cpu);
}

#[test]
fn a_lack_of_memory_is_told_from_a_lack_of_slots() {
    let (rig, cpu) = Rig::new(Path::MmapLock);
    let space = rig.spaces.create(&cpu).expect("memory");
    let (pages, data) = (rig.memory.pages, PageByte::new(PageKind::Data, false));
    let taken: Vec<_> = core::iter::from_fn(|| pages.allocate(&cpu, 0, data)).collect();
    // No slab has a mapping yet.
    let mapped = rig.spaces.map(&cpu, space, 0, PAGE_SIZE, Protection::Write);
    assert_eq!(mapped, Err(ChangeError::OutOfMemory));
    for page in taken {
        // SAFETY: the test took it for nobody.
        unsafe { pages.free(&cpu, page, 0) };
    }
    rig.destroy(&cpu, space);
    rig.assert_clean(&cpu);
}
