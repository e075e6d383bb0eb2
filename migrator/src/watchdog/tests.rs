use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::Node::{Change, Consumer, FramePool, GracePeriod, Handler, Migration, Vcpu};
use super::*;

fn graph() -> Arc<WaitGraph> {
    Arc::new(WaitGraph::new(Members::default(), []))
}

/// Speaks for the first of each pair, which waits for the second, for as long as `look` takes.
fn with_edges<R>(graph: &Arc<WaitGraph>, edges: &[(Node, Node)], look: impl FnOnce() -> R) -> R {
    let mut waiters: Vec<_> = edges
        .iter()
        .map(|(from, _)| graph.waiter(*from).expect("nobody speaks twice"))
        .collect();
    let to = edges.iter().map(|(_, to)| *to);
    let waits: Vec<_> = waiters
        .iter_mut()
        .zip(to)
        .map(|(waiter, to)| waiter.wait_for(to))
        .collect();
    let result = look();
    drop(waits);
    result
}

#[test]
fn cycles_are_named_member_by_member_and_broken_at_a_migration() {
    type Case<'a> = (&'a [(Node, Node)], &'a [&'a str], &'a [Option<Node>]);
    let cases: [Case<'_>; 8] = [
        (&[], &[], &[]),
        // A chain, however long, is no cycle.
        (
            &[
                (Vcpu(0), Migration(0)),
                (Migration(0), FramePool(0)),
                (FramePool(0), GracePeriod(0)),
            ],
            &[],
            &[],
        ),
        // Q1a: a reader waits for its page, whose migration waits for the readers.
        (
            &[
                (Vcpu(0), Migration(1)),
                (Migration(1), GracePeriod(0)),
                (GracePeriod(0), Vcpu(0)),
            ],
            &[
                "vCPU 0 waits for migration 1, which waits for grace period 0, which waits for vCPU 0",
            ],
            &[Some(Migration(1))],
        ),
        // One that waits for itself.
        (
            &[(Migration(3), Migration(3))],
            &["migration 3 waits for migration 3"],
            &[Some(Migration(3))],
        ),
        // Who waits for a cycle is not in it.
        (
            &[
                (Vcpu(0), Vcpu(1)),
                (Vcpu(1), Migration(0)),
                (Migration(0), Consumer(5)),
                (Consumer(5), Migration(0)),
            ],
            &["migration 0 waits for consumer 5, which waits for migration 0"],
            &[Some(Migration(0))],
        ),
        // Two at once, and one of them is the guest's own.
        (
            &[
                (Vcpu(2), Vcpu(3)),
                (Vcpu(3), Vcpu(2)),
                (Migration(7), Handler(0)),
                (Handler(0), Migration(7)),
            ],
            &[
                "vCPU 2 waits for vCPU 3, which waits for vCPU 2",
                "migration 7 waits for fault handler 0, which waits for migration 7",
            ],
            &[None, Some(Migration(7))],
        ),
        // Two migrations: one is enough.
        (
            &[
                (Migration(0), FramePool(0)),
                (FramePool(0), Migration(1)),
                (Migration(1), FramePool(1)),
                (FramePool(1), Migration(0)),
            ],
            &[
                "migration 0 waits for frame pool 0, which waits for migration 1, which waits for \
                 frame pool 1, which waits for migration 0",
            ],
            &[Some(Migration(0))],
        ),
        // A node that the graph does not have waits for nobody.
        (&[(Vcpu(0), Vcpu(64)), (Vcpu(1), Vcpu(65))], &[], &[]),
    ];
    for (edges, expected, aborts) in cases {
        let graph = graph();
        let found = with_edges(&graph, edges, || graph.find_cycles());
        let named: Vec<_> = found.iter().map(ToString::to_string).collect();
        assert_eq!(named, expected, "{edges:?}");
        let asked: Vec<_> = found.iter().map(|cycle| graph.break_cycle(cycle)).collect();
        assert_eq!(asked, aborts, "{edges:?}");
        assert!(graph.find_cycles().is_empty(), "nobody waits any more");
    }
}

#[test]
fn the_wait_in_the_cycle_is_aborted_and_no_later_one() {
    let graph = graph();
    let mut migration = graph.waiter(Migration(0)).expect("free");
    let mut vcpu = graph.waiter(Vcpu(0)).expect("free");
    let _reader = vcpu.wait_for(Migration(0));
    let waiting = migration.wait_for(Vcpu(0));
    assert!(!waiting.is_aborted());
    let cycle = graph.find_cycles().pop().expect("closed");
    assert_eq!(graph.break_cycle(&cycle), Some(Migration(0)));
    assert!(waiting.is_aborted());
    drop(waiting);
    let again = migration.wait_for(Vcpu(0));
    assert!(!again.is_aborted(), "the request was for the last wait");
    // One that comes too late.
    drop(again);
    assert_eq!(graph.break_cycle(&cycle), Some(Migration(0)));
    assert!(!migration.wait_for(Vcpu(0)).is_aborted());
}

#[test]
fn one_speaks_for_a_node_that_there_is() {
    let graph = graph();
    let first = graph.waiter(Handler(0)).expect("free");
    let refused = graph.waiter(Handler(0)).expect_err("taken");
    assert_eq!(
        refused.to_string(),
        "fault handler 0 has a waiter already; drop that one first"
    );
    drop(first);
    drop(graph.waiter(Handler(0)).expect("free again"));
    let outside = graph.waiter(Handler(8)).expect_err("8 are numbered 0 to 7");
    assert_eq!(
        outside.to_string(),
        "the wait-for graph has no fault handler 8; it has 8 of that kind (Members)"
    );
}

