//! Every interleaving of a mover, a thread that touches its page, and the fault handler.
//!
//! The mover's [`Transaction`](crate::transaction::Transaction) and the handler's [`serve`] are the
//! real ones; the kernel is a model of one page-table entry and one sleeper ([`kernel`]).

mod grace;
mod kernel;
mod writes;

use std::convert::Infallible;

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;

use crate::counters::Counts;
use crate::page_word::{Lane, Leave, PageWord, serve};
use crate::transaction::Fatal;
use crate::{Phase, Served};

use kernel::{DATA, Kernel, Way, ZERO, try_migrate};

/// Moves the page once, if it can be claimed; returns the counters.
fn migrate(kernel: &Arc<Kernel>, word: &PageWord, now: u64, inject: Option<Phase>) -> Counts {
    let way = Way {
        inject,
        ..Way::default()
    };
    let (counters, end) = try_migrate(kernel, word, now, way);
    end.expect("nothing is lost");
    counters.total()
}

/// The handler's turn, after an event.
fn handle(kernel: &Kernel, word: &PageWord) {
    let fill = |source: Option<usize>| {
        let (contents, served) = match source {
            Some(address) => (kernel.old_frame(address), Served::Fetched),
            None => (ZERO, Served::Hole),
        };
        Ok(match kernel.fill(contents) {
            Ok(()) => served,
            Err(_) => Served::Present,
        })
    };
    let wake = || {
        kernel.wake();
        Ok::<_, Infallible>(())
    };
    let Ok(_) = serve(word, fill, wake);
}

/// A mover against a thread that touches the page; `contents` are there at first.
fn mover_and_fault(contents: Option<u8>, inject: Option<Phase>, handle: fn(&Kernel, &PageWord)) {
    loom::model(move || {
        let kernel = Kernel::with(contents);
        let word = Arc::new(PageWord::new(Lane::Blocking));
        let guest = {
            let (kernel, word) = (Arc::clone(&kernel), Arc::clone(&word));
            thread::spawn(move || {
                if kernel.touch() {
                    handle(&kernel, &word);
                }
            })
        };
        let counts = migrate(&kernel, &word, 100, inject);
        guest.join().expect("no panic");
        assert!(!kernel.is_asleep(), "who touched the page sleeps for ever");
        // Who was woken touches the page again: now it must be there.
        if kernel.touch() {
            handle(&kernel, &word);
        }
        let expected = contents.unwrap_or(ZERO);
        let left = kernel.contents();
        if contents.is_some() || left.is_some() {
            assert_eq!(left, Some(expected), "the contents were lost");
        }
        assert!(left.is_some(), "the hole was not filled");
        assert!(counts.add_up() && counts.attempted <= 1, "{counts:?}");
        assert!(word.is_movable(u64::MAX, 32), "the page can be moved again");
    });
}

#[test]
fn loom_mover_against_fault_on_a_present_page() {
    mover_and_fault(Some(DATA), None, handle);
}

#[test]
fn loom_mover_against_fault_on_a_hole() {
    mover_and_fault(None, None, handle);
}

#[test]
fn loom_abort_in_every_phase_against_fault() {
    for phase in [Phase::Claimed, Phase::Unmapped, Phase::Copied] {
        mover_and_fault(Some(DATA), Some(phase), handle);
        mover_and_fault(None, Some(phase), handle);
    }
}

#[test]
#[should_panic = "nothing is lost"]
fn loom_catches_a_handler_that_fills_without_a_claim() {
    mover_and_fault(Some(DATA), None, |kernel, _| {
        if kernel.fill(ZERO).is_err() {
            kernel.wake();
        }
    });
}

#[test]
#[should_panic = "sleeps for ever"]
fn loom_catches_a_handler_that_leaves_no_mark() {
    mover_and_fault(None, None, |kernel, word| {
        if word.is_movable(u64::MAX, 0) {
            handle(kernel, word);
        }
    });
}

#[test]
fn loom_a_lost_page_is_never_filled_nor_claimed() {
    loom::model(|| {
        let kernel = Kernel::with(Some(DATA));
        let word = Arc::new(PageWord::new(Lane::Blocking));
        let guest = {
            let (kernel, word) = (Arc::clone(&kernel), Arc::clone(&word));
            thread::spawn(move || {
                if kernel.touch() {
                    handle(&kernel, &word);
                }
            })
        };
        let broken = Way {
            inject: Some(Phase::Unmapped),
            broken: true,
            ..Way::default()
        };
        let (counters, end) = try_migrate(&kernel, &word, 100, broken);
        guest.join().expect("no panic");
        assert!(matches!(end, Err(Fatal::Lost { range, .. }) if range.pages == 1));
        assert_eq!((counters.lost_pages, counters.total().aborted), (1, 1));
        // Whoever touches it now, again or for the first time, sleeps and is not given zeroes.
        assert!(kernel.touch());
        handle(&kernel, &word);
        assert!(kernel.is_asleep() && kernel.contents().is_none());
        let (other, _) = try_migrate(&kernel, &word, u64::MAX, Way::default());
        assert_eq!(other.total().attempted, 0, "claimed by another mover");
    });
}

#[test]
fn loom_two_movers_move_a_page_once_and_then_it_rests() {
    loom::model(|| {
        let kernel = Kernel::with(Some(DATA));
        let word = Arc::new(PageWord::new(Lane::Blocking));
        let other = {
            let (kernel, word) = (Arc::clone(&kernel), Arc::clone(&word));
            thread::spawn(move || migrate(&kernel, &word, 100, None))
        };
        let mine = migrate(&kernel, &word, 100, None);
        let theirs = other.join().expect("no panic");
        // The stamp of the first is the real clock's, far after 100.
        assert_eq!(mine.committed + theirs.committed, 1);
        assert_eq!(kernel.contents(), Some(DATA));
    });
}

struct Owned {
    word: PageWord,
    frame: UnsafeCell<u32>,
}

// SAFETY: loom's cell checks that the claim keeps the accesses to it apart: that is the model.
unsafe impl Sync for Owned {}

#[test]
fn loom_a_claim_orders_what_its_owners_did() {
    loom::model(|| {
        let page = Arc::new(Owned {
            word: PageWord::new(Lane::Blocking),
            frame: UnsafeCell::new(0),
        });
        let own = |page: &Owned| {
            let claimed = page.word.try_claim(100, 0);
            if claimed {
                // SAFETY: the claim is exclusive; loom fails the model if it is not.
                page.frame.with_mut(|frame| unsafe { *frame += 1 });
                let waited = page.word.leave(Leave::Untouched);
                assert!(!waited, "nobody waits here");
            }
            u32::from(claimed)
        };
        let other = {
            let page = Arc::clone(&page);
            thread::spawn(move || own(&page))
        };
        let claims = own(&page) + other.join().expect("no panic");
        assert!(claims >= 1);
        // SAFETY: the other thread has ended.
        page.frame
            .with(|frame| assert_eq!(unsafe { *frame }, claims));
    });
}
