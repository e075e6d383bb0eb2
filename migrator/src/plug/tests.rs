//! Blocks without a kernel: where they begin and end, and who keeps whom out.

use std::time::Duration;

use vm_memory::{GuestAddress, GuestMemoryMmap};

use super::block::Reader;
use super::change::{Refusal, Stays};
use super::{BLOCK_PAGES, Blocks, FaultCells, FaultLock};
use crate::page_word::{Lane, Leave, PageWord};
use crate::regions::Regions;
use crate::{Served, Variant, page_word};

const SIZE: u64 = BLOCK_PAGES as u64;

fn regions(ranges: &[(u64, u64)]) -> Regions {
    let bytes = |&(gfn, pages): &(u64, u64)| (GuestAddress(gfn << 12), (pages as usize) << 12);
    let ranges: Vec<_> = ranges.iter().map(bytes).collect();
    let memory = GuestMemoryMmap::<()>::from_ranges(&ranges).expect("memory");
    Regions::new(&memory, false).expect("regions")
}

fn blocks(pages: u64, lock: FaultLock, variant: Variant) -> (Blocks, Vec<PageWord>) {
    let words = (0..pages).map(|_| PageWord::new(Lane::Blocking)).collect();
    (Blocks::new(&regions(&[(0, pages)]), lock, variant), words)
}

fn unregister() -> Result<(), Refusal<()>> {
    Ok(())
}

#[test]
fn blocks_begin_at_multiples_of_their_size_or_where_memory_does() {
    // Regions of guest memory, and the pages of each block.
    for (ranges, expected) in [
        (&[(0, 2 * SIZE)][..], &[(0, 512), (512, 1024)][..]),
        (&[(0, 1)], &[(0, 1)]),
        (&[(SIZE - 2, SIZE)], &[(0, 2), (2, 512)]),
        (&[(SIZE + 7, 3)], &[(0, 3)]),
        (
            &[(0, 700), (4 * SIZE + 500, 600)],
            &[(0, 512), (512, 700), (700, 712), (712, 1224), (1224, 1300)],
        ),
    ] {
        for shards in [1, 2] {
            let regions = regions(ranges).split(shards);
            let blocks = Blocks::new(&regions, FaultLock::Region, Variant::None);
            if shards == 1 {
                assert_eq!(blocks.blocks.len(), expected.len());
            }
            for (number, &(start, end)) in expected.iter().enumerate() {
                for page in start..end {
                    let found = blocks.pages(page);
                    assert!(found.contains(&page), "{found:?} of {page}");
                    if shards == 1 {
                        assert_eq!((blocks.number(page), found), (number, start..end));
                    }
                }
            }
        }
    }
}

#[test]
fn windows_are_waited_for_while_faults_go_on() {
    let (blocks, words) = blocks(2 * SIZE, FaultLock::Region, Variant::None);
    let counts = FaultCells::default();
    let window = blocks.enter_window(600).expect("plugged");
    let unplugged = || blocks.unplug(0..2, &words, Duration::ZERO, unregister);
    assert_eq!(unplugged(), Err(Stays::Busy));
    assert!(blocks.enter_fault(600, &counts).is_some());
    assert!(blocks.enter_window(600).is_some(), "opened again");
    drop(window);
    assert_eq!(unplugged(), Ok(()));
    assert_eq!(unplugged(), Err(Stays::NotPlugged(0)));
    assert!(
        blocks.enter_window(0).is_none()
            && blocks.enter_window(0).is_none()
            && !blocks.is_plugged(0)
    );
    assert!(blocks.enter_fault(0, &counts).is_none());
    let plug = |range| blocks.plug(range, &words[..512], || Ok::<_, ()>(()));
    assert_eq!(plug(0..1), Ok(Ok(())));
    assert_eq!(plug(0..2), Err(0));
    assert!(blocks.enter_window(0).is_some() && !blocks.is_plugged(512));
    let counters = blocks.counters();
    assert_eq!((counters.plugged, counters.unplugged), (1, 2));
    assert_eq!((counters.busy, counters.in_use), (1, 0));
}

#[test]
fn what_faults_meet_is_counted() {
    for (lock, away, back) in [
        // fast, fell back, retried, left, gone
        (FaultLock::Region, [0, 1, 0, 0, 1], [1, 0, 0, 0, 0]),
        (FaultLock::Table, [0, 0, 0, 0, 1], [1, 0, 0, 0, 0]),
        (FaultLock::Sequence, [0, 0, 0, 0, 1], [1, 0, 0, 0, 0]),
    ] {
        let (blocks, words) = blocks(SIZE, lock, Variant::None);
        let found = || {
            let counts = blocks.new_handler();
            let entered = blocks.enter_fault(3, &counts).is_some();
            let counts = [
                &counts.fast,
                &counts.fell_back,
                &counts.retried,
                &counts.left,
                &counts.gone,
            ];
            (entered, counts.map(|cell| cell.get()))
        };
        assert_eq!(found(), (true, back), "{lock}");
        assert_eq!(
            blocks.unplug(0..1, &words, Duration::ZERO, unregister),
            Ok(())
        );
        assert_eq!(found(), (false, away), "{lock}");
        assert_eq!(blocks.plug(0..1, &words, || Ok::<_, ()>(())), Ok(Ok(())));
        assert_eq!(found(), (true, back), "{lock}");
        assert_eq!(blocks.counters().faults.fast, 2);
    }
}

