//! Each busted variant is caught by the check meant for it, and by no other.

use std::time::Duration;

use crate::rig::{Outcome, RECYCLING, Rig, rights};
use underfoot_migrator::{BackendKind, BuildError, StrategyKind, Variant, can_verify};

fn run(variant: Variant, backend: BackendKind) -> Outcome {
    run_batches(variant, backend, 1)
}

fn run_batches(variant: Variant, backend: BackendKind, batch: u32) -> Outcome {
    let strategy = match backend {
        BackendKind::Remap => StrategyKind::ProtectCopy,
        _ => StrategyKind::UnmapCopy,
    };
    run_strategy(strategy, variant, backend, batch)
}

fn run_strategy(
    strategy: StrategyKind,
    variant: Variant,
    backend: BackendKind,
    batch: u32,
) -> Outcome {
    let rig = Rig::fit(backend, 64);
    let migrator = rig
        .builder()
        .strategy(strategy)
        .variant(variant)
        .backend(backend)
        .limbo(32)
        .batch(batch)
        .rest(Duration::ZERO)
        .build()
        .expect("sound");
    let goal = if batch == 1 { 3000 } else { 20_000 };
    let outcome = rig.run(&migrator, 1, 64, goal);
    outcome.mover.as_ref().expect("busted forms run");
    outcome.assert_counts(variant.name());
    outcome
}

#[test]
#[cfg_attr(no_userfaultfd, ignore = "this host has no userfaultfd for us")]
fn no_unmap_loses_updates() {
    if rights() {
        let outcome = run(Variant::NoUnmap, BackendKind::Move);
        assert!(outcome.lost > 0);
        assert_eq!(outcome.counters.integrity_errors(), 0);
    }
}

#[test]
#[cfg_attr(no_userfaultfd, ignore = "this host has no userfaultfd for us")]
fn what_a_strategy_leaves_out_loses_updates() {
    if rights() {
        for (strategy, variant) in [
            (StrategyKind::ProtectCopy, Variant::NoProtect),
            (StrategyKind::Transactional, Variant::NoCompare),
            (StrategyKind::Lazy, Variant::ZeroFill),
        ] {
            for batch in [1, 32] {
                let backend = strategy.default_backend();
                let outcome = run_strategy(strategy, variant, backend, batch);
                assert!(outcome.lost > 0, "{variant} {batch}");
                assert_eq!(outcome.counters.integrity_errors(), 0);
            }
        }
    }
}

#[test]
#[cfg_attr(no_userfaultfd, ignore = "this host has no userfaultfd for us")]
fn stale_frames_are_seen_in_limbo() {
    if rights() {
        for backend in RECYCLING {
            let outcome = run(Variant::StaleFrame, backend);
            assert_eq!((outcome.lost, outcome.torn), (0, 0));
            // Each window left one, and the last audit finds those that were not recycled.
            assert_eq!(outcome.counters.stale_writes, outcome.counters.windows);
            assert_eq!(outcome.counters.same_frames, 0);
            // Of large batches a sample is checked: it finds one stale frame in a window over time.
            for batch in [32, 512] {
                let counters = run_batches(Variant::StaleFrame, backend, batch).counters;
                let found = counters.stale_writes;
                assert!((1..counters.windows).contains(&found), "{batch}: {found}");
                assert_eq!(counters.integrity_errors(), found);
            }
        }
    }
}

#[test]
#[cfg_attr(no_userfaultfd, ignore = "this host has no userfaultfd for us")]
fn same_frames_are_seen_by_their_numbers() {
    if rights() && can_verify().is_ok() {
        for backend in RECYCLING {
            let outcome = run(Variant::SameFrame, backend);
            assert_eq!((outcome.lost, outcome.torn), (0, 0));
            assert!(outcome.counters.same_frames > 0);
            assert_eq!(outcome.counters.total().verified, 0);
            assert_eq!(outcome.counters.stale_writes, 0);
        }
    }
}

#[test]
#[cfg_attr(no_userfaultfd, ignore = "this host has no userfaultfd for us")]
fn torn_copies_are_seen_in_the_contents() {
    if rights() {
        let outcome = run(Variant::TornCopy, BackendKind::Move);
        assert!(outcome.torn > 0 && outcome.lost > 0);
        assert_eq!(outcome.counters.integrity_errors(), 0);
    }
}

#[test]
#[cfg_attr(no_userfaultfd, ignore = "this host has no userfaultfd for us")]
fn what_could_not_be_caught_is_refused() {
    for variant in [Variant::NoUnmap, Variant::TornCopy] {
        let refused = Rig::new(1, 1)
            .builder()
            .backend(BackendKind::Copy)
            .variant(variant)
            .build()
            .err();
        assert!(matches!(refused, Some(BuildError::Unsound { .. })));
    }
}
