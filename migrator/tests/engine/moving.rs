//! Pages move under threads that write them, and nothing is lost.

use std::num::NonZeroU64;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::rig::{RECYCLING, Rig, holes, rights};
use underfoot_migrator::{
    BackendKind, Class, ClassSet, Combination, Gfn, PAGE_SIZE, PageRange, PageSize, Rate,
    StrategyKind, Verify, WaitKind, can_verify,
};

const PAGES: usize = 1024;

/// A strategy that goes with any backend but `remap`, or with that.
fn suiting(backend: BackendKind) -> StrategyKind {
    match backend {
        BackendKind::Remap => StrategyKind::ProtectCopy,
        _ => StrategyKind::UnmapCopy,
    }
}

#[test]
#[cfg_attr(no_userfaultfd, ignore = "this host has no userfaultfd for us")]
fn every_sound_combination_moves_pages_and_loses_nothing() {
    if !rights() {
        return;
    }
    for way in Combination::all() {
        // Spinning is the embedder's; its half of it is tested below.
        if way.wait != WaitKind::Block
            || way.page_size != PageSize::Small
            || !RECYCLING.contains(&way.backend)
            || way.strategy == StrategyKind::None
            || way.check().is_err()
        {
            continue;
        }
        for batch in [1, 7, 32, 512] {
            let what = format!("{} {} {batch}", way.strategy, way.backend);
            let rig = Rig::fit(way.backend, PAGES);
            let migrator = rig
                .builder()
                .strategy(way.strategy)
                .backend(way.backend)
                .batch(batch)
                .limbo(64)
                .build()
                .expect("sound");
            let windows = match way.strategy {
                // Each one waits until every writer is stopped.
                StrategyKind::StopWorld => 100,
                _ => 1500,
            };
            let goal = 5000.min(u64::from(batch) * windows);
            let outcome = rig.run(&migrator, 1, PAGES, goal);
            outcome.mover.as_ref().expect("the mover ends when asked");
            outcome.assert_sound(&what);
            let total = outcome.counters.total();
            assert!(total.committed * 10 >= goal * 9, "{what}: {total:?}");
            assert!(outcome.counters.windows <= total.committed);
            assert!(outcome.counters.windows * u64::from(batch) >= total.committed);
            if can_verify().is_ok() {
                assert!(total.verified > 0, "{what}");
                assert!(total.verified <= outcome.counters.checked_frames);
            }
            let seen = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
            assert_eq!(seen(&rig.tally.committed), total.committed, "{what}");
            assert_eq!(seen(&rig.tally.aborted), total.aborted, "{what}");
            assert_eq!(seen(&rig.tally.skipped), total.skipped, "{what}");
            assert_eq!(seen(&rig.tally.unordered), 0, "{what}: times in order");
            let transactional = way.strategy == StrategyKind::Transactional;
            assert!(outcome.counters.conflicts == 0 || transactional, "{what}");
            assert!(outcome.counters.fallbacks <= outcome.counters.conflicts);
            assert!(outcome.counters.wasted_copies >= outcome.counters.conflicts);
            let paused = seen(&rig.gate.pauses) > 0;
            assert_eq!(paused, way.strategy == StrategyKind::StopWorld, "{what}");
        }
    }
}

#[test]
#[cfg_attr(no_userfaultfd, ignore = "this host has no userfaultfd for us")]
fn the_control_moves_nothing() {
    if !rights() {
        return;
    }
    let rig = Rig::new(64, 64);
    let migrator = rig.builder().strategy(StrategyKind::None).build();
    let outcome = rig.run(&migrator.expect("sound"), 1, 64, 0);
    outcome.assert_sound("none");
    assert_eq!(outcome.counters.total().attempted, 0);
}

