//! Huge pages move whole.

use std::sync::atomic::Ordering;

use crate::rig::{Rig, huge_bytes, rights};
use underfoot_migrator::{
    BackendKind, BuildError, Combination, Inject, InjectAction, PageSize, StrategyKind, WaitKind,
};

const BLOCKS: usize = 8;
const PAGES: usize = BLOCKS * 512;

/// Memory in huge pages, or `None` where the host gives none.
fn rig() -> Option<Rig> {
    if !rights() {
        return None;
    }
    let rig = Rig::huge(PAGES);
    let got = huge_bytes(rig.base);
    if got < rig.len() {
        eprintln!(
            "skipped: the host gave {got} of {} bytes in huge pages",
            rig.len()
        );
        return None;
    }
    Some(rig)
}

#[test]
#[cfg_attr(no_userfaultfd, ignore = "this host has no userfaultfd for us")]
fn huge_pages_move_whole_by_every_sound_way_and_stay_huge() {
    for way in Combination::all().filter(|way| {
        way.page_size == PageSize::Huge
            && way.wait == WaitKind::Block
            && way.backend != BackendKind::Kernel
            && way.strategy != StrategyKind::None
            && way.check().is_ok()
    }) {
        let Some(rig) = rig() else { return };
        let what = way.strategy.name();
        let migrator = rig
            .builder()
            .strategy(way.strategy)
            .backend(way.backend)
            .page_size(PageSize::Huge)
            .build()
            .expect("sound");
        let outcome = rig.run(&migrator, 1, PAGES, 20 * 512);
        outcome.mover.as_ref().expect("the mover ends when asked");
        outcome.assert_sound(what);
        let total = outcome.counters.total();
        assert!(total.committed >= 20 * 512, "{what}: {total:?}");
        assert_eq!(total.committed % 512, 0, "{what}: {total:?}");
        assert_eq!(outcome.counters.windows * 512, total.committed, "{what}");
        assert_eq!(rig.tally.unordered.load(Ordering::Relaxed), 0, "{what}");
        drop(migrator);
        assert_eq!(huge_bytes(rig.base), rig.len(), "{what}: none was split");
    }
}

#[test]
#[cfg_attr(no_userfaultfd, ignore = "this host has no userfaultfd for us")]
fn an_abort_puts_a_huge_page_back_whole() {
    for strategy in [StrategyKind::UnmapCopy, StrategyKind::ProtectCopy] {
        for &phase in strategy.phases().split_last().expect("phases").1 {
            let Some(rig) = rig() else { return };
            let migrator = rig
                .builder()
                .strategy(strategy)
                .page_size(PageSize::Huge)
                .inject(Inject {
                    phase,
                    nth: 1,
                    on: true,
                    action: InjectAction::Abort,
                })
                .build()
                .expect("sound");
            let outcome = rig.run(&migrator, 1, PAGES, 4 * 512);
            outcome.assert_sound(phase.name());
            assert_eq!(outcome.counters.total().committed, 0, "{phase}");
            drop(migrator);
            assert_eq!(huge_bytes(rig.base), rig.len(), "{phase}: none was split");
        }
    }
}

#[test]
#[cfg_attr(no_userfaultfd, ignore = "this host has no userfaultfd for us")]
fn memory_in_small_pages_stays_where_it_is() {
    if !rights() {
        return;
    }
    let rig = Rig::new(PAGES, PAGES);
    let built = rig.builder().page_size(PageSize::Huge).build();
    let migrator = match built {
        Ok(migrator) => migrator,
        // Small pages need not lie at a multiple of 2 MiB.
        Err(BuildError::Region(error)) => return assert!(error.to_string().contains("2MiB")),
        Err(other) => panic!("{other}"),
    };
    let outcome = rig.run(&migrator, 1, PAGES, 0);
    outcome.assert_sound("small pages");
    assert_eq!(outcome.counters.total().attempted, 0);
}
