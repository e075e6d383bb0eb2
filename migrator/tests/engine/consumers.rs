//! Those who keep translations of their own are told before a page goes and after it has come.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use underfoot_migrator::{
    AbortReason, BackendKind, Consumer, Event, Gfn, Inject, InjectAction, Observer, PAGE_SIZE,
    PageRange, Phase, Sharing, Stop, StrategyKind, Tracking,
};

use crate::rig::{Rig, holes, rights};

const PAGES: usize = 32;

/// Those that open a window in ways of their own.
const STRATEGIES: [StrategyKind; 4] = [
    StrategyKind::UnmapCopy,
    StrategyKind::ProtectCopy,
    StrategyKind::Transactional,
    StrategyKind::Lazy,
];

/// One that suits it.
fn backend(strategy: StrategyKind) -> BackendKind {
    match strategy {
        StrategyKind::Lazy => BackendKind::Copy,
        _ => BackendKind::Move,
    }
}

/// A consumer of all memory, which looks whether pages are there when it is told that they go.
struct Watcher {
    base: usize,
    deaf: AtomicBool,
    told: AtomicU64,
    missing: AtomicU64,
}

impl Watcher {
    fn new(rig: &Rig, deaf: bool) -> Arc<Self> {
        Arc::new(Self {
            base: rig.base,
            deaf: AtomicBool::new(deaf),
            told: AtomicU64::new(0),
            missing: AtomicU64::new(0),
        })
    }
}

impl Consumer for Watcher {
    fn name(&self) -> &str {
        "watcher"
    }

    fn forget(&self, range: PageRange) {
        self.told
            .fetch_add(u64::from(range.pages), Ordering::Relaxed);
        let first = self.base + range.start.0 as usize * PAGE_SIZE;
        let missing = holes(first, range.pages as usize).len();
        self.missing.fetch_add(missing as u64, Ordering::Relaxed);
    }

    fn is_quiet(&self, _: PageRange) -> bool {
        !self.deaf.load(Ordering::Relaxed)
    }
}

/// While nobody moves page `gfn` by its subscription's word, it is there. Until `over`, and once at
/// least: on a busy host this thread may have had no turn before. How often that could be said.
fn look(rig: &Rig, gfn: u64, one: &underfoot_migrator::Subscription, over: &AtomicBool) -> u64 {
    let mut said = 0;
    while said == 0 || !over.load(Ordering::Relaxed) {
        let Some(snapshot) = one.read_begin() else {
            std::thread::yield_now();
            continue;
        };
        let missing = !holes(rig.base + gfn as usize * PAGE_SIZE, 1).is_empty();
        if !one.read_retry(snapshot) {
            assert!(!missing, "page {gfn} is away, and nobody says so");
            said += 1;
        }
    }
    said
}

#[test]
#[cfg_attr(no_userfaultfd, ignore = "this host has no userfaultfd for us")]
fn pages_are_there_unless_an_invalidation_is_open_whatever_ends_the_migration() {
    if !rights() {
        return;
    }
    let actions = [
        None,
        Some((Phase::Unmapped, InjectAction::Abort)),
        Some((Phase::Copied, InjectAction::Panic)),
    ];
    let ways = Tracking::ALL
        .into_iter()
        .flat_map(|tracking| STRATEGIES.map(|strategy| (tracking, strategy)));
    for ((tracking, strategy), fault) in ways.zip(actions.into_iter().cycle()) {
        let rig = Rig::new(PAGES, PAGES);
        let mut builder = rig
            .builder()
            .strategy(strategy)
            .backend(backend(strategy))
            .tracking(tracking)
            .batch(3);
        if let Some((phase, action)) = fault {
            builder = builder.inject(Inject {
                phase,
                nth: 20,
                on: action == InjectAction::Abort,
                action,
            });
        }
        let migrator = builder.build().expect("sound");
        let watcher = Watcher::new(&rig, false);
        let invalidations = migrator.invalidations();
        let register = |gpa: u64, pages: u64| {
            let bytes = pages * PAGE_SIZE as u64;
            invalidations
                .register(watcher.clone(), gpa, bytes, Sharing::Shared)
                .expect("a good range")
        };
        let all = register(0, PAGES as u64);
        let one = register(5 * PAGE_SIZE as u64, 1);
        let over = AtomicBool::new(false);
        let (outcome, said) = std::thread::scope(|scope| {
            let looking = scope.spawn(|| look(&rig, 5, &one, &over));
            let outcome = rig.run(&migrator, 2, PAGES, 1000);
            over.store(true, Ordering::Relaxed);
            (outcome, looking.join().expect("the page is there"))
        });
        outcome.assert_sound(tracking.name());
        let told = watcher.told.load(Ordering::Relaxed);
        assert!(told >= outcome.counters.total().committed, "{tracking}");
        assert_eq!(watcher.missing.load(Ordering::Relaxed), 0, "{tracking}");
        assert!(said > 0 && !all.is_open() && !one.is_open(), "{tracking}");
        assert_eq!(invalidations.unbalanced(), [], "{tracking}");
        assert_eq!(invalidations.laggards(), [], "{tracking}");
    }
}

/// Aborts for want of an acknowledgement, and those of them that had a window.
#[derive(Default)]
struct Unacknowledged(AtomicU64, AtomicU64);

impl Observer for Unacknowledged {
    fn on(&self, event: &Event) {
        if let Event::Aborted { reason, times, .. } = event {
            assert_eq!(*reason, AbortReason::Unacknowledged);
            self.0.fetch_add(1, Ordering::Relaxed);
            self.1.fetch_add(times.window, Ordering::Relaxed);
        }
    }
}

#[test]
#[cfg_attr(no_userfaultfd, ignore = "this host has no userfaultfd for us")]
fn a_page_whose_consumer_does_not_acknowledge_stays_where_it_is() {
    if !rights() {
        return;
    }
    STRATEGIES.into_iter().for_each(stays);
}

fn stays(strategy: StrategyKind) {
    let rig = Rig::new(PAGES, PAGES);
    let migrator = rig
        .builder()
        .strategy(strategy)
        .backend(backend(strategy))
        .patience(Duration::from_micros(200))
        .build()
        .expect("sound");
    let watcher = Watcher::new(&rig, true);
    let invalidations = migrator.invalidations();
    let gpa = Gfn(0).gpa();
    let bytes = (PAGES * PAGE_SIZE) as u64;
    let _all = invalidations
        .register(watcher.clone(), gpa, bytes, Sharing::Exclusive)
        .expect("a good range");
    let seen = Arc::new(Unacknowledged::default());
    let mut mover = migrator
        .mover()
        .expect("a mover")
        .with_observer(seen.clone());
    let stop = Stop::new().expect("eventfd");
    std::thread::scope(|scope| {
        scope.spawn(|| mover.run(&stop).expect("it only waits in vain"));
        while migrator.counters().total().aborted < 10 {
            std::thread::yield_now();
        }
        stop.request().expect("eventfd");
    });
    let total = migrator.counters().total();
    assert!(total.add_up() && total.committed == 0, "{total:?}");
    assert_eq!(total.aborted, total.attempted);
    let (aborts, windows) = (&seen.0, &seen.1);
    assert_eq!(aborts.load(Ordering::Relaxed), total.aborted);
    assert_eq!(windows.load(Ordering::Relaxed), 0, "nothing was ever away");
    let laggards = invalidations.laggards();
    let named: Vec<_> = laggards
        .iter()
        .map(|one| (&*one.consumer, one.times))
        .collect();
    assert_eq!(named, [("watcher", total.aborted)]);
    assert_eq!(invalidations.unbalanced(), []);
}
