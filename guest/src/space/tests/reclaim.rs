//! Pages that are taken away.

use super::*;
use crate::mm::watermark::BATCH;

/// Accesses `pages` pages from `start` on, to write; faults that took.
fn write(rig: &Rig, cpu: &Cpu, space: &'static Space, start: usize, pages: usize) -> usize {
    let addresses = (start..start + pages * PAGE_SIZE).step_by(PAGE_SIZE);
    addresses
        .map(|address| {
            rig.spaces
                .access(cpu, space, address, true)
                .expect("a page")
        })
        .sum()
}

#[test]
fn pages_go_and_come_back_anew() {
    for path in PATHS {
        let (rig, cpu) = Rig::new(path);
        let spaces = [(); 2].map(|()| rig.spaces.create(&cpu).expect("memory"));
        for space in spaces {
            let len = 40 * PAGE_SIZE;
            let mapped = rig.spaces.map(&cpu, space, 0, len, Protection::Write);
            assert_eq!(mapped, Ok(()));
            assert_eq!(write(&rig, &cpu, space, 0, 40), 40);
        }
        assert!(rig.spaces.evict(&cpu, 8) >= 8);
        while rig.spaces.evict(&cpu, BATCH) > 0 {}
        assert_eq!(
            rig.spaces.evicted(),
            80,
            "{path:?}: of both spaces, once each"
        );
        rig.settle(&cpu);
        for space in spaces {
            assert_eq!(rig.spaces.audit(&cpu, space), 0);
            assert_eq!(write(&rig, &cpu, space, 0, 40), 40, "{path:?}");
        }
        for space in spaces {
            rig.destroy(&cpu, space);
        }
        rig.assert_clean(&cpu);
    }
}

/// The reverse map follows pages that move with their mapping, and forgets those that are gone.
#[test]
fn moved_pages_are_found_and_unmapped_ones_are_not() {
    let (rig, cpu) = Rig::new(Path::VmaLock);
    let space = rig.spaces.create(&cpu).expect("memory");
    let len = 8 * PAGE_SIZE;
    let mapped = rig.spaces.map(&cpu, space, 0, len, Protection::Write);
    assert_eq!(mapped, Ok(()));
    write(&rig, &cpu, space, 0, 8);
    assert_eq!(rig.spaces.remap(&cpu, space, 0, len, 1 << 40), Ok(()));
    let half = len / 2;
    assert_eq!(rig.spaces.unmap(&cpu, space, 1 << 40, half), Ok(()));
    assert_eq!(rig.spaces.evict(&cpu, 100), 4);
    assert_eq!(rig.spaces.evict(&cpu, 100), 0);
    assert_eq!(write(&rig, &cpu, space, (1 << 40) + half, 4), 4);
    rig.destroy(&cpu, space);
    rig.assert_clean(&cpu);
}

/// More than there is memory for, on each path: somebody else's page makes room.
#[test]
fn reclaim_makes_room_for_more_than_there_is() {
    for path in PATHS {
        for (fallback, way) in [
            (Fallback::Reclaim, None),
            (Fallback::Reclaim, Some(Way::Ipi)),
            (Fallback::Classic, None),
            (Fallback::Classic, Some(Way::Ipi)),
        ] {
            let rules = Rules {
                path,
                fallback,
                ..RULES
            };
            let (rig, cpu) = Rig::reclaiming(rules, way);
            let space = rig.spaces.create(&cpu).expect("memory");
            let pages = 3 * 2048;
            let len = pages * PAGE_SIZE;
            let mapped = rig.spaces.map(&cpu, space, 0, len, Protection::Write);
            assert_eq!(mapped, Ok(()));
            assert_eq!(write(&rig, &cpu, space, 0, pages), pages, "{path:?}");
            assert!(rig.spaces.evicted() > 2048);
            assert!(rig.memory.pages.free_estimate() >= rig.memory.levels().min);
            rig.destroy(&cpu, space);
            rig.assert_clean(&cpu);
        }
    }
}
