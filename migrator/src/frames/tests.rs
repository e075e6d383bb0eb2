//! The pool by itself: who gets frames, who pays, and when old ones come back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::{PAGE_SIZE, Variant, probe};
use proptest::prelude::*;

/// 0 to 1: reserve; to 2: min; to 4: low; to 8: high.
const OPTIONS: FrameOptions = FrameOptions {
    size: 16,
    reserve: 1,
    min: 2,
    low: 4,
    high: 8,
    placement: Placement::Anywhere,
    tries: 1,
    fallback: Fallback::Refill,
};

fn pool_of(
    options: FrameOptions,
    variant: Variant,
    grace: Option<Arc<dyn Grace>>,
) -> Option<FramePool> {
    if let Err(lack) = probe() {
        let required = std::env::var("UNDERFOOT_REQUIRE_KVM").is_ok_and(|value| value == "1");
        assert!(!required, "{lack}");
        return None;
    }
    let purpose = Purpose {
        batch: 1,
        limbo: 2,
        stride: 1,
        variant,
        grace,
    };
    Some(FramePool::new(options, purpose).expect("a pool"))
}

fn pool(variant: Variant) -> Option<FramePool> {
    pool_of(OPTIONS, variant, None)
}

fn take(pool: &FramePool, user: FrameUser, frames: u32) -> Option<Vec<u32>> {
    let mut taken = Vec::new();
    pool.take(user, frames, |slot| taken.push(slot))
        .then_some(taken)
}

#[test]
fn the_fast_path_leaves_min_and_the_slow_path_of_faults_alone_takes_the_reserve() {
    let Some(pool) = pool(Variant::None) else {
        return;
    };
    let (mover, fault) = (FrameUser::Mover, FrameUser::Fault);
    assert_eq!(take(&pool, mover, 14).map(|slots| slots.len()), Some(14));
    assert_eq!(pool.counters().free, 2);
    // Nothing can be refilled: all frames are taken. A mover gets what lies above the reserve.
    assert!(take(&pool, mover, 1).is_some());
    assert!(take(&pool, mover, 1).is_none());
    assert!(take(&pool, fault, 1).is_some());
    assert!(take(&pool, fault, 1).is_none());
    let counters = pool.counters();
    let expected = |fast, fell_back, slow, reserve| FrameCounts {
        fast,
        refused: fell_back,
        fell_back,
        slow,
        refills: fell_back,
        refilled: 0,
        reserve,
        short: 1,
    };
    assert_eq!(*counters.of(mover), expected(14, 2, 1, 0));
    assert_eq!(*counters.of(fault), expected(0, 2, 1, 1));
    assert_eq!((counters.lowest, counters.violations.total()), (0, 0));
}

#[test]
fn whoever_falls_back_recycles_old_frames_and_the_refiller_leaves_the_youngest() {
    let Some(pool) = pool(Variant::None) else {
        return;
    };
    let taken = take(&pool, FrameUser::Mover, 14).expect("enough");
    pool.retire(&taken);
    pool.refill_in_background();
    // Up to high.
    let counters = pool.counters();
    assert_eq!((counters.free, counters.background_refilled), (8, 6));
    take(&pool, FrameUser::Mover, 6).expect("above min");
    pool.refill_in_background();
    // Of eight in limbo the two youngest stay.
    assert_eq!(pool.counters().free, 8);
    take(&pool, FrameUser::Mover, 6).expect("above min");
    take(&pool, FrameUser::Fault, 1).expect("the youngest, if need be");
    let fault = *pool.counters().of(FrameUser::Fault);
    assert_eq!(
        (fault.refills, fault.refilled, fault.slow, fault.reserve),
        (1, 2, 1, 0)
    );
    assert_eq!(pool.counters().violations.total(), 0);
}

#[test]
fn frames_that_left_for_good_are_replaced_by_fresh_ones_up_to_the_size() {
    let Some(pool) = pool(Variant::None) else {
        return;
    };
    let taken = take(&pool, FrameUser::Fault, 12).expect("enough");
    pool.discard(&taken).expect("the kernel takes them");
    pool.refill_in_background();
    assert_eq!((pool.counters().fresh, pool.counters().free), (4, 8));
    let taken = take(&pool, FrameUser::Fault, 6).expect("enough");
    for &slot in &taken {
        // SAFETY: a frame that was just taken.
        unsafe { pool.address(slot).write_bytes(1, PAGE_SIZE) };
    }
    pool.refill_in_background();
    assert_eq!((pool.counters().fresh, pool.counters().free), (10, 8));
    pool.give_free(&taken);
    pool.refill_in_background();
    assert_eq!(pool.counters().fresh, 10, "enough");
}

#[derive(Default)]
struct Period {
    begun: AtomicU64,
    over: AtomicU64,
}

impl Grace for Period {
    fn begin(&self) -> u64 {
        self.begun.fetch_add(1, Ordering::Relaxed)
    }

    fn is_over(&self, ticket: u64) -> bool {
        ticket < self.over.load(Ordering::Relaxed)
    }
}

