//! Several userfaultfds for one guest.

use std::thread;

use crate::rig::{Rig, rights};
use underfoot_migrator::{
    BackendKind, BuildError, Combination, MAX_UFFDS, PageSize, Stop, StrategyKind, WaitKind,
};

/// Four parts of 512 pages.
const PAGES: usize = 2048;

#[test]
#[cfg_attr(no_userfaultfd, ignore = "this host has no userfaultfd for us")]
fn every_page_belongs_to_one_and_is_moved_and_served_there() {
    if !rights() {
        return;
    }
    let ways = Combination::all().filter(|way| {
        way.wait == WaitKind::Block
            && way.page_size == PageSize::Small
            && way.backend != BackendKind::Kernel
            && !matches!(way.strategy, StrategyKind::None | StrategyKind::StopWorld)
            && way.check().is_ok()
    });
    for way in ways {
        for batch in [1, 7, 512] {
            let what = format!("{} {} {batch}", way.strategy, way.backend);
            let rig = Rig::fit(way.backend, PAGES);
            let migrator = rig
                .builder()
                .strategy(way.strategy)
                .backend(way.backend)
                .batch(batch)
                .uffds(4)
                .build()
                .expect("sound");
            assert_eq!(migrator.handlers().len(), 4);
            let outcome = rig.run(&migrator, 2, PAGES, 6000);
            outcome.mover.as_ref().expect("no error");
            outcome.assert_sound(&what);
        }
    }
}

#[test]
#[cfg_attr(no_userfaultfd, ignore = "this host has no userfaultfd for us")]
fn one_handler_can_serve_them_all() {
    if !rights() {
        return;
    }
    let rig = Rig::new(PAGES, 0);
    let migrator = rig.builder().uffds(4).build().expect("sound");
    let (handler, stop) = (migrator.handler(), Stop::new().expect("eventfd"));
    thread::scope(|scope| {
        let serving = scope.spawn(|| handler.run(&stop));
        for page in 0..PAGES {
            rig.word(page, 8)
                .store(1, std::sync::atomic::Ordering::Relaxed);
        }
        stop.request().expect("eventfd");
        serving.join().expect("no panic").expect("all were served");
    });
    let faults = rig.tally.faults.load(std::sync::atomic::Ordering::Relaxed);
    assert!(faults >= PAGES as u64, "{faults} faults of {PAGES} holes");
}

#[test]
#[cfg_attr(no_userfaultfd, ignore = "this host has no userfaultfd for us")]
fn too_many_are_refused_and_little_memory_has_fewer() {
    if !rights() {
        return;
    }
    let rig = Rig::fit(BackendKind::Move, 600);
    for uffds in [0, MAX_UFFDS + 1] {
        let error = rig.builder().uffds(uffds).build().err();
        assert!(matches!(error, Some(BuildError::Uffds { uffds: refused }) if refused == uffds));
    }
    let migrator = rig.builder().uffds(MAX_UFFDS).build().expect("sound");
    assert_eq!(migrator.handlers().len(), 2);
}
