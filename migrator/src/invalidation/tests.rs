use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::{Gfn, PAGE_SIZE, PageRange, Variant};

const PAGES: u32 = 64;
const PAGE: u64 = PAGE_SIZE as u64;

/// A consumer that counts what it is asked, and does what it is told.
#[derive(Default)]
struct Witness {
    name: String,
    forgotten: AtomicU64,
    asked: AtomicU64,
    deaf: AtomicBool,
    panics: AtomicBool,
}

impl Witness {
    fn new(name: &str) -> Arc<Self> {
        Arc::new(Self {
            name: name.to_owned(),
            ..Self::default()
        })
    }

    fn forgotten(&self) -> u64 {
        self.forgotten.load(Ordering::Relaxed)
    }
}

impl Consumer for Witness {
    fn name(&self) -> &str {
        &self.name
    }

    fn forget(&self, _: PageRange) {
        assert!(!self.panics.load(Ordering::Relaxed), "told to panic");
        self.forgotten.fetch_add(1, Ordering::Relaxed);
    }

    fn is_quiet(&self, _: PageRange) -> bool {
        self.asked.fetch_add(1, Ordering::Relaxed);
        !self.deaf.load(Ordering::Relaxed)
    }
}

fn registry(tracking: Tracking, variant: Variant) -> Arc<Invalidations> {
    let memory = [
        PageRange::new(Gfn(0), PAGES),
        PageRange::new(Gfn(256), PAGES),
    ];
    let options = InvalidationOptions {
        tracking,
        variant,
        patience: Duration::from_millis(1),
        ..InvalidationOptions::default()
    };
    Arc::new(Invalidations::new(memory, options))
}

fn register(
    registry: &Arc<Invalidations>,
    consumer: &Arc<Witness>,
    range: PageRange,
) -> Subscription {
    let bytes = u64::from(range.pages) * PAGE;
    let consumer: Arc<Witness> = Arc::clone(consumer);
    registry
        .register(consumer, range.start.gpa(), bytes, Sharing::Shared)
        .expect("a good range")
}

fn pages(start: u64, pages: u32) -> PageRange {
    PageRange::new(Gfn(start), pages)
}

fn start(open: &Pin<&mut OpenRange<'_>>, range: PageRange) {
    open.as_ref().start(range).expect("acknowledged");
}

#[test]
fn a_change_is_seen_by_faults_of_its_range_and_by_others_only_if_the_space_counts() {
    for tracking in Tracking::ALL {
        let registry = registry(tracking, Variant::None);
        let (near, far) = (Witness::new("near"), Witness::new("far"));
        let [a, b] = [(&near, pages(4, 4)), (&far, pages(32, 4))]
            .map(|(witness, range)| register(&registry, witness, range));
        let begun = [&a, &b].map(|one| one.read_begin().expect("nothing is open"));
        let open = pin!(OpenRange::new(&registry));
        start(&open, pages(7, 3));
        let all = tracking == Tracking::Space;
        assert_eq!((a.is_open(), b.is_open()), (true, all), "{tracking}");
        assert_eq!((near.forgotten(), far.forgotten()), (1, 0), "{tracking}");
        assert_eq!(a.read_begin(), None, "{tracking}");
        open.end();
        assert_eq!((a.is_open(), b.is_open()), (false, false), "{tracking}");
        assert!(a.read_retry(begun[0]), "{tracking}");
        assert_eq!(b.read_retry(begun[1]), all, "{tracking}");
        let again = a.read_begin().expect("nothing is open");
        assert!(!a.read_retry(again), "{tracking}");
        assert_eq!(registry.unbalanced(), [], "{tracking}");
    }
}

#[test]
fn who_registers_in_the_midst_of_invalidations_sees_them_open_until_the_last_has_ended() {
    for tracking in Tracking::ALL {
        let registry = registry(tracking, Variant::None);
        let witness = Witness::new("late");
        let [first, second] = [(); 2].map(|()| Box::pin(OpenRange::new(&registry)));
        first.as_ref().start(pages(0, 8)).expect("nobody is there");
        second.as_ref().start(pages(4, 8)).expect("nobody is there");
        let late = register(&registry, &witness, pages(6, 1));
        assert_eq!(late.read_begin(), None, "{tracking}");
        first.end();
        assert_eq!(late.read_begin(), None, "{tracking}");
        // Another one in the place of the first is none of those that it waits for, but open too.
        first.as_ref().start(pages(6, 1)).expect("acknowledged");
        second.end();
        assert_eq!(late.read_begin(), None, "{tracking}");
        drop(first);
        assert!(late.read_begin().is_some(), "{tracking}");
        assert_eq!(registry.unbalanced(), [], "{tracking}");
        // A subscription that goes leaves nothing behind for the next one in its place.
        drop(late);
        let next = register(&registry, &witness, pages(6, 1));
        assert!(next.read_begin().is_some(), "{tracking}");
    }
}

