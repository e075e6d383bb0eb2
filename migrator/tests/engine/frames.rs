//! The pool of frames under movers and faults.

use std::sync::Arc;
use std::thread;

use crate::rig::{Rig, rights};
use underfoot_migrator::{
    BackendKind, BuildError, Builder, Fallback, FrameError, FrameOptions, FrameUser, Grace,
    Migrator, MoverError, PageSize, Placement, Stop, StrategyKind, Variant,
};

const PAGES: usize = 512;
/// Scarce for two movers of 32 pages.
const SCARCE: FrameOptions = FrameOptions {
    size: 160,
    reserve: 4,
    min: 8,
    low: 16,
    high: 32,
    placement: Placement::Anywhere,
    tries: 1,
    fallback: Fallback::Refill,
};

fn run_with_refiller(
    rig: &Rig,
    migrator: &Migrator,
    movers: usize,
    goal: u64,
) -> crate::rig::Outcome {
    let refiller = migrator.refiller().expect("there is a pool");
    let stop = Stop::new().expect("eventfd");
    thread::scope(|scope| {
        let refilling = scope.spawn(|| refiller.run(&stop));
        let outcome = rig.run(migrator, movers, PAGES, goal);
        stop.request().expect("eventfd");
        refilling.join().expect("no panic").expect("it can wait");
        outcome
    })
}

#[test]
#[cfg_attr(no_userfaultfd, ignore = "this host has no userfaultfd for us")]
fn nothing_is_lost_whoever_takes_frames_of_the_pool() {
    if !rights() {
        return;
    }
    for strategy in [
        StrategyKind::UnmapCopy,
        StrategyKind::ProtectCopy,
        StrategyKind::Transactional,
        StrategyKind::Lazy,
    ] {
        for batch in [1, 7, 32] {
            let what = format!("{strategy} {batch}");
            // The second half are holes, which are filled from the pool and written.
            let rig = Rig::new(PAGES, PAGES / 2);
            let migrator = builder(&rig, strategy).batch(batch).frames(SCARCE).build();
            let migrator = migrator.expect("sound");
            let outcome = run_with_refiller(&rig, &migrator, 2, 20_000);
            outcome.mover.as_ref().expect("no error");
            assert_eq!(outcome.lost, 0, "{what}");
            outcome.assert_counts(&what);
            assert_eq!(outcome.counters.integrity_errors(), 0, "{what}");
            let frames = migrator.frames().expect("a pool");
            assert_eq!(frames.violations.total(), 0, "{what}: {frames:?}");
            let [mover, fault] = FrameUser::ALL.map(|user| *frames.of(user));
            assert!(
                mover.fast + mover.slow >= outcome.counters.total().committed / 2,
                "{what}: {frames:?}"
            );
            assert!(
                fault.fast + fault.slow >= PAGES as u64 / 2,
                "{what}: {frames:?}"
            );
            for user in [mover, fault] {
                assert_eq!(user.refills, user.fell_back, "{what}: {frames:?}");
            }
        }
    }
}

#[test]
#[cfg_attr(no_userfaultfd, ignore = "this host has no userfaultfd for us")]
fn a_frame_taken_while_pages_are_held_is_told_before_anybody_waits() {
    if !rights() {
        return;
    }
    let rig = Rig::new(PAGES, PAGES);
    let migrator = builder(&rig, StrategyKind::UnmapCopy)
        .frames(FrameOptions::of(2048))
        .variant(Variant::FramesInWindow)
        .build()
        .expect("sound");
    let outcome = rig.run(&migrator, 1, PAGES, 100);
    let Err(MoverError::Panicked { message }) = &outcome.mover else {
        panic!("{:?}", outcome.mover);
    };
    let found = "lock order: Frames is wanted while Range is held, Frames waits for Range";
    assert!(message.starts_with(found), "{message}");
    // As with any panic, the pages are where they were.
    outcome.assert_sound("frames in the window");
    assert_eq!(outcome.counters.total().committed, 0);
}

fn builder(rig: &Rig, strategy: StrategyKind) -> Builder {
    rig.builder().strategy(strategy).backend(BackendKind::Move)
}

/// One that never ends.
struct Endless;

impl Grace for Endless {
    fn begin(&self) -> u64 {
        0
    }

    fn is_over(&self, _: u64) -> bool {
        false
    }
}

