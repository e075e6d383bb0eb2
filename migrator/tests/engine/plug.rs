//! Blocks of guest memory that come and go while their pages move.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::interposer::{Call, Hit, Interposer, Rule};
use crate::rig::{Rig, rights};
use underfoot_migrator::{
    BLOCK_PAGES, BackendKind, Builder, FaultLock, Gfn, Migrator, PAGE_SIZE, PageRange, PlugError,
    Stop, StrategyKind, Variant,
};

const BLOCKS: u64 = 4;
const PAGES: usize = (BLOCKS * BLOCK_PAGES as u64) as usize;
/// Longer than any window here.
const PATIENCE: Duration = Duration::from_secs(30);

const REGISTER: Call = Call::Ioctl(0xc020_aa00);
const UNREGISTER: Call = Call::Ioctl(0x8010_aa01);

fn block(number: u64) -> PageRange {
    PageRange::new(Gfn(number * u64::from(BLOCK_PAGES)), BLOCK_PAGES)
}

/// One whose windows stay open for long.
fn away_for_long(rig: &Rig) -> Builder {
    rig.builder()
        .strategy(StrategyKind::Lazy)
        .prefetch_after(Duration::from_millis(20))
        .batch(512)
}

/// Runs `body` with the handlers at work.
fn served<R>(migrator: &Migrator, body: impl FnOnce() -> R) -> R {
    let stop = Stop::new().expect("eventfd");
    let handler = migrator.handler();
    thread::scope(|scope| {
        let serving = scope.spawn(|| handler.run(&stop));
        // A test that fails must end.
        let result = catch_unwind(AssertUnwindSafe(body));
        stop.request().expect("eventfd");
        serving.join().expect("no panic").expect("all were served");
        result.unwrap_or_else(|panic| resume_unwind(panic))
    })
}

#[test]
#[cfg_attr(no_userfaultfd, ignore = "this host has no userfaultfd for us")]
fn blocks_come_and_go_while_their_pages_move() {
    if !rights() {
        return;
    }
    for lock in FaultLock::ALL {
        for (strategy, backend, batch) in [
            (StrategyKind::UnmapCopy, BackendKind::Move, 7),
            (StrategyKind::Transactional, BackendKind::Move, 512),
            (StrategyKind::Lazy, BackendKind::Move, 64),
            (StrategyKind::Lazy, BackendKind::Copy, 512),
            (StrategyKind::ProtectCopy, BackendKind::Remap, 7),
        ] {
            let what = format!("{lock} {strategy} {backend}");
            let rig = Rig::fit(backend, PAGES);
            let migrator = rig
                .builder()
                .strategy(strategy)
                .backend(backend)
                .batch(batch)
                .uffds(2)
                .fault_lock(lock)
                .build()
                .expect("sound");
            let done = AtomicBool::new(false);
            let outcome = thread::scope(|scope| {
                let changes = scope.spawn(|| {
                    let mut changes = 0;
                    while !done.load(Ordering::Relaxed) || changes < BLOCKS {
                        // One block, or two that belong to different userfaultfds.
                        let range = match changes % (BLOCKS + 1) {
                            BLOCKS => PageRange::new(block(1).start, 2 * BLOCK_PAGES),
                            number => block(number),
                        };
                        migrator.unplug(range, PATIENCE).expect("plugged");
                        assert!(!migrator.is_plugged(range.start));
                        migrator.plug(range).expect("unplugged");
                        changes += 1;
                    }
                });
                let outcome = rig.run(&migrator, 2, PAGES, 6000);
                done.store(true, Ordering::Relaxed);
                changes.join().expect("no panic");
                outcome
            });
            outcome.mover.as_ref().expect("no error");
            outcome.assert_sound(&what);
            let counters = migrator.plug_counters();
            assert_eq!(counters.plugged, counters.unplugged, "{what}");
            assert_eq!((counters.in_use, counters.busy), (0, 0), "{what}");
            assert!((0..BLOCKS).all(|number| migrator.is_plugged(block(number).start)));
        }
    }
}