/// What a busted form does where the right one does not: hand out a snapshot while an invalidation is
/// open, or call one good that is not.
fn is_wrong(tracking: Tracking, variant: Variant) -> bool {
    let registry = registry(tracking, variant);
    let witness = Witness::new("device");
    let [a, b] = [(); 2].map(|()| Box::pin(OpenRange::new(&registry)));
    let range = pages(3, 1);
    let start = |open: &Pin<Box<OpenRange<'_>>>| open.as_ref().start(range).expect("acknowledged");
    let subscription;
    let wrong = match variant {
        Variant::InvalidateUnmatched => {
            start(&a);
            subscription = register(&registry, &witness, range);
            a.end();
            start(&b);
            subscription.read_begin().is_some()
        }
        Variant::InvalidateClamp => {
            start(&a);
            subscription = register(&registry, &witness, range);
            start(&b);
            a.end();
            subscription.read_begin().is_some()
        }
        _ => {
            subscription = register(&registry, &witness, range);
            let snapshot = subscription.read_begin().expect("nothing is open");
            start(&a);
            a.end();
            !subscription.read_retry(snapshot)
        }
    };
    b.end();
    wrong
}

#[test]
fn each_busted_form_is_wrong_where_the_right_one_is_not() {
    let busted = [
        Variant::InvalidateUnmatched,
        Variant::InvalidateClamp,
        Variant::InvalidateNoSequence,
    ];
    for variant in busted {
        for tracking in [Tracking::Pool, Tracking::Stack] {
            assert!(is_wrong(tracking, variant), "{variant} with {tracking}");
        }
    }
    for tracking in Tracking::ALL {
        assert!(!is_wrong(tracking, Variant::None), "{tracking}");
    }
    // With a counter for the space there is no counter of a subscription's to go wrong.
    assert!(!is_wrong(Tracking::Space, Variant::InvalidateUnmatched));
    assert!(!is_wrong(Tracking::Space, Variant::InvalidateClamp));
    assert!(is_wrong(Tracking::Space, Variant::InvalidateNoSequence));
}

#[test]
fn an_unmatched_end_leaves_a_counter_of_minus_one() {
    let registry = registry(Tracking::Pool, Variant::InvalidateUnmatched);
    let witness = Witness::new("device");
    let open = pin!(OpenRange::new(&registry));
    start(&open, pages(3, 1));
    let _late = register(&registry, &witness, pages(3, 1));
    open.end();
    assert_eq!(registry.unbalanced(), [("device".into(), -1)]);
}

#[test]
fn an_exhausted_pool_counts_for_the_space_and_blocks_nobody() {
    let registry = registry(Tracking::Pool, Variant::None);
    let witness = Witness::new("device");
    let before = register(&registry, &witness, pages(60, 1));
    let slots = u64::from(InvalidationOptions::default().slots);
    let all: Vec<_> = (0..=slots)
        .map(|nth| {
            let open = Box::pin(OpenRange::new(&registry));
            open.as_ref().start(pages(nth, 1)).expect("acknowledged");
            // Only the one that found no slot is open for a range that it has nothing to do with.
            assert_eq!(before.is_open(), nth == slots, "{nth}");
            open
        })
        .collect();
    let late = register(&registry, &witness, pages(61, 1));
    assert_eq!((late.read_begin(), witness.forgotten()), (None, 0));
    all[slots as usize].end();
    assert!(late.read_begin().is_some() && before.read_begin().is_some());
}

