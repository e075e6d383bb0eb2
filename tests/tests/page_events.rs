//! The wait policy `async`: KVM tells the guest of pages that are away, and the guest runs other threads meanwhile.

use std::collections::BTreeMap;
use underfoot_tests::{Scratch, kvm, run};

/// Runs of a second or two in which each way to wait has to be taken at least once. How often depends on what else the
/// host does: windows are met when a vCPU runs in them.
const RUNS: u32 = 8;

/// Runs `lines` in turn until each of `ways` was taken, and each run is sound.
fn assert_taken(lines: &[&str], ways: &[&str]) {
    if !kvm() {
        return;
    }
    let mut taken: BTreeMap<String, u64> = BTreeMap::new();
    for _ in 0..RUNS {
        for line in lines {
            let line = format!("--wait async --duration 2s --warmup 100ms {line}");
            let (summary, _) = run(&Scratch::new(), &line);
            summary.assert_sound();
            assert_eq!(summary.at("/waits/policy"), "async");
            for (way, count) in summary.page_events() {
                *taken.entry(way).or_default() += count;
            }
        }
        if ways.iter().all(|way| taken[*way] > 0) {
            return;
        }
    }
    panic!("not all of {ways:?} in {taken:?}");
}

#[test]
#[cfg_attr(no_kvm, ignore = "this host has no /dev/kvm for us")]
fn who_may_sleep_does_and_who_may_not_is_halted() {
    assert_taken(
        &["--cpus 2", "--cpus 2 --batch 512"],
        &["switched", "early", "halted", "masked"],
    );
}

#[test]
#[cfg_attr(no_kvm, ignore = "this host has no /dev/kvm for us")]
fn threads_that_sleep_for_pages_lose_nothing_in_any_strategy() {
    assert_taken(
        &[
            "--cpus 2 --workload mix --strategy protect-copy",
            "--cpus 3 --workload mmap1 --strategy transactional --batch 16",
            "--cpus 2 --strategy lazy --batch 64 --uffds 2",
        ],
        &["switched"],
    );
}
