//! A guest that writes its page while that moves: no write is lost, whatever is copied when.

use super::kernel::{DATA, Kernel, Way, try_migrate};
use super::{Arc, Lane, PageWord, handle, thread};
use crate::{Phase, StrategyKind, Variant};

/// The mover against a guest that writes once; its write is there in the end.
fn mover_and_write(way: impl Fn() -> Way + Sync + Send + 'static) {
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

/// The ways that copy while the page is mapped.
const WAYS: [(StrategyKind, u32); 3] = [
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
    mover_and_write(|| way(0, Variant::NoProtect, None));
}

#[test]
#[should_panic = "a write was lost"]
fn loom_catches_a_commit_without_comparison() {
    mover_and_write(|| way(1, Variant::NoCompare, None));
}
