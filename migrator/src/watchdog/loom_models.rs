//! Every interleaving of those who publish edges and one who looks for cycles.

use std::sync::Arc;

use loom::sync::atomic::{AtomicU64, Ordering};
use loom::thread;

use super::Node::{Migration, Vcpu};
use super::*;

const SMALL: Members = Members {
    vcpus: 1,
    migrations: 1,
    frame_pools: 0,
    grace_periods: 0,
    consumers: 0,
    handlers: 0,
    changes: 0,
};

fn graph(sources: impl IntoIterator<Item = Arc<dyn WaitSource>>) -> Arc<WaitGraph> {
    Arc::new(WaitGraph::new(SMALL, sources))
}

/// One waits for the other, then the other for the one, by turns, never both at once; whatever `find`
/// finds meanwhile was never there.
fn by_turns(turns: usize, find: fn(&WaitGraph) -> usize) {
    loom::model(move || {
        let graph = graph([]);
        let looking = {
            let graph = Arc::clone(&graph);
            thread::spawn(move || assert_eq!(find(&graph), 0, "a false cycle"))
        };
        let mut vcpu = graph.waiter(Vcpu(0)).expect("free");
        let mut migration = graph.waiter(Migration(0)).expect("free");
        for turn in 0..turns {
            if turn % 2 == 0 {
                drop(vcpu.wait_for(Migration(0)));
            } else {
                drop(migration.wait_for(Vcpu(0)));
            }
        }
        looking.join().expect("no panic");
    });
}

#[test]
fn loom_edges_that_were_never_there_at_once_make_no_cycle() {
    by_turns(4, |graph| graph.find_cycles().len());
}

#[test]
#[should_panic = "a false cycle"]
fn loom_catches_one_who_reads_edges_once() {
    by_turns(2, |graph| graph.candidates().len());
}

/// How edges are kept that are not the graph's own.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Keep {
    Right,
    /// A word per node, written and read without order.
    Unordered,
    /// A word per node, without a sequence.
    Unnumbered,
    /// One word for both, half of it each.
    Together,
}

/// What the vCPU and the migration wait for, in a table of somebody else's.
struct Table {
    words: [AtomicU64; 2],
    keep: Keep,
}

impl Table {
    fn new(keep: Keep) -> Arc<Self> {
        Arc::new(Self {
            words: [0, 0].map(AtomicU64::new),
            keep,
        })
    }

    fn orders(&self) -> (Ordering, Ordering) {
        match self.keep {
            Keep::Unordered => (Ordering::Relaxed, Ordering::Relaxed),
            _ => (Ordering::Acquire, Ordering::Release),
        }
    }

    fn publish(&self, nth: usize, to: Option<Node>) {
        if self.keep == Keep::Together {
            let both = self.words[0].load(Ordering::Acquire);
            let half = Edge::new(0, to).word() << (32 * nth);
            return self.words[0].store(both | half, Ordering::Release);
        }
        let last = Edge::from_word(self.words[nth].load(Ordering::Relaxed));
        let edge = match self.keep {
            Keep::Unnumbered => Edge::new(0, to),
            _ => last.next(to),
        };
        self.words[nth].store(edge.word(), self.orders().1);
    }
}

impl WaitSource for Table {
    fn edge(&self, waiter: Node) -> Edge {
        let nth = usize::from(waiter != Vcpu(0));
        if self.keep == Keep::Together {
            let both = self.words[0].load(Ordering::Acquire);
            return Edge::from_word(both >> (32 * nth) & u64::from(u32::MAX));
        }
        Edge::from_word(self.words[nth].load(self.orders().0))
    }
}

/// As [`by_turns`], by the word of a table.
fn told_by_turns(turns: usize, keep: Keep) {
    loom::model(move || {
        let table = Table::new(keep);
        let graph = graph([Arc::clone(&table) as Arc<dyn WaitSource>]);
        let looking = {
            let graph = Arc::clone(&graph);
            thread::spawn(move || assert!(graph.find_cycles().is_empty(), "a false cycle"))
        };
        for turn in 0..turns {
            let waits = [(0, Migration(0)), (1, Vcpu(0))];
            let (nth, to) = waits[turn % 2];
            table.publish(nth, Some(to));
            table.publish(nth, None);
        }
        looking.join().expect("no panic");
    });
}