#[test]
fn who_waits_for_a_slot_gets_one_or_counts_for_the_space_when_his_patience_is_over() {
    let options = InvalidationOptions {
        slots: 1,
        exhausted: Exhausted::Wait,
        patience: Duration::from_millis(20),
        ..InvalidationOptions::default()
    };
    let registry = Arc::new(Invalidations::new([pages(0, PAGES)], options));
    let witness = Witness::new("device");
    let far = register(&registry, &witness, pages(60, 1));
    let counts = |waited, fell_back| PoolCounts { waited, fell_back };
    // Inside of another one, by the one who holds the only slot: he would wait for himself.
    let (outer, inner) = (
        pin!(OpenRange::new(&registry)),
        pin!(OpenRange::new(&registry)),
    );
    start(&outer, pages(1, 1));
    assert!(!far.is_open());
    start(&inner, pages(2, 1));
    assert!(far.is_open(), "the space counts");
    assert_eq!(registry.pool_counts(), counts(1, 1));
    outer.end();
    inner.end();
    assert!(!far.is_open());
    // By somebody else: the slot comes.
    let patient = InvalidationOptions {
        patience: Duration::from_secs(60),
        ..options
    };
    let registry = Arc::new(Invalidations::new([pages(0, PAGES)], patient));
    let open = pin!(OpenRange::new(&registry));
    start(&open, pages(1, 1));
    std::thread::scope(|scope| {
        let other = scope.spawn(|| {
            let open = pin!(OpenRange::new(&registry));
            open.as_ref().start(pages(2, 1)).expect("nobody is there");
        });
        while registry.pool_counts().waited == 0 {
            std::thread::yield_now();
        }
        open.end();
        other.join().expect("no panic");
    });
    assert_eq!(registry.pool_counts(), counts(1, 0));
}

#[test]
fn a_consumer_that_never_acknowledges_is_named_and_bounded() {
    for tracking in Tracking::ALL {
        let registry = registry(tracking, Variant::None);
        let (deaf, good) = (Witness::new("deaf"), Witness::new("good"));
        deaf.deaf.store(true, Ordering::Relaxed);
        let subscription = register(&registry, &deaf, pages(8, 8));
        let _good = register(&registry, &good, pages(0, 64));
        let open = pin!(OpenRange::new(&registry));
        let error = open.as_ref().start(pages(8, 1)).expect_err("it never does");
        assert_eq!((&*error.consumer, error.range), ("deaf", pages(8, 1)));
        assert!(error.waited >= Duration::from_millis(1));
        let text = error.to_string();
        assert!(
            text.starts_with("deaf did not acknowledge the invalidation of gfn 0x8 and 1 pages")
        );
        assert!(
            subscription.is_open(),
            "the range is open until it is ended"
        );
        open.end();
        assert!(!subscription.is_open());
        start(&open, pages(1, 1));
        open.end();
        let laggards = registry.laggards();
        assert_eq!(laggards.len(), 1);
        assert_eq!((&*laggards[0].consumer, laggards[0].times), ("deaf", 1));
        assert_eq!(registry.unbalanced(), []);
        // It is still named when it has left, and when it has come back.
        drop(subscription);
        assert_eq!(registry.laggards(), laggards);
        let _again = register(&registry, &deaf, pages(8, 8));
        open.as_ref().start(pages(8, 1)).expect_err("it never does");
        open.end();
        let laggards = registry.laggards();
        assert_eq!((laggards.len(), laggards[0].times), (1, 2));
    }
}

#[test]
fn an_invalidation_ends_with_its_scope_also_by_a_panic() {
    for tracking in Tracking::ALL {
        let registry = registry(tracking, Variant::None);
        let witness = Witness::new("device");
        let subscription = register(&registry, &witness, pages(0, 64));
        {
            let open = pin!(OpenRange::new(&registry));
            start(&open, pages(1, 1));
            // A second start ends the first.
            start(&open, pages(2, 1));
            start(&open, pages(2, 0));
            assert!(!subscription.is_open(), "of no page");
            start(&open, pages(2, 1));
        }
        assert!(!subscription.is_open() && registry.unbalanced().is_empty());
        witness.panics.store(true, Ordering::Relaxed);
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            let open = pin!(OpenRange::new(&registry));
            let _ = open.as_ref().start(pages(1, 1));
        }));
        assert!(panicked.is_err());
        assert!(!subscription.is_open() && registry.unbalanced().is_empty());
        drop(subscription);
    }
}

