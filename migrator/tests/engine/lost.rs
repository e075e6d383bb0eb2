//! Pages whose old frames cannot be put back.

use std::cell::Cell;
use std::panic;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use underfoot_migrator::{
    Event, Handler, Inject, InjectAction, Migrator, MoverError, Observer, PAGE_SIZE, PageRange,
    Phase, Served, Stop,
};

use crate::rig::{Rig, holes, rights};

const PAGES: usize = 8;

thread_local! {
    /// The mapping that this thread's panic makes unfit for frames: address and length.
    static SABOTAGED: Cell<Option<(usize, usize)>> = const { Cell::new(None) };
}

/// Has a panic of this thread take away the rights to guest memory. The hook runs inside the window,
/// before anything is unwound; frames only move between mappings of the same rights, so that those in
/// limbo cannot come back.
fn sabotage(rig: &Rig) {
    SABOTAGED.set(Some((rig.base, rig.len())));
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |info| match SABOTAGED.take() {
        Some((base, len)) => {
            // SAFETY: guest memory of the rig of this test, which nobody touches meanwhile.
            let result = unsafe { libc::mprotect(base as *mut libc::c_void, len, libc::PROT_NONE) };
            assert_eq!(result, 0);
        }
        None => before(info),
    }));
}

#[derive(Default)]
struct Log {
    lost_faults: AtomicU64,
    other_faults: AtomicU64,
    aborted: Mutex<Vec<PageRange>>,
}

impl Observer for Log {
    fn on(&self, event: &Event) {
        match event {
            Event::Fault {
                served: Served::Lost,
                ..
            } => {
                self.lost_faults.fetch_add(1, Ordering::Relaxed);
            }
            Event::Fault { .. } => {
                self.other_faults.fetch_add(1, Ordering::Relaxed);
            }
            Event::Aborted { range, times, .. } => {
                assert!(times.window != 0 && times.window <= times.mapped);
                self.aborted.lock().expect("no panic").push(*range);
            }
            _ => {}
        }
    }
}

/// Loses one page; returns which.
fn lose_a_page(rig: &Rig, migrator: &Migrator, log: &Log) -> usize {
    let end = thread::scope(|scope| {
        let losing = scope.spawn(|| {
            sabotage(rig);
            let stop = Stop::new().expect("eventfd");
            migrator.mover().expect("a mover").run(&stop)
        });
        losing.join().expect("panics are caught")
    });
    assert!(matches!(end, Err(MoverError::Panicked { .. })), "{end:?}");
    rig.protect(libc::PROT_READ | libc::PROT_WRITE);
    let aborted = log.aborted.lock().expect("no panic");
    let [range] = aborted[..] else {
        panic!("one window was open: {aborted:?}");
    };
    assert_eq!(range.pages, 1);
    range.start.0 as usize
}

/// Runs another mover for a while, past the panic that awaits it.
fn move_the_rest(migrator: &Migrator) {
    let stop = Stop::new().expect("eventfd");
    let mut mover = migrator.mover().expect("a mover");
    thread::scope(|scope| {
        let moved = scope.spawn(|| {
            let first = mover.run(&stop);
            assert!(matches!(first, Err(MoverError::Panicked { .. })));
            mover.run(&stop)
        });
        while migrator.counters().total().committed < 500 && !moved.is_finished() {
            thread::yield_now();
        }
        stop.request().expect("eventfd");
        let end = moved.join().expect("panics are caught");
        end.expect("it ends when asked");
    });
}

#[test]
#[cfg_attr(no_userfaultfd, ignore = "this host has no userfaultfd for us")]
fn a_lost_page_is_never_filled_with_zeroes_nor_moved_again() {
    if !rights() {
        return;
    }
    let rig = Rig::new(PAGES, PAGES);
    let log = Arc::new(Log::default());
    let migrator = rig
        .builder()
        .observer(log.clone())
        .rest(Duration::ZERO)
        .inject(Inject {
            phase: Phase::Unmapped,
            nth: 1,
            on: false,
            action: InjectAction::Panic,
        })
        .build()
        .expect("sound");
    let lost = lose_a_page(&rig, &migrator, &log);
    assert_eq!(holes(rig.base, PAGES), [lost]);
    assert_eq!(migrator.counters().lost_pages, 1);
    assert!(!migrator.windows().is_open());
    let stop = Stop::new().expect("eventfd");
    let handler = migrator.handler();
    let toucher = thread::scope(|scope| {
        let served = scope.spawn(|| Handler::run(&handler, &stop));
        let address = rig.base + lost * PAGE_SIZE;
        // Not of this scope: it sleeps until the migrator is gone.
        let toucher = thread::spawn(move || {
            // SAFETY: an aligned word of the mapping, which outlives this thread.
            let word = unsafe { AtomicU64::from_ptr(address as *mut u64) };
            word.load(Ordering::Relaxed);
        });
        while log.lost_faults.load(Ordering::Relaxed) == 0
            && log.other_faults.load(Ordering::Relaxed) == 0
            && !served.is_finished()
        {
            thread::yield_now();
        }
        move_the_rest(&migrator);
        stop.request().expect("eventfd");
        served.join().expect("no panic").expect("faults served");
        toucher
    });
    assert_eq!(holes(rig.base, PAGES), [lost], "it was filled");
    assert!(!toucher.is_finished(), "who touched it went on");
    assert_eq!(log.other_faults.load(Ordering::Relaxed), 0);
    let counters = migrator.counters();
    assert!(counters.total().add_up(), "{counters:?}");
    assert_eq!(counters.lost_pages, 1);
    drop(handler);
    drop(migrator);
    toucher.join().expect("awake once the memory is ordinary");
}