#[test]
#[cfg_attr(no_userfaultfd, ignore = "this host has no userfaultfd for us")]
fn every_frame_is_verified_on_demand() {
    if !rights() {
        return;
    }
    if let Err(reason) = can_verify() {
        eprintln!("skipped: {reason}");
        return;
    }
    for backend in RECYCLING {
        let rig = Rig::fit(backend, PAGES);
        let migrator = rig
            .builder()
            .strategy(suiting(backend))
            .backend(backend)
            .verify(Verify::Full)
            .batch(32)
            .build();
        let outcome = rig.run(&migrator.expect("sound"), 1, PAGES, 5000);
        outcome.assert_sound(backend.name());
        let total = outcome.counters.total();
        // The kernel may move or swap a frame by itself meanwhile; hardly ever does it.
        assert!(total.verified * 100 >= total.committed * 99, "{total:?}");
        assert_eq!(outcome.counters.checked_frames, total.verified);
    }
}

#[test]
#[cfg_attr(no_userfaultfd, ignore = "this host has no userfaultfd for us")]
fn several_movers_never_meet_on_a_page() {
    if !rights() {
        return;
    }
    for batch in [1, 32] {
        let rig = Rig::new(PAGES, PAGES);
        let migrator = rig
            .builder()
            .batch(batch)
            .rest(Duration::from_micros(1))
            .build()
            .expect("sound");
        let outcome = rig.run(&migrator, 3, PAGES, 6000);
        outcome.mover.as_ref().expect("all end when asked");
        outcome.assert_sound("three movers");
    }
}

#[test]
#[cfg_attr(no_userfaultfd, ignore = "this host has no userfaultfd for us")]
fn holes_do_not_move_until_they_are_touched() {
    if !rights() {
        return;
    }
    // Every fifth page is a hole: nobody tries it, and what is between the holes moves.
    let rig = Rig::new(256, 0);
    for page in (0..256).filter(|page| page % 5 != 0) {
        rig.word(page, 0).store(9, Ordering::Relaxed);
    }
    let migrator = rig.builder().batch(32).build().expect("sound");
    let outcome = rig.run(&migrator, 1, 0, 3000);
    outcome.assert_sound("every fifth page a hole");
    let total = outcome.counters.total();
    assert_eq!((total.skipped, total.committed), (0, total.attempted));
    assert_eq!(rig.tally.faults.load(Ordering::Relaxed), 0);
    assert_eq!(holes(rig.base, 256).len(), 52, "they stayed holes");
    // Nothing is there at first. The writers touch every page: the handler fills each hole once,
    // and then they move.
    let rig = Rig::new(256, 0);
    let migrator = rig.builder().batch(8).build().expect("sound");
    let touched = rig.run(&migrator, 1, 256, 3000);
    assert_eq!(touched.lost, 0);
    touched.assert_counts("touched");
    assert!(touched.counters.total().committed >= 2900);
    assert!(rig.tally.faults.load(Ordering::Relaxed) >= 256);
}

#[test]
#[cfg_attr(no_userfaultfd, ignore = "this host has no userfaultfd for us")]
fn a_page_that_its_owner_gave_away_is_skipped_once() {
    if !rights() {
        return;
    }
    let rig = Rig::new(64, 64);
    let migrator = rig.builder().build().expect("sound");
    // As a balloon does, behind the engine's back.
    // SAFETY: a page of the mapping that nobody touches meanwhile.
    let given = unsafe {
        libc::madvise(
            (rig.base + 9 * PAGE_SIZE) as *mut libc::c_void,
            PAGE_SIZE,
            libc::MADV_DONTNEED,
        )
    };
    assert_eq!(given, 0);
    let outcome = rig.run(&migrator, 1, 0, 3000);
    outcome.assert_counts("a page given away");
    assert_eq!(outcome.counters.total().skipped, 1);
}