#[test]
fn bad_ranges_are_refused_by_name_value_and_remedy() {
    let registry = registry(Tracking::Pool, Variant::None);
    let (nic, disk) = (Witness::new("nic"), Witness::new("disk"));
    let ask = |who: &Arc<Witness>, gpa, bytes, sharing| {
        let who: Arc<Witness> = Arc::clone(who);
        registry.register(who, gpa, bytes, sharing)
    };
    let _held = ask(&nic, 8 * PAGE, 8 * PAGE, Sharing::Shared).expect("good");
    let _exclusive = ask(&nic, 32 * PAGE, PAGE, Sharing::Exclusive).expect("good");
    let (shared, exclusive) = (Sharing::Shared, Sharing::Exclusive);
    let table = [
        (0, 0, shared, "nic: a range of 0 bytes at 0x0"),
        (
            1,
            PAGE,
            shared,
            "nic: 0x1000 bytes at 0x1 are not whole pages",
        ),
        (
            0,
            4097,
            shared,
            "nic: 0x1001 bytes at 0x0 are not whole pages",
        ),
        (
            63 * PAGE,
            2 * PAGE,
            shared,
            "0x40000 bytes at 0x0, 0x40000 bytes at 0x100000",
        ),
        (0, !4095, shared, "do not lie in one region"),
        (!4095, PAGE, shared, "do not lie in one region"),
        (
            8 * PAGE,
            8 * PAGE,
            shared,
            "nic has registered gfn 0x8 and 8 pages already",
        ),
        (8 * PAGE, 9 * PAGE, exclusive, "which nic has registered"),
        (32 * PAGE, 2 * PAGE, shared, "register both as shared"),
    ];
    for (gpa, bytes, sharing, text) in table {
        let error = ask(&nic, gpa, bytes, sharing).map(drop).expect_err(text);
        assert!(error.to_string().contains(text), "{error}");
    }
    let _same_pages = ask(&disk, 8 * PAGE, 8 * PAGE, shared).expect("both are shared");
    let left: Vec<_> = (0..MAX_SUBSCRIPTIONS as u64 - 3)
        .map(|nth| {
            let who = Witness::new(&format!("one of many, {nth}"));
            ask(&who, 0, PAGE, shared).expect("a place")
        })
        .collect();
    let full = ask(&disk, 0, PAGE, shared).map(drop).expect_err("no place");
    assert!(full.to_string().contains("all 64 subscriptions are taken"));
    drop(left);
    assert!(ask(&disk, 0, PAGE, shared).is_ok());
}

/// What happens to a registry.
#[derive(Clone, Debug)]
enum Step {
    Start(usize, u64, u32),
    End(usize),
    Register(usize, u64, u32),
    Drop(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let range = || (0..16u64, 1..5u32);
    prop_oneof![
        (0..4usize, range()).prop_map(|(who, (at, len))| Step::Start(who, at, len)),
        (0..4usize).prop_map(Step::End),
        (0..4usize, range()).prop_map(|(who, (at, len))| Step::Register(who, at, len)),
        (0..4usize).prop_map(Step::Drop),
    ]
}

proptest! {
    #[test]
    fn a_subscription_is_open_exactly_while_an_invalidation_of_its_range_is(
        steps in prop::collection::vec(step(), 0..60),
        tracking in prop::sample::select(Tracking::ALL.to_vec()),
    ) {
        let registry = registry(tracking, Variant::None);
        let opens: Vec<_> = (0..4).map(|_| Box::pin(OpenRange::new(&registry))).collect();
        let mut ranges = [None::<PageRange>; 4];
        let mut subscriptions: [Option<Subscription>; 4] = [const { None }; 4];
        for step in steps {
            match step {
                Step::Start(who, at, len) => {
                    opens[who].as_ref().start(pages(at, len)).expect("acknowledged");
                    ranges[who] = Some(pages(at, len));
                }
                Step::End(who) => {
                    opens[who].end();
                    ranges[who] = None;
                }
                Step::Register(who, at, len) if subscriptions[who].is_none() => {
                    let witness = Witness::new(&who.to_string());
                    subscriptions[who] = Some(register(&registry, &witness, pages(at, len)));
                }
                Step::Drop(who) => {
                    // It would wait for those that use it.
                    let is_used = subscriptions[who].as_ref().is_some_and(|one| {
                        ranges.iter().flatten().any(|range| range.overlaps(one.range()))
                    });
                    if !is_used {
                        subscriptions[who] = None;
                    }
                }
                Step::Register(..) => {}
            }
            for one in subscriptions.iter().flatten() {
                let right = ranges.iter().flatten().any(|range| {
                    tracking == Tracking::Space || range.overlaps(one.range())
                });
                prop_assert_eq!(one.is_open(), right);
                prop_assert_eq!(one.read_begin().is_some(), !right);
            }
        }
        drop(opens);
        prop_assert_eq!(registry.unbalanced(), []);
    }
}