#[test]
#[cfg_attr(no_userfaultfd, ignore = "this host has no userfaultfd for us")]
fn what_is_unplugged_is_ordinary_memory_and_what_comes_back_is_as_it_was_left() {
    if !rights() {
        return;
    }
    for lock in FaultLock::ALL {
        let rig = Rig::new(PAGES, PAGES / 2);
        let migrator = rig.builder().fault_lock(lock).build().expect("sound");
        let faults = || rig.tally.faults.load(Ordering::Relaxed);
        let touch = |pages: std::ops::Range<usize>| {
            pages.for_each(|page| rig.word(page, 8).store(5, Ordering::Relaxed));
        };
        let pages = |number: usize| number * 512..(number + 1) * 512;
        // Nobody serves faults: the kernel does.
        migrator.unplug(block(3), PATIENCE).expect("plugged");
        touch(pages(3));
        migrator.unplug(block(0), PATIENCE).expect("plugged");
        assert!(rig.is_intact(7));
        let start = rig.base as *mut libc::c_void;
        // SAFETY: this rig's memory, which nobody else knows of; it is given back.
        let given = unsafe { libc::madvise(start, 100 * PAGE_SIZE, libc::MADV_DONTNEED) };
        assert_eq!(given, 0);
        migrator.plug(block(0)).expect("unplugged");
        migrator.plug(block(3)).expect("unplugged");
        // Counted once the handler has ended: it is told after the toucher was woken.
        served(&migrator, || touch(pages(3)));
        assert_eq!(faults(), 0, "populated meanwhile");
        served(&migrator, || touch(pages(0)));
        assert_eq!(faults(), 100, "discarded meanwhile");
        served(&migrator, || touch(pages(2)));
        assert_eq!(faults(), 100 + 512, "{lock}");
        assert!(rig.is_intact(107) && !rig.is_intact(7));
        // And they move: none is taken for a hole.
        let outcome = rig.run(&migrator, 1, 0, 3 * PAGES as u64);
        let total = outcome.counters.total();
        assert_eq!((total.skipped, total.aborted), (0, 0), "{lock}: {total:?}");
    }
}

#[test]
#[cfg_attr(no_userfaultfd, ignore = "this host has no userfaultfd for us")]
fn ranges_that_cannot_be_are_named_with_what_helps() {
    if !rights() {
        return;
    }
    let rig = Rig::new(PAGES + 3, 0);
    let migrator = rig.builder().build().expect("sound");
    let unplug = |start, pages| migrator.unplug(PageRange::new(Gfn(start), pages), PATIENCE);
    let end = PAGES as u64;
    unplug(end, 3).expect("the last block is shorter");
    unplug(512, 512).expect("a block");
    let plug = |start, pages| migrator.plug(PageRange::new(Gfn(start), pages));
    for (error, words) in [
        (unplug(0, 0), ["0 pages", "1 block of 512"]),
        (
            unplug(1, 512),
            ["gfn 0x1 and 512", "gfn 0x0 and 1024 pages"],
        ),
        (unplug(0, 100), ["100 pages", "gfn 0x0 and 512 pages"]),
        (unplug(end, 512), ["gfn 0x800", "a gap"]),
        (unplug(u64::MAX, 2), ["2 pages", "a gap"]),
        (
            unplug(0, 1024),
            ["the block at gfn 0x200 is not plugged", "plug it first"],
        ),
        (
            plug(0, 1024),
            ["the block at gfn 0x0 is plugged already", "unplug it"],
        ),
        (
            plug(512, 1024),
            ["the block at gfn 0x400 is plugged already", "leave it out"],
        ),
    ] {
        let message = error.expect_err("refused").to_string();
        for word in words {
            assert!(message.contains(word), "{message:?} lacks {word:?}");
        }
    }
    plug(512, 512).expect("as it was");
    plug(end, 3).expect("as it was");
    assert_eq!(migrator.plug_counters().unplugged, 2);
}

