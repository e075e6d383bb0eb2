//! The kernel moves by itself.

use crate::rig::{Rig, huge_bytes, rights};
use underfoot_migrator::{
    BackendKind, BuildError, Inject, InjectAction, PageSize, Phase, StrategyKind, Variant, Verify,
    can_verify, numa_nodes,
};

const BLOCKS: usize = 8;
const PAGES: usize = BLOCKS * 512;

/// Small pages become huge ones under threads that write them, and what is huge is left alone.
#[test]
#[cfg_attr(no_userfaultfd, ignore = "this host has no userfaultfd for us")]
fn small_pages_become_huge_ones_and_nothing_is_lost() {
    if !rights() {
        return;
    }
    for strategy in [StrategyKind::UnmapCopy, StrategyKind::StopWorld] {
        let rig = Rig::new(PAGES, PAGES);
        assert_eq!(huge_bytes(rig.base), 0, "small pages to begin with");
        let migrator = rig
            .builder()
            .strategy(strategy)
            .backend(BackendKind::Kernel)
            .page_size(PageSize::Huge)
            .verify(Verify::Full)
            .build()
            .expect("transparent huge pages");
        let outcome = rig.run(&migrator, 1, PAGES, PAGES as u64);
        outcome.mover.as_ref().expect("the mover ends when asked");
        outcome.assert_sound(strategy.name());
        let total = outcome.counters.total();
        assert_eq!(total.committed, PAGES as u64, "{strategy}: {total:?}");
        assert_eq!(outcome.counters.windows, BLOCKS as u64);
        if can_verify().is_ok() {
            assert_eq!(total.verified, total.committed, "{strategy}");
        }
        assert_eq!(huge_bytes(rig.base), rig.len(), "{strategy}");
    }
}

/// Until the kernel is called nothing has gone, so that an abort has nothing to put back.
#[test]
#[cfg_attr(no_userfaultfd, ignore = "this host has no userfaultfd for us")]
fn an_abort_leaves_the_pages_where_they_are() {
    if !rights() {
        return;
    }
    for phase in [Phase::Claimed, Phase::Unmapped, Phase::Copied] {
        let rig = Rig::new(PAGES, PAGES);
        let migrator = rig
            .builder()
            .backend(BackendKind::Kernel)
            .page_size(PageSize::Huge)
            .inject(Inject {
                phase,
                nth: 2,
                on: false,
                action: InjectAction::Abort,
            })
            .build()
            .expect("transparent huge pages");
        let outcome = rig.run(&migrator, 1, PAGES, PAGES as u64);
        outcome.assert_sound(&format!("{phase:?}"));
        let total = outcome.counters.total();
        assert_eq!(total.aborted, 512, "{phase:?}: {total:?}");
        // The block may have been tried again by then, or not.
        assert!(
            total.committed >= (PAGES - 512) as u64,
            "{phase:?}: {total:?}"
        );
    }
}

/// A migration that is taken for one and was none is seen by the frame numbers.
#[test]
#[cfg_attr(no_userfaultfd, ignore = "this host has no userfaultfd for us")]
fn pages_that_stayed_are_seen() {
    if !rights() || can_verify().is_err() {
        return;
    }
    let rig = Rig::new(PAGES, PAGES);
    let migrator = rig
        .builder()
        .backend(BackendKind::Kernel)
        .page_size(PageSize::Huge)
        .variant(Variant::SameFrame)
        .verify(Verify::Full)
        .build()
        .expect("transparent huge pages");
    let outcome = rig.run(&migrator, 1, PAGES, PAGES as u64);
    assert_eq!((outcome.lost, outcome.torn), (0, 0));
    let counters = &outcome.counters;
    assert!(counters.same_frames > 0);
    assert_eq!(counters.total().verified, 0);
}

/// Between nodes where there are two; else that is said.
#[test]
#[cfg_attr(no_userfaultfd, ignore = "this host has no userfaultfd for us")]
fn small_pages_go_to_another_node() {
    if !rights() {
        return;
    }
    let rig = Rig::new(PAGES, PAGES);
    let migrator = rig
        .builder()
        .backend(BackendKind::Kernel)
        .batch(32)
        .verify(Verify::Full)
        .build();
    if numa_nodes() < 2 {
        let error = migrator.err().expect("there is one node");
        assert!(matches!(error, BuildError::OneNode), "{error}");
        return;
    }
    let outcome = rig.run(&migrator.expect("two nodes"), 1, PAGES, 5000);
    outcome.mover.as_ref().expect("the mover ends when asked");
    outcome.assert_sound("move_pages");
    let total = outcome.counters.total();
    assert!(total.committed >= 4500, "{total:?}");
    if can_verify().is_ok() {
        assert!(total.verified * 100 >= total.committed * 99, "{total:?}");
    }
}
