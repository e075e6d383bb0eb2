//! Aborts and pauses at random, in every phase at once.

use std::num::NonZeroU32;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::rig::{RECYCLING, Rig, rights};
use underfoot_migrator::{Combination, PageSize, StrategyKind, Torment, WaitKind};

const PAGES: usize = 256;

#[test]
#[cfg_attr(no_userfaultfd, ignore = "this host has no userfaultfd for us")]
fn random_aborts_and_pauses_lose_nothing() {
    if !rights() {
        return;
    }
    let torment = Torment {
        abort_one_in: NonZeroU32::new(8),
        pause_one_in: NonZeroU32::new(16),
        longest_pause: Duration::from_millis(1),
    };
    let ways = Combination::all().filter(|way| {
        way.wait == WaitKind::Block
            && way.page_size == PageSize::Small
            && RECYCLING.contains(&way.backend)
            && way.strategy != StrategyKind::None
            && way.check().is_ok()
    });
    for way in ways {
        for batch in [1, 40] {
            let what = format!("{} {} {batch}", way.strategy, way.backend);
            // Some pages are holes, where there may be any.
            let rig = match way.backend.needs_file() {
                true => Rig::fit(way.backend, PAGES),
                false => Rig::new(PAGES + 32, PAGES),
            };
            let migrator = rig
                .builder()
                .strategy(way.strategy)
                .backend(way.backend)
                .batch(batch)
                .torment(torment)
                .build()
                .expect("sound");
            let stops = way.strategy == StrategyKind::StopWorld;
            let movers = if stops { 1 } else { 2 };
            let outcome = rig.run(&migrator, movers, PAGES, 2000);
            outcome.mover.as_ref().expect("no fault is an error");
            outcome.assert_sound(&what);
            let (counters, total) = (&outcome.counters, outcome.counters.total());
            assert!(
                total.committed > 0 && total.aborted > 0,
                "{what}: {total:?}"
            );
            assert!(counters.injected_aborts > 0, "{what}");
            assert!(counters.pauses > 0, "{what}");
            let tally = &rig.tally;
            let told = [&tally.committed, &tally.aborted, &tally.skipped];
            let told = told.map(|count| count.load(Ordering::Relaxed));
            assert_eq!(
                told,
                [total.committed, total.aborted, total.skipped],
                "{what}"
            );
            assert_eq!(tally.half_windows.load(Ordering::Relaxed), 0, "{what}");
            assert!(outcome.increments > 0, "{what}: the writers got on");
        }
    }
}
