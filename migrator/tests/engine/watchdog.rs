//! Deadlocks in which a migration is are found and end; stalls are told, and stay.

use std::error::Error;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use underfoot_migrator::{
    AbortReason, Consumer, Counters, Edge, Event, GracePeriods, Node, Observer, PAGE_SIZE,
    PageRange, Sharing, Stop, StrategyKind, Variant, Vcpus, Verdict, Verdicts, WaitSource,
};

use crate::rig::{Rig, rights};

const PAGES: usize = 8;

/// A device that does not let go of a page. It does once a migration was aborted, or its stall was told.
#[derive(Default)]
struct Busy {
    lets_go: AtomicBool,
    deadlocks: AtomicU64,
    told: Mutex<Vec<String>>,
}

impl Consumer for Busy {
    fn name(&self) -> &str {
        "busy"
    }

    fn forget(&self, _: PageRange) {}

    fn is_quiet(&self, _: PageRange) -> bool {
        self.lets_go.load(Ordering::Relaxed)
    }
}

impl Observer for Busy {
    fn on(&self, event: &Event) {
        if let Event::Aborted { range, reason, .. } = *event {
            if reason == AbortReason::Deadlock {
                self.deadlocks
                    .fetch_add(range.pages.into(), Ordering::Relaxed);
            }
            self.lets_go.store(true, Ordering::Relaxed);
        }
    }

    fn on_verdict(&self, verdict: &Verdict) {
        self.told
            .lock()
            .expect("no panic")
            .push(verdict.to_string());
        match verdict {
            Verdict::Stall(stall) if stall.chain[0] == Node::Migration(0) => {
                self.lets_go.store(true, Ordering::Relaxed);
            }
            _ => {}
        }
    }
}

/// A guest whose vCPU 1 waits for a page of the migration, or does not wait.
struct Guest(Option<Node>);

impl WaitSource for Guest {
    fn edge(&self, waiter: Node) -> Edge {
        match waiter {
            Node::Vcpu(1) => Edge::new(1, self.0),
            _ => Edge::default(),
        }
    }
}

/// The device waits for vCPU 1, and that one for `vcpu_waits_for`, while pages move.
fn run(vcpu_waits_for: Option<Node>, stall: Duration) -> (Arc<Busy>, Counters, Verdicts) {
    let rig = Rig::new(PAGES, PAGES);
    let busy = Arc::new(Busy::default());
    let migrator = rig
        .builder()
        .observer(busy.clone())
        .wait_source(Arc::new(Guest(vcpu_waits_for)))
        // Nothing ends by its time.
        .patience(Duration::from_secs(3600))
        .build()
        .expect("sound");
    let bytes = (PAGES * PAGE_SIZE) as u64;
    let device = migrator
        .invalidations()
        .register(busy.clone(), 0, bytes, Sharing::Shared)
        .expect("a good range");
    let mut speaker = migrator.waits().waiter(device.node()).expect("free");
    let _request = speaker.wait_for(Node::Vcpu(1));
    let stop = Stop::new().expect("eventfd");
    let outcome = thread::scope(|scope| {
        let mut watchdog = migrator.watchdog().stall_after(stall);
        let stop = &stop;
        let watching = scope.spawn(move || watchdog.run(stop));
        let outcome = rig.run(&migrator, 1, PAGES, 100);
        stop.request().expect("eventfd");
        watching.join().expect("no panic");
        outcome
    });
    outcome.mover.as_ref().expect("it went on");
    outcome.assert_sound("watched");
    assert!(migrator.invalidations().laggards().is_empty());
    (busy, outcome.counters, migrator.verdicts())
}

#[test]
#[cfg_attr(no_userfaultfd, ignore = "this host has no userfaultfd for us")]
fn a_deadlock_is_named_and_ends_and_the_guest_goes_on() {
    if !rights() {
        return;
    }
    let (busy, counters, verdicts) = run(Some(Node::Migration(0)), Duration::from_secs(3600));
    assert_eq!(
        *busy.told.lock().expect("no panic"),
        [
            "deadlock: vCPU 1 waits for migration 0, which waits for consumer 0, which waits for vCPU 1; \
             migration 0 was asked to give up"
        ]
    );
    let expected = Verdicts {
        cycles: 1,
        members: 3,
        broken: 1,
        stalls: 0,
    };
    assert_eq!(verdicts, expected);
    assert_eq!(busy.deadlocks.load(Ordering::Relaxed), 1);
    let total = counters.total();
    assert_eq!((total.aborted, total.skipped), (1, 0));
    assert!(total.committed >= 99, "it went on: {total:?}");
}

/// vCPUs that cannot be stopped while the wait for one of them is not given up; none is left stopped.
#[derive(Default)]
struct Stubborn {
    asked: AtomicU64,
    gave_up: AtomicBool,
}

impl Vcpus for Stubborn {
    fn pause(&self) -> Result<(), Box<dyn Error + Send + Sync>> {
        Ok(())
    }