#[test]
fn old_frames_come_back_after_their_grace_period_and_no_sooner() {
    let period = Arc::new(Period::default());
    let Some(pool) = pool_of(OPTIONS, Variant::None, Some(period.clone())) else {
        return;
    };
    for _ in 0..7 {
        pool.retire(&take(&pool, FrameUser::Mover, 2).expect("above min"));
    }
    assert!(take(&pool, FrameUser::Mover, 2).is_none(), "none is over");
    period.over.store(3, Ordering::Relaxed);
    assert!(take(&pool, FrameUser::Mover, 5).is_some());
    let mover = *pool.counters().of(FrameUser::Mover);
    assert_eq!((mover.refilled, mover.short), (6, 1));
}

#[test]
fn a_write_to_an_old_frame_is_found_once_by_whoever_recycles_it() {
    let Some(pool) = pool(Variant::None) else {
        return;
    };
    let taken = take(&pool, FrameUser::Mover, 14).expect("enough");
    pool.retire(&taken);
    for slot in [taken[0], taken[13]] {
        // SAFETY: a full slot.
        unsafe { pool.address(slot).write(1) };
    }
    pool.refill_in_background();
    assert_eq!(pool.take_stale(), 1);
    assert_eq!(pool.audit(), 1);
    assert_eq!(pool.audit(), 0);
}

#[test]
fn each_broken_form_is_written_down_by_the_ledger() {
    for (variant, expected) in [
        (Variant::None, [false; 4]),
        (Variant::FramesTwice, [true, false, false, false]),
        (Variant::FramesReserve, [false, true, false, false]),
        (Variant::FramesUnpaid, [false, false, true, false]),
        (Variant::FramesReclaims, [false, false, false, true]),
    ] {
        let Some(pool) = pool(variant) else { return };
        // Half of them are kept, and must not be handed out again.
        for turn in 0..20 {
            let taken = take(&pool, FrameUser::Mover, 1);
            if let Some(taken) = taken.filter(|_| turn % 2 == 0) {
                pool.retire(&taken);
            }
        }
        take(&pool, FrameUser::Fault, 1);
        let FrameViolations {
            twice,
            reserve,
            unpaid,
            reclaimed,
        } = pool.counters().violations;
        let found = [twice, reserve, unpaid, reclaimed].map(|count| count > 0);
        assert_eq!(found, expected, "{variant}");
    }
}

#[test]
fn a_fault_may_leave_the_pool_alone_and_a_mover_may_try_more_than_once() {
    let options = FrameOptions {
        tries: 3,
        fallback: Fallback::Kernel,
        ..OPTIONS
    };
    let Some(pool) = pool_of(options, Variant::None, None) else {
        return;
    };
    take(&pool, FrameUser::Mover, 14).expect("enough");
    assert!(take(&pool, FrameUser::Fault, 1).is_none());
    assert!(take(&pool, FrameUser::Mover, 1).is_some());
    let [mover, fault] = pool.counters().users;
    assert_eq!((fault.refused, fault.fell_back, fault.refills), (1, 1, 0));
    assert_eq!((mover.refused, mover.fell_back, mover.refills), (3, 1, 1));
}

#[test]
fn a_node_that_is_not_there_is_refused() {
    let options = FrameOptions {
        placement: Placement::Node(63),
        ..OPTIONS
    };
    let purpose = Purpose {
        batch: 1,
        limbo: 2,
        stride: 1,
        variant: Variant::None,
        grace: None,
    };
    let error = FramePool::new(options, purpose)
        .err()
        .expect("no such node");
    assert!(error.to_string().contains("node 63"), "{error}");
    assert!(
        pool_of(
            FrameOptions {
                placement: Placement::Node(0),
                ..OPTIONS
            },
            Variant::None,
            None
        )
        .is_none_or(|pool| pool.counters().free == 16)
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn frames_are_conserved_and_no_rule_is_broken(steps in prop::collection::vec((0u8..6, 1u32..4), 0..60)) {
        let Some(pool) = pool(Variant::None) else { return Ok(()) };
        let mut mine: Vec<u32> = Vec::new();
        for (step, frames) in steps {
            let user = FrameUser::ALL[step as usize % 2];
            match step {
                0 | 1 => mine.extend(take(&pool, user, frames).unwrap_or_default()),
                2 => pool.give_free(&mine.split_off(mine.len().saturating_sub(frames as usize))),
                3 => pool.retire(&mine.split_off(mine.len().saturating_sub(frames as usize))),
                4 => pool.discard(&mine.split_off(mine.len().saturating_sub(frames as usize))).expect("discarded"),
                _ => pool.refill_in_background(),
            }
            let held = pool.held.load(Ordering::Relaxed);
            let counted = pool.free.count() + pool.limbo.count() + mine.len() as u64;
            prop_assert_eq!(held, counted as i64);
            prop_assert!(held <= 16);
        }
        let counters = pool.counters();
        prop_assert_eq!(counters.violations.total(), 0);
        for counts in counters.users {
            prop_assert_eq!(counts.refills, counts.fell_back, "who falls back pays");
        }
    }
}