#[test]
fn loom_edges_of_a_source_make_no_false_cycle() {
    told_by_turns(4, Keep::Right);
}

#[test]
#[should_panic = "a false cycle"]
fn loom_catches_edges_that_are_read_out_of_order() {
    told_by_turns(2, Keep::Unordered);
}

#[test]
#[should_panic = "a false cycle"]
fn loom_catches_edges_without_a_sequence() {
    told_by_turns(4, Keep::Unnumbered);
}

/// Each comes to wait for the other, at a time of its own, and stays: the cycle is found.
fn closes(publish: fn(&Arc<WaitGraph>, &Table, usize), keep: Keep) {
    loom::model(move || {
        let table = Table::new(keep);
        let graph = graph([Arc::clone(&table) as Arc<dyn WaitSource>]);
        let other = {
            let (graph, table) = (Arc::clone(&graph), Arc::clone(&table));
            thread::spawn(move || publish(&graph, &table, 1))
        };
        publish(&graph, &table, 0);
        other.join().expect("no panic");
        let found = graph.find_cycles();
        let expected = "vCPU 0 waits for migration 0, which waits for vCPU 0";
        assert_eq!(found.len(), 1, "the cycle was missed");
        assert_eq!(found[0].to_string(), expected);
    });
}

const WAITS: [(Node, Node); 2] = [(Vcpu(0), Migration(0)), (Migration(0), Vcpu(0))];

#[test]
fn loom_a_cycle_is_found_once_it_has_closed() {
    let publish = |graph: &Arc<WaitGraph>, _: &Table, nth: usize| {
        let mut waiter = graph.waiter(WAITS[nth].0).expect("free");
        // One that ends, before the one that stays.
        drop(waiter.wait_for(Node::Handler(0)));
        std::mem::forget(waiter.wait_for(WAITS[nth].1));
    };
    closes(publish, Keep::Right);
}

#[test]
#[should_panic = "the cycle was missed"]
fn loom_catches_edges_that_share_a_word() {
    closes(
        |_, table, nth| table.publish(nth, Some(WAITS[nth].1)),
        Keep::Together,
    );
}

/// A migration waits for a vCPU that waits for it, until it is told to give up; then it waits for what is
/// in no cycle. The one who looks asks it to give up once or twice.
fn broken(ask: fn(&WaitGraph, &Cycle, &AtomicU64), asked: fn(&Wait<'_>, &AtomicU64) -> bool) {
    loom::model(move || {
        let graph = graph([]);
        let flag = Arc::new(AtomicU64::new(0));
        let mut vcpu = graph.waiter(Vcpu(0)).expect("free");
        let reader = vcpu.wait_for(Migration(0));
        let mover = {
            let (graph, flag) = (Arc::clone(&graph), Arc::clone(&flag));
            thread::spawn(move || {
                let mut migration = graph.waiter(Migration(0)).expect("free");
                let wait = migration.wait_for(Vcpu(0));
                while !asked(&wait, &flag) {
                    thread::yield_now();
                }
                drop(wait);
                let next = migration.wait_for(Node::Handler(0));
                assert!(!asked(&next, &flag), "the next wait was aborted");
            })
        };
        let mut found = graph.find_cycles();
        while found.is_empty() {
            thread::yield_now();
            found = graph.find_cycles();
        }
        ask(&graph, &found[0], &flag);
        for again in graph.find_cycles() {
            ask(&graph, &again, &flag);
        }
        mover.join().expect("no panic");
        drop(reader);
    });
}

#[test]
fn loom_a_request_ends_the_wait_in_the_cycle_and_no_other() {
    broken(
        |graph, cycle, _| assert_eq!(graph.break_cycle(cycle), Some(Migration(0))),
        |wait, _| wait.is_aborted(),
    );
}

#[test]
#[should_panic = "the next wait was aborted"]
fn loom_catches_a_request_that_does_not_say_which_wait() {
    broken(
        |_, _, flag| flag.store(1, Ordering::Relaxed),
        |_, flag| {
            let asked = flag.load(Ordering::Relaxed) == 1;
            if asked {
                flag.store(0, Ordering::Relaxed);
            }
            asked
        },
    );
}
