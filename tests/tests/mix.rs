//! Several workloads side by side in one guest.

use underfoot_abi::{MIX_PARTS, WorkloadId};
use underfoot_tests::{Scratch, Summary, attempt, kvm, run, turn};

/// What `part` counted as `counter` in both phases.
fn counted(summary: &Summary, counter: &str) -> u64 {
    let phases = ["control", "moving"].into_iter();
    phases
        .map(|phase| summary.number(&format!("/guest/counters/{phase}/{counter}")))
        .sum()
}

/// Every part of the mix works while everything moves; nothing is lost, and each part's operations are
/// among those of the whole.
fn assert_mix(cpus: u32, parameters: &str, parts: &[WorkloadId]) {
    let line = format!(
        "--workload mix --target all --rate max --cpus {cpus} --duration 2s --control 20% \
         --parameters {parameters}"
    );
    let (summary, _) = run(&Scratch::new(), &line);
    let operations = |part: &WorkloadId| counted(&summary, &format!("{}.operations", part.name()));
    for part in &MIX_PARTS {
        let (works, wanted) = (operations(part) > 0, parts.contains(part));
        assert_eq!(works, wanted, "{} with {parameters}", part.name());
    }
    let of_parts: u64 = MIX_PARTS.iter().map(operations).sum();
    assert_eq!(of_parts, counted(&summary, "operations"), "{parameters}");
    assert!(summary.migration().committed > 0, "{parameters}");
}

#[test]
#[cfg_attr(no_kvm, ignore = "this host has no /dev/kvm for us")]
fn all_parts_run_side_by_side_and_lose_nothing() {
    if !kvm() {
        return;
    }
    for cpus in [2, 4] {
        assert_mix(cpus, "protect=classic", &MIX_PARTS);
    }
    assert_mix(2, "protect=sleeping-spinlock", &MIX_PARTS);
}

#[test]
#[cfg_attr(no_kvm, ignore = "this host has no /dev/kvm for us")]
fn only_the_parts_that_are_on_run() {
    if !kvm() {
        return;
    }
    let parts = [WorkloadId::Walk, WorkloadId::Shootdown];
    let off = "lock=off,churn=off,rcu-torture=off,mmap1=off";
    assert_mix(2, off, &parts);
}

/// Runs of a form that may hang the guest before its sum is looked at.
const RUNS: u32 = 4;

/// An update that one part loses is missed in the sum of all.
#[test]
#[cfg_attr(no_kvm, ignore = "this host has no /dev/kvm for us")]
fn what_one_part_loses_is_noticed() {
    if !kvm() {
        return;
    }
    let _turn = turn();
    let line = "--workload mix --variant busted-no-lock --duration 2s --control 0%";
    for _ in 0..RUNS {
        let (summary, finished) = attempt(&Scratch::new(), line);
        // A lock whose word was lost may also be one that nobody ever takes again.
        if finished.status.code() == Some(3) {
            continue;
        }
        finished.assert_status(1);
        let details = summary.at("/integrity/details").to_string();
        assert!(details.contains("updates were made"), "{details}");
        return;
    }
    panic!("{RUNS} runs hung");
}