/// What a guest says.
struct Told(Mutex<Vec<(Node, Edge)>>);

impl WaitSource for Told {
    fn edge(&self, waiter: Node) -> Edge {
        let told = self.0.lock().expect("no panic");
        let of = told.iter().find(|(node, _)| *node == waiter);
        of.map(|(_, edge)| *edge).unwrap_or_default()
    }
}

#[test]
fn edges_that_somebody_else_knows_close_cycles() {
    let told = Arc::new(Told(Mutex::default()));
    let graph = Arc::new(WaitGraph::new(
        Members::default(),
        [Arc::clone(&told) as Arc<dyn WaitSource>],
    ));
    let mut migration = graph.waiter(Migration(0)).expect("free");
    let wait = migration.wait_for(GracePeriod(0));
    let say = |edges: &[(Node, Edge)]| *told.0.lock().expect("no panic") = edges.to_vec();
    say(&[(GracePeriod(0), Edge::new(1, Some(Vcpu(1))))]);
    assert!(graph.find_cycles().is_empty());
    say(&[
        (GracePeriod(0), Edge::new(1, Some(Vcpu(1)))),
        (Vcpu(1), Edge::new(9, Some(Migration(0)))),
    ]);
    let found = graph.find_cycles();
    assert_eq!(
        found.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["vCPU 1 waits for migration 0, which waits for grace period 0, which waits for vCPU 1"]
    );
    assert_eq!(graph.break_cycle(&found[0]), Some(Migration(0)));
    assert!(wait.is_aborted());
    // A kind that there is not is no edge.
    say(&[(GracePeriod(0), Edge::from_word(0xff_0001))]);
    assert!(graph.find_cycles().is_empty());
}

#[test]
fn a_stall_is_no_cycle_and_is_told_once() {
    let graph = graph();
    let (start, patience) = (Instant::now(), Duration::from_millis(100));
    let mut stalls = Stalls::new(patience);
    let edges = [
        (Vcpu(0), Migration(0)),
        (Migration(0), Consumer(2)),
        // In a cycle, and one that waits for it: not stalls.
        (Vcpu(1), Vcpu(2)),
        (Vcpu(2), Vcpu(1)),
        (Vcpu(3), Vcpu(1)),
    ];
    let mut looks = |after: u32| {
        let found = stalls.look(&graph, start + patience * after / 2);
        found.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let none: [&str; 0] = [];
    with_edges(&graph, &edges, || {
        assert_eq!(looks(0), none);
        assert_eq!(looks(1), none);
        assert_eq!(
            looks(2),
            [
                "vCPU 0 waits for migration 0, which waits for consumer 2, which waits for nobody, for \
                 100ms",
                "migration 0 waits for consumer 2, which waits for nobody, for 100ms"
            ]
        );
        assert_eq!(looks(9), none);
    });
    // The same edges again are others: their time begins anew.
    with_edges(&graph, &edges, || {
        assert_eq!(looks(10), none);
        assert_eq!(looks(11), none);
        assert_eq!(looks(12).len(), 2);
    });
}

#[test]
fn edges_are_words_and_back() {
    let nodes = [
        None,
        Some(Vcpu(0)),
        Some(Migration(1)),
        Some(FramePool(u16::MAX)),
        Some(GracePeriod(3)),
        Some(Consumer(63)),
        Some(Handler(7)),
        Some(Change(0)),
    ];
    let mut words = BTreeSet::new();
    let mut last = Edge::default();
    for to in nodes.into_iter().cycle().take(16) {
        last = last.next(to);
        assert_eq!(last.to(), to);
        assert_eq!(Edge::from_word(last.word()), last);
        assert!(words.insert(last.word()), "each edge has a word of its own");
    }
    assert_eq!(Edge::new(u64::MAX, None).next(None), Edge::new(0, None));
}

const NODES: u16 = 12;

/// The members of cycles, as a set for each, by a way of its own: who comes back to itself.
fn plain_cycles(to: &[Option<u16>]) -> BTreeSet<BTreeSet<u16>> {
    let around = |start: u16| {
        let mut visited = BTreeSet::new();
        let mut at = start;
        for _ in 0..NODES {
            visited.insert(at);
            at = to[usize::from(at)]?;
            if at == start {
                return Some(visited);
            }
        }
        None
    };
    (0..NODES).filter_map(around).collect()
}

proptest! {
    #[test]
    fn the_cycles_are_those_of_a_plain_graph(
        to in prop::collection::vec(prop::option::of(0..NODES), usize::from(NODES)),
    ) {
        let graph = graph();
        let edges: Vec<_> = (0..NODES)
            .filter_map(|from| Some((Migration(from), Migration(to[usize::from(from)]?))))
            .collect();
        let found = with_edges(&graph, &edges, || graph.find_cycles());
        let sets: Vec<BTreeSet<u16>> = found
            .iter()
            .map(|cycle| cycle.members().map(|node| node.parts().1).collect())
            .collect();
        let unique: BTreeSet<_> = sets.iter().cloned().collect();
        prop_assert_eq!(unique.len(), sets.len(), "each is found once");
        prop_assert_eq!(unique, plain_cycles(&to));
        for cycle in found {
            let members: Vec<_> = cycle.members().map(|node| node.parts().1).collect();
            let next = members.iter().cycle().skip(1);
            for (from, next) in members.iter().zip(next) {
                prop_assert_eq!(to[usize::from(*from)], Some(*next), "in the order of waiting");
            }
        }
    }
}