    fn pause_while(
        &self,
        goes_on: &mut dyn FnMut(u16) -> bool,
    ) -> Result<bool, Box<dyn Error + Send + Sync>> {
        // The first has stopped by then.
        while !self.gave_up.load(Ordering::Relaxed) {
            for vcpu in [0, 1] {
                self.asked.fetch_add(1, Ordering::Relaxed);
                if !goes_on(vcpu) {
                    self.gave_up.store(true, Ordering::Relaxed);
                    return Ok(false);
                }
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(true)
    }

    fn resume(&self) {
        assert!(self.gave_up.load(Ordering::Relaxed), "none was stopped");
    }
}

#[test]
#[cfg_attr(no_userfaultfd, ignore = "this host has no userfaultfd for us")]
fn the_wait_for_a_vcpu_to_stop_is_given_up_if_that_one_waits_for_it() {
    if !rights() {
        return;
    }
    let rig = Rig::new(PAGES, PAGES);
    let told = Arc::new(Busy::default());
    let vcpus = Arc::new(Stubborn::default());
    let migrator = rig
        .builder()
        .strategy(StrategyKind::StopWorld)
        .vcpus(vcpus.clone())
        .observer(told.clone())
        .wait_source(Arc::new(Guest(Some(Node::Migration(0)))))
        .build()
        .expect("sound");
    let stop = Stop::new().expect("eventfd");
    let mut mover = migrator.mover().expect("a mover");
    thread::scope(|scope| {
        let (mut watchdog, handler) = (migrator.watchdog(), migrator.handler());
        let stop = &stop;
        scope.spawn(move || watchdog.run(stop));
        scope.spawn(move || handler.run(stop).expect("served"));
        let moving = scope.spawn(|| mover.run(stop).expect("it went on"));
        let begun = Instant::now();
        while migrator.counters().total().committed < 100 && !moving.is_finished() {
            assert!(begun.elapsed() < Duration::from_secs(60), "it hangs");
            thread::sleep(Duration::from_millis(1));
        }
        stop.request().expect("eventfd");
    });
    let said = told.told.lock().expect("no panic");
    let expected = "deadlock: vCPU 1 waits for migration 0, which waits for vCPU 1; migration 0 was asked \
                    to give up";
    assert_eq!(*said, [expected]);
    assert!(vcpus.asked.load(Ordering::Relaxed) >= 2);
    assert_eq!(told.deadlocks.load(Ordering::Relaxed), 1);
    let total = migrator.counters().total();
    assert_eq!((total.aborted, total.skipped), (1, 0), "{total:?}");
}

/// A guest whose grace periods never end, though no reader waits for a page.
struct Endless;

impl GracePeriods for Endless {
    fn ask(&self, mover: u16) -> u64 {
        assert_eq!(mover, 0);
        1
    }

    fn is_over(&self, number: u64) -> bool {
        assert_eq!(number, 1);
        false
    }
}

#[test]
#[cfg_attr(no_userfaultfd, ignore = "this host has no userfaultfd for us")]
fn a_window_that_waits_for_readers_who_wait_for_nobody_is_a_stall_and_no_deadlock() {
    if !rights() {
        return;
    }
    let rig = Rig::new(PAGES, PAGES);
    let told = Arc::new(Busy::default());
    let migrator = rig
        .builder()
        .variant(Variant::WindowWaitsGracePeriod)
        .grace_periods(Arc::new(Endless))
        .observer(told.clone())
        .build()
        .expect("sound");
    let stop = Stop::new().expect("eventfd");
    let mut mover = migrator.mover().expect("a mover");
    thread::scope(|scope| {
        let mut watchdog = migrator.watchdog().stall_after(Duration::from_millis(20));
        let stop = &stop;
        scope.spawn(move || watchdog.run(stop));
        let moving = scope.spawn(|| mover.run(stop).expect("rolled back"));
        while migrator.counters().total().aborted == 0 && !moving.is_finished() {
            thread::sleep(Duration::from_millis(1));
        }
        stop.request().expect("eventfd");
    });
    let said = told.told.lock().expect("no panic");
    let stall = "stall: migration 0 waits for grace period 0, which waits for nobody, for ";
    assert!(said.iter().all(|text| text.starts_with(stall)), "{said:?}");
    assert!(!said.is_empty());
    let verdicts = migrator.verdicts();
    assert_eq!((verdicts.cycles, verdicts.broken), (0, 0));
    assert_eq!(told.deadlocks.load(Ordering::Relaxed), 0);
    let total = migrator.counters().total();
    assert!(total.aborted > 0 && total.committed == 0, "{total:?}");
}

#[test]
#[cfg_attr(no_userfaultfd, ignore = "this host has no userfaultfd for us")]
fn a_stall_is_told_and_nothing_is_aborted() {
    if !rights() {
        return;
    }
    let (busy, counters, verdicts) = run(None, Duration::from_millis(20));
    let told = busy.told.lock().expect("no panic");
    let [mover, device] = [
        "migration 0 waits for consumer 0, which waits for vCPU 1",
        "consumer 0 waits for vCPU 1",
    ]
    .map(|chain| format!("stall: {chain}, which waits for nobody, for "));
    let count = |of: &str| told.iter().filter(|text| text.starts_with(of)).count();
    assert_eq!(
        (count(&mover), count(&device), told.len()),
        (1, 1, 2),
        "{told:?}"
    );
    let expected = Verdicts {
        stalls: 2,
        ..Verdicts::default()
    };
    assert_eq!(verdicts, expected);
    assert_eq!(counters.total().aborted, 0);
}
