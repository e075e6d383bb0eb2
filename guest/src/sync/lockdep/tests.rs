//! What the checker says of sequences of locks.

mod hooks;
mod random;
mod script;

use script::{play, reports};
use underfoot_abi::ReportKind::{LockContext, LockCycle};

/// Nothing is said of these.
#[test]
fn orders_that_are_fine() {
    for fine in [
        "0:a 0:b 0:c 0:-c 0:-b 0:-a 1:a 1:c 1:-a 1:-c 0:b 0:c 0:-b 0:-c",
        // Let go in the order in which they were taken: hand over hand.
        "0:a 0:b 0:-a 0:c 0:-b 0:-c 1:a 1:c 1:-c 1:-a",
        // A new order after all was let go is only an order.
        "0:a 0:-a 0:b 0:-b 1:b 1:-b 1:a 1:-a",
        // Levels, always in the same order.
        "0:a 0:a/1 0:a/2 0:-a 0:-a 0:-a 1:a/1 1:a/2 1:-a 1:-a",
        // What is taken without waiting cannot close a cycle.
        "0:a 0:b 0:-b 0:-a 1:b 1:?a 1:-a 1:-b",
        "0:a 0:?a 0:-a 0:-a",
        // What an interrupt takes is no order of what it interrupts.
        "0:off 0:a 0:irq 0:b 0:-b 0:irq! 0:-a 0:on 1:off 1:b 1:a 1:-a 1:-b 1:on",
        // Taken in an interrupt, and elsewhere with interrupts masked.
        "0:irq 0:a 0:-a 0:irq! 1:off 1:a 1:-a 1:on",
        // Taken in a bottom half, and elsewhere with these held back, or with interrupts masked.
        "0:bh 0:a 0:-a 0:bh! 1:bhoff 1:a 1:-a 1:bhon 1:off 1:a 1:-a 1:on",
        // An attempt in an interrupt does not wait for the interrupted holder.
        "0:a 0:-a 0:irq 0:?a 0:-a 0:irq!",
        // Let go without having been taken: checking began meanwhile.
        "0:-a 0:b 0:-b 0:-a",
    ] {
        assert_eq!(play(fine), [], "{fine}");
    }
}

#[test]
fn orders_that_can_hang() {
    for (script, text) in [
        (
            "0:a 0:b 0:-b 0:-a 1:b 1:a 1:-a 1:-b",
            "order b -> a contradicts known order a -> b",
        ),
        (
            "0:a 0:b 0:-b 0:-a 1:b 1:c 1:-c 1:-b 2:c 2:a",
            "order c -> a contradicts known order a -> b -> c",
        ),
        // Further held locks are part of the new chain.
        (
            "0:a 0:b 0:-b 0:-a 1:d 1:b 1:c 1:a",
            "order d -> b -> c -> a contradicts known order a -> b -> c",
        ),
        ("0:a 0:a", "order a -> a contradicts known order a"),
        (
            "0:a 0:b 0:a",
            "order a -> b -> a contradicts known order a -> b",
        ),
        (
            "0:a 0:a/1 0:-a 0:-a 1:a/1 1:a",
            "order a/1 -> a contradicts known order a -> a/1",
        ),
        // What was tried counts as held, though no edge leads to it.
        (
            "0:a 0:b 0:-b 0:-a 1:?b 1:a",
            "order b -> a contradicts known order a -> b",
        ),
        // Through it, edges lead from what was held before as well.
        (
            "0:a 0:?b 0:c 0:-c 0:-b 0:-a 1:c 1:a",
            "order c -> a contradicts known order a -> c",
        ),
    ] {
        let found = play(script);
        assert_eq!(found, [(LockCycle, text.to_owned())], "{script}");
    }
}

#[test]
fn a_cycle_is_reported_before_the_wait_and_only_once() {
    let once = "0:a 0:b 0:-b 0:-a 1:b 1:a";
    assert_eq!(play(once).len(), 1, "before anything is let go");
    let again = format!("{once} 1:-a 1:-b {} 1:-a 1:-b", &once[once.len() - 7..]);
    assert_eq!(play(&again).len(), 1, "{again}");
    // The contradiction is no order: what agrees with the known one goes on being right.
    let after = format!("{once} 1:-a 1:-b 2:a 2:b");
    assert_eq!(play(&after).len(), 1, "{after}");
}

