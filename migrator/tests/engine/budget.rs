//! Windows that take longer than they may are given up, and their pages are tried again.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use underfoot_migrator::{
    AbortReason, BackendKind, BuildError, Consumer, Event, Inject, InjectAction, Observer,
    PAGE_SIZE, PageRange, Phase, Sharing, StrategyKind,
};

use crate::rig::{Rig, rights};

const PAGES: usize = 8;
/// Longer than a window is on a loaded host, and a pause that is longer still.
const LONGEST: Duration = Duration::from_millis(300);
const PAUSE: Duration = Duration::from_millis(600);
/// The migration that is paused.
const NTH: u64 = 20;

/// How a migration of these pages ended: the phase of an abort and why, or `None` for a commit.
type End = (PageRange, Option<(Phase, AbortReason)>);

/// The ends of migrations, in order.
#[derive(Default)]
struct Ends(Mutex<Vec<End>>);

impl Observer for Ends {
    fn on(&self, event: &Event) {
        let end = match *event {
            Event::Committed { range, .. } => (range, None),
            Event::Aborted {
                range,
                phase,
                reason,
                ..
            } => (range, Some((phase, reason))),
            _ => return,
        };
        self.0.lock().expect("no panic").push(end);
    }
}

#[test]
#[cfg_attr(no_userfaultfd, ignore = "this host has no userfaultfd for us")]
fn a_window_over_its_budget_is_given_up_in_every_phase_and_tried_again() {
    if !rights() {
        return;
    }
    let cases = [
        (StrategyKind::UnmapCopy, Phase::Unmapped, true),
        (StrategyKind::UnmapCopy, Phase::Copied, true),
        (StrategyKind::ProtectCopy, Phase::Protected, true),
        (StrategyKind::ProtectCopy, Phase::Copied, true),
        (StrategyKind::ProtectCopy, Phase::Unmapped, true),
        (StrategyKind::Transactional, Phase::Unmapped, true),
        (StrategyKind::Lazy, Phase::Unmapped, true),
        (StrategyKind::StopWorld, Phase::Copied, true),
        // No window is open.
        (StrategyKind::UnmapCopy, Phase::Claimed, false),
        (StrategyKind::Transactional, Phase::Copied, false),
        // Pages come as they are touched.
        (StrategyKind::Lazy, Phase::Away, false),
    ];
    for (strategy, phase, over) in cases {
        for bounded in [true, false] {
            let what = format!("{strategy}, {phase}, bounded: {bounded}");
            let rig = Rig::new(PAGES, PAGES);
            let ends = Arc::new(Ends::default());
            let mut builder = rig
                .builder()
                .observer(ends.clone())
                .strategy(strategy)
                .inject(Inject {
                    phase,
                    nth: NTH,
                    on: false,
                    action: InjectAction::Pause(PAUSE),
                });
            if strategy == StrategyKind::Lazy {
                builder = builder.backend(BackendKind::Copy);
            }
            if bounded {
                builder = builder.max_window(LONGEST);
            }
            let migrator = builder.build().expect("sound");
            let outcome = rig.run(&migrator, 1, PAGES, 300);
            outcome.mover.as_ref().expect("it went on");
            outcome.assert_sound(&what);
            if strategy == StrategyKind::Transactional && outcome.counters.fallbacks > 0 {
                // The pause may have hit a copy under protection, which is in a window.
                continue;
            }
            let expected = u64::from(over && bounded);
            assert_eq!(outcome.counters.over_budget, expected, "{what}");
            assert_eq!(outcome.counters.total().aborted, expected, "{what}");
            let ends = ends.0.lock().expect("no panic");
            let aborted = ends.iter().position(|(_, abort)| abort.is_some());
            assert_eq!(aborted.is_some(), over && bounded, "{what}");
            if let Some(at) = aborted {
                let (range, abort) = ends[at];
                assert_eq!(abort, Some((phase, AbortReason::OverBudget)), "{what}");
                let again = ends[at..].contains(&(range, None));
                assert!(again, "{what}: {range} moves later");
            }
        }
    }
}

/// One who never answers.
struct Deaf;

impl Consumer for Deaf {
    fn name(&self) -> &str {
        "deaf"
    }

    fn forget(&self, _: PageRange) {}

    fn is_quiet(&self, _: PageRange) -> bool {
        false
    }
}

#[test]
#[cfg_attr(no_userfaultfd, ignore = "this host has no userfaultfd for us")]
fn a_consumer_is_waited_for_no_longer_than_the_window_may_be() {
    if !rights() {
        return;
    }
    let rig = Rig::new(PAGES, PAGES);
    let migrator = rig
        .builder()
        // Nobody could wait for that.
        .patience(Duration::from_secs(3600))
        .max_window(Duration::from_millis(1))
        .build()
        .expect("sound");
    let bytes = (PAGES * PAGE_SIZE) as u64;
    let _deaf = migrator
        .invalidations()
        .register(Arc::new(Deaf), 0, bytes, Sharing::Shared)
        .expect("a good range");
    let outcome = rig.run(&migrator, 1, PAGES, 20);
    outcome.assert_sound("deaf");
    let total = outcome.counters.total();
    assert_eq!((total.committed, total.skipped), (0, 0));
    assert_eq!(outcome.counters.over_budget, total.aborted);
}

#[test]
fn a_window_of_no_time_is_refused() {
    let rig = Rig::new(PAGES, PAGES);
    let refused = rig.builder().max_window(Duration::ZERO).build();
    let refused = refused.err().expect("refused");
    assert!(matches!(refused, BuildError::MaxWindow));
    assert_eq!(
        refused.to_string(),
        "a window of 0 at most: none is that short; give more, or no bound at all"
    );
}