/// Asks for all memory until a window is open in it.
fn until_busy(migrator: &Migrator) -> PlugError {
    let all = PageRange::new(Gfn(0), PAGES as u32);
    let began = Instant::now();
    loop {
        match migrator.unplug(all, Duration::ZERO) {
            Err(error) => return error,
            Ok(()) => migrator.plug(all).expect("unplugged"),
        }
        assert!(began.elapsed() < PATIENCE, "no window was ever open");
    }
}

#[test]
#[cfg_attr(no_userfaultfd, ignore = "this host has no userfaultfd for us")]
fn a_window_that_stays_open_keeps_its_block_and_nothing_is_lost() {
    if !rights() {
        return;
    }
    let rig = Rig::new(PAGES, PAGES);
    let migrator = away_for_long(&rig).build().expect("sound");
    let outcome = thread::scope(|scope| {
        let busy = scope.spawn(|| until_busy(&migrator));
        let outcome = rig.run(&migrator, 1, PAGES, 6000);
        let message = busy.join().expect("no panic").to_string();
        assert!(message.contains("a window stayed open"), "{message}");
        outcome
    });
    outcome.mover.as_ref().expect("no error");
    outcome.assert_sound("busy");
    assert!(migrator.plug_counters().busy > 0);
}

#[test]
#[cfg_attr(no_userfaultfd, ignore = "this host has no userfaultfd for us")]
fn windows_that_keep_nothing_are_caught() {
    if !rights() {
        return;
    }
    let rig = Rig::new(PAGES, PAGES);
    let migrator = away_for_long(&rig)
        .variant(Variant::WindowUnlocked)
        .build()
        .expect("sound");
    let stop = Stop::new().expect("eventfd");
    let mut mover = migrator.mover().expect("a mover");
    let all = PageRange::new(Gfn(0), PAGES as u32);
    served(&migrator, || {
        thread::scope(|scope| {
            let moving = scope.spawn(|| mover.run(&stop));
            while !moving.is_finished() {
                match migrator.unplug(all, Duration::ZERO) {
                    Ok(()) => migrator.plug(all).expect("unplugged"),
                    Err(PlugError::InUse { pages, .. }) => {
                        assert!(pages > 0);
                        break;
                    }
                    Err(error) => panic!("nobody keeps it: {error}"),
                }
            }
            stop.request().expect("eventfd");
            // A page of it may have lain in memory that was not registered: what it says of that is not asked here.
            let _ = moving.join().expect("panics are caught");
        });
    });
    assert!(migrator.plug_counters().in_use > 0);
}

#[test]
#[cfg_attr(no_userfaultfd, ignore = "this host has no userfaultfd for us")]
fn what_the_kernel_refuses_leaves_all_as_it_was() {
    if !rights() {
        return;
    }
    // Two parts, so that each call of ours is two of the kernel's; the second fails.
    let all = PageRange::new(Gfn(0), PAGES as u32);
    for (call, spared, words) in [
        (UNREGISTER, 1, "does not unregister"),
        (REGISTER, 1, "does not register"),
    ] {
        let rig = Rig::new(PAGES, PAGES);
        let migrator = rig.builder().uffds(2).build().expect("sound");
        let rule = Rule {
            call,
            hit: Hit::Errno(libc::ENOMEM),
            spared,
            burst: 1,
        };
        let interposer = Interposer::new(rule, 1);
        let plugs = call == REGISTER;
        if plugs {
            migrator.unplug(all, PATIENCE).expect("plugged");
        }
        thread::scope(|scope| {
            let changing = scope.spawn(|| {
                interposer.enter();
                match plugs {
                    true => migrator.plug(all),
                    false => migrator.unplug(all, PATIENCE),
                }
            });
            let error = changing.join().expect("no panic").expect_err("refused");
            assert!(error.to_string().contains(words), "{error}");
        });
        assert_eq!(migrator.is_plugged(Gfn(0)), !plugs);
        if plugs {
            migrator.plug(all).expect("as it was");
        }
        let outcome = rig.run(&migrator, 2, PAGES, 3000);
        outcome.mover.as_ref().expect("no error");
        outcome.assert_sound(words);
    }
}
