//! What is moved lazily is left to those who touch it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::rig::{Rig, rights};
use underfoot_migrator::{BackendKind, Event, Observer, Served, StrategyKind};

const PAGES: usize = 8;
const GOAL: u64 = 2 * PAGES as u64;
/// Longer than any host keeps all writers from all pages, and the test from its end.
const DELAY: Duration = Duration::from_millis(200);

#[derive(Default)]
struct Demanded(AtomicU64);

impl Observer for Demanded {
    fn on(&self, event: &Event) {
        if matches!(
            event,
            Event::Fault {
                served: Served::Fetched,
                ..
            }
        ) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[test]
#[cfg_attr(no_userfaultfd, ignore = "this host has no userfaultfd for us")]
fn pages_are_left_to_those_who_touch_them_until_the_delay_is_over() {
    if !rights() {
        return;
    }
    // Who writes them all, and how many of them that brings at least: of two ranges, half.
    for (written, least, linger) in [
        (PAGES, GOAL / 2, Duration::ZERO),
        (PAGES, GOAL / 2, Duration::from_micros(50)),
        (0, 0, DELAY),
    ] {
        let rig = Rig::new(PAGES, PAGES);
        let demanded = Arc::new(Demanded::default());
        let migrator = rig
            .builder()
            .observer(demanded.clone())
            .strategy(StrategyKind::Lazy)
            .backend(BackendKind::Copy)
            .batch(PAGES as u32)
            .prefetch_after(DELAY)
            .linger(linger)
            .build()
            .expect("sound");
        let outcome = rig.run(&migrator, 1, written, GOAL);
        outcome.assert_sound("left to writers");
        let found = demanded.0.load(Ordering::Relaxed);
        assert!(found >= least, "{found} of {GOAL} pages were demanded");
        assert_eq!(found == 0, written == 0, "nobody touches them otherwise");
    }
}