#[test]
#[cfg_attr(no_userfaultfd, ignore = "this host has no userfaultfd for us")]
fn only_targets_move_and_what_is_left_out_is_never_registered() {
    if !rights() {
        return;
    }
    let rig = Rig::new(256, 256);
    let one = Class::new(1).expect("a class");
    let migrator = rig
        .builder()
        .targets(ClassSet::EMPTY.with(one))
        .exclude(PageRange::new(Gfn(0), 128))
        .rest(Duration::ZERO)
        .batch(512)
        .build()
        .expect("sound");
    let outcome = rig.run(&migrator, 1, 256, 800);
    outcome.assert_sound("class 1");
    assert_eq!(outcome.counters.by_class[0].attempted, 0);
    // Class 1 is every eighth page: no two of them are neighbours.
    assert_eq!(outcome.counters.windows, outcome.counters.total().committed);
    assert_eq!(migrator.state_bytes(), 256 * 8);
}

#[test]
#[cfg_attr(no_userfaultfd, ignore = "this host has no userfaultfd for us")]
fn a_rate_is_kept_by_count() {
    if !rights() {
        return;
    }
    let rig = Rig::new(64, 64);
    let rate = Rate::PagesPerSecond(NonZeroU64::new(2000).expect("a rate"));
    let migrator = rig.builder().rate(rate).build().expect("sound");
    let outcome = rig.run(&migrator, 1, 64, 40);
    outcome.assert_sound("2000 a second");
}

#[test]
#[cfg_attr(no_userfaultfd, ignore = "this host has no userfaultfd for us")]
fn a_second_migrator_finds_pages_where_the_first_one_left_them() {
    if !rights() {
        return;
    }
    for backend in [BackendKind::Move, BackendKind::Copy, BackendKind::Remap] {
        let rig = Rig::fit(backend, PAGES);
        for nth in 0..3 {
            let what = format!("{backend}, migrator {nth}");
            let migrator = rig
                .builder()
                .strategy(suiting(backend))
                .backend(backend)
                .build()
                .expect("sound");
            let outcome = rig.run(&migrator, 1, 0, PAGES as u64);
            outcome.assert_sound(&what);
            let intact = (0..PAGES).filter(|page| rig.is_intact(*page)).count();
            assert_eq!(intact, PAGES, "{what}");
        }
    }
}

#[test]
#[cfg_attr(no_userfaultfd, ignore = "this host has no userfaultfd for us")]
fn dropping_leaves_ordinary_memory_with_every_page_in_place() {
    if !rights() {
        return;
    }
    let rig = Rig::new(256, 128);
    let migrator = rig.builder().batch(7).build().expect("sound");
    rig.run(&migrator, 1, 128, 1000).assert_sound("before");
    drop(migrator);
    // No handler runs: a page that was still registered would hang this test.
    for page in 128..256 {
        assert_eq!(rig.word(page, 0).load(Ordering::Relaxed), 0);
    }
    let again = rig.builder().build().expect("can be registered again");
    drop(again);
}

/// Entries that change under the call make it try again, which is where Linux 6.18 loses count of
/// what it moved: ageing the pages while they are written does that all the time.
#[test]
#[cfg_attr(no_userfaultfd, ignore = "this host has no userfaultfd for us")]
fn pages_that_the_kernel_denies_having_moved_are_not_lost() {
    if !rights() {
        return;
    }
    const FEW: usize = 16;
    let mut uncounted = 0;
    for (backend, batch) in [
        (BackendKind::Move, 1),
        (BackendKind::Move, 16),
        (BackendKind::Copy, 16),
    ] {
        let what = format!("{backend} {batch}");
        let rig = Rig::new(FEW, FEW);
        let migrator = rig.builder().backend(backend).batch(batch).limbo(64);
        let migrator = migrator.build().expect("sound");
        let done = AtomicBool::new(false);
        let outcome = thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    rig.age();
                }
            });
            let outcome = rig.run(&migrator, 1, FEW, 20_000);
            done.store(true, Ordering::Relaxed);
            outcome
        });
        outcome.mover.as_ref().expect("the mover ends when asked");
        outcome.assert_sound(&what);
        uncounted += outcome.counters.uncounted_pages;
    }
    eprintln!("{uncounted} pages moved, and denied by the kernel");
}
