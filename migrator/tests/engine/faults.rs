//! Migrations that go wrong, on purpose.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use crate::rig::{RECYCLING, Rig, holes, rights};
use underfoot_migrator::{
    AbortReason, Combination, Event, Inject, InjectAction, MoverError, Observer, PageSize, Phase,
    Stop, StrategyKind, Times, Vcpus, WaitKind,
};

const PAGES: usize = 512;

fn inject(phase: Phase, action: InjectAction, nth: u64, on: bool) -> Inject {
    Inject {
        phase,
        nth,
        on,
        action,
    }
}

/// Every sound way that does not stop the writers, which takes long and is tested by itself.
fn ways() -> impl Iterator<Item = Combination> {
    Combination::all().filter(|way| {
        way.wait == WaitKind::Block
            && way.page_size == PageSize::Small
            && RECYCLING.contains(&way.backend)
            && !matches!(way.strategy, StrategyKind::None | StrategyKind::StopWorld)
            && way.check().is_ok()
    })
}

fn before_commit(strategy: StrategyKind) -> &'static [Phase] {
    let (last, before) = strategy.phases().split_last().expect("it moves pages");
    assert_eq!(*last, Phase::Committed);
    before
}

#[test]
#[cfg_attr(no_userfaultfd, ignore = "this host has no userfaultfd for us")]
fn an_abort_in_any_phase_puts_the_old_frames_back() {
    if !rights() {
        return;
    }
    for way in ways() {
        for &phase in before_commit(way.strategy) {
            for batch in [1, 7, 512] {
                let what = format!("{} {} {phase} {batch}", way.strategy, way.backend);
                let rig = Rig::fit(way.backend, PAGES);
                let migrator = rig
                    .builder()
                    .strategy(way.strategy)
                    .backend(way.backend)
                    .batch(batch)
                    .inject(inject(phase, InjectAction::Abort, 1, true))
                    .build()
                    .expect("sound");
                let outcome = rig.run(&migrator, 1, PAGES, 1000);
                outcome.mover.as_ref().expect("an abort is no error");
                outcome.assert_sound(&what);
                let total = outcome.counters.total();
                // Pages that are away may be fetched before they are called back.
                assert!(total.committed == 0 || phase == Phase::Away, "{what}");
                assert!(total.aborted + total.committed >= 1000, "{what}: {total:?}");
                assert!(total.aborted > 0, "{what}: {total:?}");
                assert_eq!(rig.tally.aborted.load(Ordering::Relaxed), total.aborted);
                assert_eq!(rig.tally.half_windows.load(Ordering::Relaxed), 0, "{what}");
                assert!(outcome.increments > 0, "{what}: the writers got on");
            }
        }
    }
}

#[test]
#[cfg_attr(no_userfaultfd, ignore = "this host has no userfaultfd for us")]
fn one_abort_among_commits_keeps_the_frame_pool_in_step() {
    if !rights() {
        return;
    }
    for way in ways() {
        for &phase in before_commit(way.strategy) {
            let what = format!("{} {} {phase}", way.strategy, way.backend);
            let rig = Rig::fit(way.backend, PAGES);
            let migrator = rig
                .builder()
                .strategy(way.strategy)
                .backend(way.backend)
                .batch(7)
                .limbo(20)
                .inject(inject(phase, InjectAction::Abort, 13, false))
                .build()
                .expect("sound");
            let outcome = rig.run(&migrator, 1, PAGES, 4000);
            outcome.assert_sound(&what);
            let total = outcome.counters.total();
            assert!((1..=7).contains(&total.aborted), "{what}: {total:?}");
            assert!(total.committed > 3900, "{what}: {total:?}");
        }
    }
}

/// vCPUs that look at guest memory the moment they go on.
struct Watching {
    base: usize,
    missing: AtomicU64,
    resumed: AtomicU64,
}