/// Senozhatsky's report of 2017 on the speculative page faults: split, mremap, and reclaim.
#[test]
fn the_cycle_of_the_speculative_page_faults() {
    let split = "0:i_mmap_rwsem 0:vm_sequence 0:vm_sequence/1 0:-vm_sequence 0:-vm_sequence \
                 0:-i_mmap_rwsem ";
    let remap = "0:vm_sequence/1 0:fs_reclaim 0:-fs_reclaim 0:-vm_sequence ";
    let reclaim = "1:fs_reclaim 1:i_mmap_rwsem";
    let found = play(&format!("{split}{remap}{reclaim}"));
    let expected = "order fs_reclaim -> i_mmap_rwsem contradicts known order i_mmap_rwsem -> \
                    vm_sequence -> vm_sequence/1 -> fs_reclaim";
    assert_eq!(found, [(LockCycle, expected.to_owned())]);
    for harmless in [format!("{split}{reclaim}"), format!("{remap}{reclaim}")] {
        assert_eq!(play(&harmless), [], "{harmless}");
    }
}

#[test]
fn a_report_has_both_chains_in_numbers_and_the_origins_on_the_console() {
    let (found, console) = reports("0:a 0:x 0:b 0:-b 0:-x 0:-a 2:b 2:a");
    // Classes are numbered from 1 in the order in which they were first taken: a, x, b.
    let [report] = &found[..] else {
        panic!("{found:?}")
    };
    assert_eq!(report.words, [2, 0x01_03, 0x03_02_01, 0]);
    assert_eq!(
        console,
        "lock-cycle: order b -> a contradicts known order a -> x -> b\n  \
         a -> x first seen in a -> x\n  \
         x -> b first seen in a -> x -> b\n"
    );
}

#[test]
fn what_interrupts_wait_for_must_not_be_held_with_these_open() {
    for (script, text) in [
        (
            "0:irq 0:a 0:-a 0:irq! 1:a",
            "a is taken in interrupts, a is held with these open: a",
        ),
        (
            "1:a 1:-a 0:irq 0:a",
            "a is taken in interrupts, a is held with these open: a",
        ),
        (
            "0:bh 0:a 0:-a 0:bh! 1:a",
            "a is taken in bottom halves, a is held with these open: a",
        ),
        // Its holder opened interrupts again.
        (
            "0:irq 0:a 0:-a 0:irq! 1:off 1:a 1:on 1:-a",
            "a is taken in interrupts, a is held with these open: a",
        ),
        // An attempt waits for nobody, but is waited for.
        (
            "0:irq 0:a 0:-a 0:irq! 1:?a",
            "a is taken in interrupts, a is held with these open: a",
        ),
        // Who has `b` is interrupted by who waits for `a`, whose holder waits for `b`.
        (
            "0:irq 0:a 0:-a 0:irq! 1:off 1:a 1:b 1:-b 1:-a 1:on 2:b",
            "a is taken in interrupts, b is held with these open: a -> b",
        ),
        (
            "2:b 2:-b 1:off 1:a 1:b 1:-b 1:-a 1:on 0:irq 0:a",
            "a is taken in interrupts, b is held with these open: a -> b",
        ),
        (
            "2:b 2:-b 0:irq 0:a 0:-a 0:irq! 1:off 1:a 1:b",
            "a is taken in interrupts, b is held with these open: a -> b",
        ),
    ] {
        let again = format!("{script} 3:a 3:-a 3:b 3:-b");
        let found = play(script);
        assert_eq!(found, [(LockContext, text.to_owned())], "{script}");
        let more = play(&again)
            .iter()
            .filter(|(_, found)| found == text)
            .count();
        assert_eq!(more, 1, "once: {again}");
    }
}

#[test]
fn more_locks_than_a_thread_can_keep_are_let_go_unharmed() {
    let names: Vec<_> = (0..20).map(|n| format!("k{n}")).collect();
    let all = |sign: &str, names: &mut dyn Iterator<Item = &String>| {
        names.map(|n| format!("0:{sign}{n} ")).collect::<String>()
    };
    let script = all("", &mut names.iter()) + &all("-", &mut names.iter().rev());
    assert_eq!(play(&format!("{script} {script}")), []);
}

#[test]
fn more_classes_than_there_is_room_for_are_not_checked() {
    let script = (0..70)
        .map(|n| format!("0:k{n} 0:-k{n} "))
        .collect::<String>();
    let (found, console) = reports(&format!("{script} 0:k0 0:k63 0:-k63 0:-k0 0:k63 0:k0"));
    assert_eq!(found.len(), 1, "those with a number still are");
    assert!(console.starts_with("lockdep: no room for class k64\nlock-cycle:"));
}