#[test]
#[cfg_attr(no_userfaultfd, ignore = "this host has no userfaultfd for us")]
fn a_pool_that_runs_dry_stops_movers_and_no_fault() {
    if !rights() {
        return;
    }
    // All holes but the first, so that there is something to move: each is a fault that must be served.
    let rig = Rig::new(PAGES, 1);
    let migrator = builder(&rig, StrategyKind::UnmapCopy)
        .frames(FrameOptions {
            size: 128,
            ..SCARCE
        })
        .grace(Arc::new(Endless))
        .build()
        .expect("sound");
    // What movers may take: no old frame ever comes back, though the kernel replaces those of holes.
    let outcome = run_with_refiller(&rig, &migrator, 1, 100);
    outcome.mover.as_ref().expect("to be short is no error");
    assert_eq!(outcome.lost, 0);
    let frames = migrator.frames().expect("a pool");
    assert_eq!(frames.violations.total(), 0, "{frames:?}");
    let attempted = outcome.counters.total().committed;
    assert!(
        attempted <= 128 - 4,
        "{attempted} pages moved into 124 frames"
    );

    // From here on movers get nothing. Holes are still filled: each fault pays for a fresh frame, from the reserve.
    let more = Rig::new(PAGES, 1);
    let migrator = builder(&more, StrategyKind::UnmapCopy)
        .frames(FrameOptions {
            size: 128,
            ..SCARCE
        })
        .grace(Arc::new(Endless))
        .build()
        .expect("sound");
    let (stop, served) = (Stop::new().expect("eventfd"), Stop::new().expect("eventfd"));
    let handler = migrator.handler();
    let mut mover = migrator.mover().expect("a mover");
    thread::scope(|scope| {
        let serving = scope.spawn(|| handler.run(&served));
        let moving = scope.spawn(|| mover.run(&stop));
        while migrator
            .frames()
            .expect("a pool")
            .of(FrameUser::Mover)
            .short
            < 100
        {
            thread::yield_now();
        }
        for page in 1..PAGES {
            assert_eq!(
                more.word(page, 0)
                    .load(std::sync::atomic::Ordering::Relaxed),
                0
            );
        }
        stop.request().expect("eventfd");
        moving
            .join()
            .expect("no panic")
            .expect("to be short is no error");
        served.request().expect("eventfd");
        serving.join().expect("no panic").expect("all were served");
    });
    let frames = migrator.frames().expect("a pool");
    let fault = frames.of(FrameUser::Fault);
    assert_eq!(
        fault.fast + fault.slow + frames.without,
        PAGES as u64 - 1,
        "{frames:?}"
    );
    assert_eq!(frames.without, 0, "{frames:?}");
    assert!(fault.reserve >= u64::from(SCARCE.reserve), "{frames:?}");
}

#[test]
#[cfg_attr(no_userfaultfd, ignore = "this host has no userfaultfd for us")]
fn broken_forms_of_the_pool_are_found_while_pages_move() {
    if !rights() {
        return;
    }
    for variant in [
        Variant::FramesReserve,
        Variant::FramesTwice,
        Variant::FramesUnpaid,
    ] {
        let rig = Rig::new(PAGES, PAGES);
        let migrator = builder(&rig, StrategyKind::UnmapCopy)
            .batch(32)
            .frames(SCARCE)
            .variant(variant)
            .build()
            .expect("sound");
        let (stop, served) = (Stop::new().expect("eventfd"), Stop::new().expect("eventfd"));
        let handler = migrator.handler();
        let mut movers = [0, 1, 2, 3].map(|_| migrator.mover().expect("a mover"));
        thread::scope(|scope| {
            let serving = scope.spawn(|| handler.run(&served));
            let moving = movers
                .each_mut()
                .map(|mover| scope.spawn(|| mover.run(&stop)));
            while migrator.frames().expect("a pool").violations.total() == 0 {
                thread::yield_now();
            }
            stop.request().expect("eventfd");
            for mover in moving {
                mover
                    .join()
                    .expect("no panic")
                    .expect("the finding is enough");
            }
            served.request().expect("eventfd");
            serving.join().expect("no panic").expect("all were served");
        });
        let found = migrator.frames().expect("a pool").violations;
        let expected = match variant {
            Variant::FramesReserve => found.reserve,
            Variant::FramesTwice => found.twice,
            _ => found.unpaid,
        };
        assert_eq!(expected, found.total(), "{variant}: {found:?}");
    }
}

#[test]
#[cfg_attr(no_userfaultfd, ignore = "this host has no userfaultfd for us")]
fn pools_that_cannot_be_are_refused() {
    if !rights() {
        return;
    }
    let rig = Rig::new(PAGES, PAGES);
    let refused = |builder: Builder| match builder.build() {
        Err(BuildError::Frames(error)) => error,
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("not refused"),
    };
    let pool = || rig.builder().frames(SCARCE);
    assert!(matches!(
        refused(pool().batch(512)),
        FrameError::TooSmall {
            size: 160,
            least: 1120
        }
    ));
    assert!(matches!(
        refused(pool().page_size(PageSize::Huge)),
        FrameError::PageSize { .. }
    ));
    let variant = rig.builder().variant(Variant::FramesTwice);
    assert!(matches!(refused(variant), FrameError::NoPool { .. }));
    let node = FrameOptions {
        placement: Placement::Node(63),
        ..SCARCE
    };
    assert!(matches!(
        refused(rig.builder().frames(node)),
        FrameError::Node { node: 63, .. }
    ));
    let file = Rig::fit(BackendKind::Remap, PAGES);
    let remap = file
        .builder()
        .strategy(StrategyKind::ProtectCopy)
        .backend(BackendKind::Remap)
        .frames(SCARCE);
    assert!(matches!(refused(remap), FrameError::Backend { .. }));
}