impl Vcpus for Watching {
    fn pause(&self) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        Ok(())
    }

    fn resume(&self) {
        let missing = holes(self.base, PAGES).len() as u64;
        self.missing.fetch_add(missing, Ordering::Relaxed);
        self.resumed.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
#[cfg_attr(no_userfaultfd, ignore = "this host has no userfaultfd for us")]
fn stopped_vcpus_go_on_with_every_page_in_place() {
    if !rights() {
        return;
    }
    for action in [InjectAction::Abort, InjectAction::Panic] {
        for &phase in StrategyKind::StopWorld.phases() {
            let rig = Rig::new(PAGES, PAGES);
            let vcpus = Arc::new(Watching {
                base: rig.base,
                missing: AtomicU64::new(0),
                resumed: AtomicU64::new(0),
            });
            let migrator = rig
                .builder()
                .strategy(StrategyKind::StopWorld)
                .vcpus(vcpus.clone())
                .batch(7)
                .inject(inject(phase, action, 3, false))
                .build()
                .expect("sound");
            let outcome = rig.run(&migrator, 1, PAGES, 70);
            let seen = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
            assert_eq!(seen(&vcpus.missing), 0, "{action:?} {phase}");
            assert!(seen(&vcpus.resumed) >= 3, "{action:?} {phase}");
            assert_eq!(outcome.counters.integrity_errors(), 0);
        }
    }
}

/// Keeps the times of the aborts that the kernel made.
#[derive(Default)]
struct Refusals(Mutex<Vec<(i32, Times)>>);

impl Observer for Refusals {
    fn on(&self, event: &Event) {
        if let Event::Aborted {
            reason: AbortReason::Errno(errno),
            times,
            ..
        } = *event
        {
            self.0.lock().expect("no panic").push((errno, times));
        }
    }
}

#[test]
#[cfg_attr(no_userfaultfd, ignore = "this host has no userfaultfd for us")]
fn an_abort_that_took_nothing_away_has_no_window() {
    if !rights() {
        return;
    }
    let rig = Rig::new(8, 8);
    let migrator = rig.builder().build().expect("sound");
    // Frames only move between mappings of the same rights.
    rig.protect(libc::PROT_READ);
    let refusals = Arc::new(Refusals::default());
    let mut mover = migrator
        .mover()
        .expect("a mover")
        .with_observer(refusals.clone());
    let stop = Stop::new().expect("eventfd");
    std::thread::scope(|scope| {
        scope.spawn(|| mover.run(&stop).expect("refusals end nothing"));
        while migrator.counters().total().aborted == 0 {
            std::thread::yield_now();
        }
        stop.request().expect("eventfd");
    });
    for (errno, times) in &*refusals.0.lock().expect("no panic") {
        assert_eq!(*errno, libc::EINVAL);
        assert_eq!((times.window, times.unmapped, times.mapped), (0, 0, 0));
        assert!(times.start != 0 && times.start <= times.end, "{times:?}");
    }
}

struct Deaf;

impl Vcpus for Deaf {
    fn pause(&self) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        Err("vCPU 1 does not answer".into())
    }

    fn resume(&self) {
        panic!("resumed without having been paused");
    }
}

#[test]
#[cfg_attr(no_userfaultfd, ignore = "this host has no userfaultfd for us")]
fn vcpus_that_cannot_be_stopped_end_the_mover_with_nothing_moved() {
    if !rights() {
        return;
    }
    let rig = Rig::new(PAGES, PAGES);
    let migrator = rig
        .builder()
        .strategy(StrategyKind::StopWorld)
        .vcpus(Arc::new(Deaf))
        .batch(32)
        .build()
        .expect("sound");
    let mut mover = migrator.mover().expect("a mover");
    let end = mover.run(&Stop::new().expect("eventfd"));
    assert!(matches!(end, Err(MoverError::Pause(_))), "{end:?}");
    let total = mover.counters().total();
    assert!(total.add_up() && total.aborted > 0, "{total:?}");
    assert_eq!(total.aborted, total.attempted);
    assert_eq!(rig.tally.aborted.load(Ordering::Relaxed), total.aborted);
}

#[test]
#[cfg_attr(no_userfaultfd, ignore = "this host has no userfaultfd for us")]
fn a_panic_in_any_phase_rolls_back_and_is_reported() {
    if !rights() {
        return;
    }
    for strategy in StrategyKind::ALL {
        for &phase in strategy.phases() {
            let what = format!("{strategy} {phase}");
            let rig = Rig::new(PAGES, PAGES);
            let migrator = rig
                .builder()
                .strategy(strategy)
                .backend(strategy.default_backend())
                .batch(7)
                .inject(inject(phase, InjectAction::Panic, 5, false))
                .build()
                .expect("sound");
            let outcome = rig.run(&migrator, 1, PAGES, 3000);
            let Err(MoverError::Panicked { message }) = &outcome.mover else {
                panic!("{what}: {:?}", outcome.mover);
            };
            assert!(message.contains(phase.name()), "{message}");
            outcome.assert_sound(&what);
            let total = outcome.counters.total();
            if phase == Phase::Committed {
                assert_eq!(total.aborted, 0, "{what}");
                assert!(outcome.counters.windows >= 5, "{what}");
            } else {
                // Pages that are away may all be fetched before they are called back.
                let least = u64::from(phase != Phase::Away);
                assert!((least..=7).contains(&total.aborted), "{what}: {total:?}");
            }
            assert!(!migrator.windows().is_open(), "{what}");
            // Nothing is left behind: the same mover goes on with the same pages.
            assert!(total.committed > 2900, "{what}: {total:?}");
        }
    }
}
