//! The DMA device against pages that move under a second mapping of their frames, where a stale
//! translation does harm.

mod rig;

use rig::{Rig, UPDATE_WORDS};
use underfoot_abi::{DMA_MAX_BYTES, DmaStatus, PAGE_SIZE};
use underfoot_migrator::{Tracking, Variant};

/// Updates in a run of the right form, of [`UPDATE_WORDS`] words each.
const UPDATES: u64 = 100_000;

#[test]
fn no_update_is_lost_while_pages_move_with_any_tracking() {
    for tracking in Tracking::ALL {
        let rig = Rig::new(tracking, Variant::None);
        let outcome = rig.run(UPDATES, Some(1_000));
        assert_eq!(outcome.lost, 0, "{tracking}");
        assert!(outcome.updates >= UPDATES && outcome.moves > 1_000);
        assert_eq!(outcome.laggards, [], "{tracking}");
        assert_eq!(outcome.unbalanced, [], "{tracking}");
        assert!(outcome.counts.renewed > 10, "{:?}", outcome.counts);
        assert!(outcome.counts.hits > 0 && outcome.counts.misses > 0);
        let words = outcome.updates * UPDATE_WORDS as u64;
        let (moves, counts) = (outcome.moves, outcome.counts);
        println!("{tracking}: {words} words, {moves} moves, {counts:?}");
    }
}

#[test]
fn each_busted_form_loses_an_update_and_is_caught() {
    for tracking in [Tracking::Pool, Tracking::Stack] {
        for variant in [
            Variant::InvalidateUnmatched,
            Variant::InvalidateClamp,
            Variant::InvalidateNoSequence,
        ] {
            let rig = Rig::new(tracking, variant);
            let outcome = rig.run(100 * UPDATES, Some(8));
            let (updates, moves) = (outcome.updates, outcome.moves);
            assert!(
                outcome.lost > 0,
                "{variant}, {tracking}: {updates}, {moves}"
            );
            println!("{variant}, {tracking}: lost after {updates} updates, {moves} moves");
        }
    }
}

#[test]
fn what_the_guest_alleges_is_checked() {
    let rig = Rig::new(Tracking::Pool, Variant::None);
    let (page, end) = (PAGE_SIZE as u64, rig.bytes());
    let table = [
        (0, page, 8, DmaStatus::Done),
        (page - 16, 3 * page - 8, DMA_MAX_BYTES, DmaStatus::Done),
        (0, end - 8, 8, DmaStatus::Done),
        (4, page, 8, DmaStatus::Unaligned),
        (0, page + 1, 8, DmaStatus::Unaligned),
        (0, page, 12, DmaStatus::Unaligned),
        (0, page, 0, DmaStatus::Length),
        (0, page, DMA_MAX_BYTES + 8, DmaStatus::Length),
        (0, page, !7, DmaStatus::Length),
        (0, end - 8, 16, DmaStatus::Address),
        (end, 0, 8, DmaStatus::Address),
        (!7, 0, 8, DmaStatus::Address),
        (0, u64::MAX - 15, 16, DmaStatus::Address),
    ];
    let statuses = rig.submit(&table.map(|(source, target, bytes, _)| [source, target, bytes]));
    for ((source, target, bytes, right), found) in table.into_iter().zip(statuses) {
        assert_eq!(found, right, "{source:#x} {target:#x} {bytes:#x}");
    }
}

#[test]
fn a_bad_queue_or_count_is_survived() {
    let rig = Rig::new(Tracking::Pool, Variant::None);
    for gpa in [1, rig.bytes(), u64::MAX, !4095] {
        rig.with_queue_at(gpa, || rig.ring(1));
    }
    // More than a ring holds is a ring.
    rig.ring(u64::MAX / 2);
    let statuses = rig.submit(&[[0, PAGE_SIZE as u64, 64]]);
    assert_eq!(statuses, [DmaStatus::Done]);
}
