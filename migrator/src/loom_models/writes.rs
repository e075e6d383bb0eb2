//! A guest that writes its page while that moves: no write is lost, whatever is copied when.

use super::kernel::{DATA, Kernel, Way, ZERO, try_migrate};
use std::convert::Infallible;

use super::{Arc, Lane, Leave, PageWord, handle, serve, thread};
use crate::page_word::Populate;
use crate::{Phase, Served, StrategyKind, Variant};

/// The mover against a guest that writes once; its write is there in the end.
fn mover_and_write(way: impl Fn() -> Way + Sync + Send + 'static) {
    mover_and_write_served(way, handle);
}

fn mover_and_write_served(
    way: impl Fn() -> Way + Sync + Send + 'static,
    handle: fn(&Kernel, &PageWord),
) {
    loom::model(move || {
        let kernel = Kernel::with(Some(DATA));
        let word = Arc::new(PageWord::new(Lane::Blocking));
        let guest = {
            let (kernel, word) = (Arc::clone(&kernel), Arc::clone(&word));
            thread::spawn(move || {
                let sleeps = kernel.write();
                if sleeps {
                    handle(&kernel, &word);
                }
                !sleeps
            })
        };
        let (counters, end) = try_migrate(&kernel, &word, 100, way());
        end.expect("nothing is lost");
        let written = guest.join().expect("no panic");
        assert!(!kernel.is_asleep(), "who wrote the page sleeps for ever");
        if !written {
            assert!(!kernel.write(), "the page stays out of reach");
        }
        assert_eq!(kernel.contents(), Some(DATA + 1), "a write was lost");
        assert!(counters.total().add_up());
        assert_eq!(counters.total().attempted, 1);
    });
}

/// The ways that copy while the page is mapped, or after it went.
const WAYS: [(StrategyKind, u32); 4] = [
    (StrategyKind::Lazy, 1),
    (StrategyKind::ProtectCopy, 1),
    (StrategyKind::Transactional, 1),
    (StrategyKind::Transactional, 0),
];

fn way(nth: usize, variant: Variant, inject: Option<Phase>) -> Way {
    let (strategy, compared_unmapped) = WAYS[nth];
    Way {
        strategy,
        variant,
        compared_unmapped,
        inject,
        ..Way::default()
    }
}

#[test]
fn loom_a_write_during_the_copy_is_not_lost() {
    for nth in 0..WAYS.len() {
        mover_and_write(move || way(nth, Variant::None, None));
    }
}

#[test]
fn loom_a_write_before_an_abort_is_not_lost() {
    for (nth, (strategy, _)) in WAYS.into_iter().enumerate() {
        for &phase in strategy.phases() {
            mover_and_write(move || way(nth, Variant::None, Some(phase)));
        }
    }
}

#[test]
#[should_panic = "a write was lost"]
fn loom_catches_a_copy_without_protection() {
    mover_and_write(|| way(1, Variant::NoProtect, None));
}

#[test]
#[should_panic = "a write was lost"]
fn loom_catches_a_commit_without_comparison() {
    mover_and_write(|| way(2, Variant::NoCompare, None));
}

#[test]
#[should_panic = "a write was lost"]
fn loom_catches_a_handler_that_takes_a_page_that_is_away_for_a_hole() {
    mover_and_write_served(
        || way(0, Variant::None, None),
        |kernel, word| {
            let fill = |_| {
                let filled = kernel.fill(ZERO);
                Ok(filled.map_or(Served::Present, |()| Served::Fetched))
            };
            let wake = || {
                kernel.wake();
                Ok::<_, Infallible>(())
            };
            let Ok(_) = serve(word, fill, wake);
        },
    );
}

#[test]
#[should_panic = "is gone was read"]
fn loom_catches_a_mover_that_does_not_wait_for_the_handler() {
    mover_and_write_served(
        || way(0, Variant::None, None),
        |kernel, word| {
            // Claims the page, and forgets that before it has copied it.
            if let Populate::Away(address) = word.begin_populate() {
                let _ = word.end_populate(Leave::Idle(0));
                thread::yield_now();
                let _ = kernel.fill(kernel.old_frame(address));
            }
        },
    );
}