#[test]
fn a_sequence_that_has_changed_is_seen_with_the_page_claimed() {
    let (blocks, words) = blocks(SIZE, FaultLock::Sequence, Variant::None);
    let hold = blocks
        .enter_fault(3, &FaultCells::default())
        .expect("plugged");
    assert!(hold.is_current());
    let left = |blocks: &Blocks| blocks.enter_fault(3, &FaultCells::default()).is_none();
    let seen = blocks.unplug(0..1, &words, Duration::ZERO, || {
        assert!(left(&blocks), "it is odd");
        unregister()
    });
    assert_eq!(seen, Ok(()));
    assert_eq!(blocks.plug(0..1, &words, || Ok::<_, ()>(())), Ok(Ok(())));
    let served = page_word::serve(
        &words[3],
        |_| match hold.is_current() {
            true => Ok(Served::Hole),
            false => Err("overtaken"),
        },
        || Ok(()),
    );
    assert_eq!(served, Err("overtaken"));
    assert!(words[3].is_movable(u64::MAX, 0), "let go of");
}

#[test]
fn what_the_kernel_refuses_stays_as_it_was() {
    let (blocks, words) = blocks(2 * SIZE, FaultLock::Region, Variant::None);
    let refused = |whole| {
        let error = "no memory";
        blocks.unplug(0..2, &words, Duration::ZERO, || {
            Err(Refusal { error, whole })
        })
    };
    assert_eq!(refused(true), Err(Stays::Failed("no memory")));
    assert!(blocks.enter_window(0).is_some() && blocks.enter_window(512).is_some());
    // Half of it is not registered: windows would lose pages.
    assert_eq!(refused(false), Err(Stays::Failed("no memory")));
    assert!(
        blocks.is_plugged(0)
            && blocks.enter_window(0).is_none()
            && blocks.enter_window(512).is_none()
    );
    assert!(
        blocks.enter_fault(0, &FaultCells::default()).is_some(),
        "faults go on"
    );
    assert_eq!(refused(true), Err(Stays::Failed("no memory")));
    assert!(blocks.enter_window(0).is_none(), "still half");
    assert_eq!(
        blocks.unplug(0..2, &words, Duration::ZERO, unregister),
        Ok(())
    );
    assert_eq!(
        blocks.plug(0..2, &words, || Err("no memory")),
        Ok(Err("no memory"))
    );
    assert!(!blocks.is_plugged(0));
    assert_eq!(blocks.plug(0..2, &words, || Ok::<_, ()>(())), Ok(Ok(())));
    assert!(blocks.enter_window(0).is_some());
}

#[test]
fn a_lost_page_stays_plugged() {
    let (blocks, words) = blocks(SIZE, FaultLock::Region, Variant::None);
    assert!(words[9].try_claim(0, 0) && !words[9].leave(Leave::Lost));
    let unplugged = blocks.unplug(0..1, &words, Duration::ZERO, unregister);
    assert_eq!(unplugged, Err(Stays::Lost(9)));
    assert!(blocks.enter_window(0).is_some());
}

#[test]
fn who_enters_without_a_lock_is_found_by_its_page() {
    for (variant, reader) in [
        (Variant::FaultUnlocked, Reader::Fault),
        (Variant::WindowUnlocked, Reader::Window),
    ] {
        for lock in FaultLock::ALL {
            // It would be waited for, until its page is let go: that is not what the variant is about.
            if (lock, reader) == (FaultLock::Sequence, Reader::Fault) {
                continue;
            }
            let (blocks, words) = blocks(SIZE, lock, variant);
            let counts = FaultCells::default();
            match reader {
                Reader::Fault => {
                    let _hold = blocks.enter_fault(3, &counts).expect("always");
                    assert_eq!(words[3].begin_populate(), page_word::Populate::Claimed);
                }
                Reader::Window => {
                    let _hold = blocks.enter_window(3).expect("always");
                    assert!(words[3].try_claim(0, 0));
                }
            }
            let unplugged = blocks.unplug(0..1, &words, Duration::ZERO, unregister);
            assert_eq!(unplugged, Err(Stays::InUse(1)));
            assert!(blocks.enter_window(0).is_some(), "kept");
            assert_eq!(blocks.counters().in_use, 1, "{variant} {lock}");
        }
    }
}
