//! Random sequences: those that agree on one order, and those that do not.

use super::script::play;
use proptest::{collection::vec, prelude::*, sample::subsequence};
use std::fmt::Write;

const CLASSES: usize = 7;

/// A thread takes `classes` in this order, and lets them go in another.
fn nest(script: &mut String, thread: usize, classes: &[usize], reverse: bool) {
    for class in classes {
        write!(script, "{thread}:c{class} ").expect("memory");
    }
    let mut release = classes.to_vec();
    if reverse {
        release.reverse();
    }
    for class in release {
        write!(script, "{thread}:-c{class} ").expect("memory");
    }
}

/// Classes in the order of some ranks: each stretch takes some of them, at least one.
fn agreed() -> impl Strategy<Value = Vec<(usize, Vec<usize>, bool)>> {
    Just((0..CLASSES).collect::<Vec<_>>())
        .prop_shuffle()
        .prop_flat_map(|order| vec((0..4_usize, subsequence(order, 1..5), any::<bool>()), 1..12))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn one_order_of_all_is_never_accused(stretches in agreed()) {
        let mut script = String::new();
        for (thread, classes, reverse) in &stretches {
            nest(&mut script, *thread, classes, *reverse);
        }
        prop_assert!(play(&script).is_empty(), "{}", script);
    }

    /// `known` says which pairs were seen in which order, however far apart.
    #[test]
    fn an_inversion_of_two_orders_is_accused(
        stretches in agreed(),
        pick in any::<prop::sample::Index>(),
        ends in (any::<prop::sample::Index>(), any::<prop::sample::Index>()),
    ) {
        let mut script = String::new();
        for (thread, classes, reverse) in &stretches {
            nest(&mut script, *thread, classes, *reverse);
        }
        let seen = &stretches[pick.index(stretches.len())].1;
        prop_assume!(seen.len() > 1);
        let late = 1 + ends.0.index(seen.len() - 1);
        let early = ends.1.index(late);
        nest(&mut script, 3, &[seen[late], seen[early]], true);
        let found = play(&script);
        prop_assert_eq!(found.len(), 1, "{}", script);
        let order = format!("order c{} -> c{} contradicts", seen[late], seen[early]);
        prop_assert!(found[0].1.starts_with(&order), "{}: {}", script, found[0].1);
    }

    /// Compared with the definition: some class can be reached from itself along the pairs seen.
    #[test]
    fn any_orders_are_judged_as_their_graph_is(
        stretches in vec((0..4_usize, Just((0..CLASSES).collect::<Vec<_>>()).prop_shuffle(), 1..4_usize), 1..7),
    ) {
        let mut script = String::new();
        let mut reach = [[false; CLASSES]; CLASSES];
        for (thread, classes, count) in &stretches {
            let taken = &classes[..*count];
            nest(&mut script, *thread, taken, true);
            for pair in taken.windows(2) {
                reach[pair[0]][pair[1]] = true;
            }
        }
        for via in 0..CLASSES {
            for from in 0..CLASSES {
                for to in 0..CLASSES {
                    reach[from][to] |= reach[from][via] && reach[via][to];
                }
            }
        }
        let cyclic = (0..CLASSES).any(|class| reach[class][class]);
        prop_assert_eq!(!play(&script).is_empty(), cyclic, "{}", script);
    }
}
