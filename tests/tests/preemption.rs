//! vCPU preemption on purpose: antagonists take CPU time in both phases and end with the run, and vCPUs that share a
//! host CPU run on no other.

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use serde_json::Value;
use underfoot_tests::{Command, Scratch, Summary, allowed_cpus, kvm, run, scheduling_of, turn};

/// How often it is looked where threads are, and the time between two looks.
const LOOKS: u32 = 20;
const BETWEEN: Duration = Duration::from_millis(50);

fn antagonists(summary: &Summary) -> &[Value] {
    let them = summary.at("/antagonists").as_array();
    them.expect("a list of antagonists")
}

/// Each took something, `phases` among it, and no more than it did in all.
fn assert_took(summary: &Summary, count: usize, phases: &[&str]) {
    let them = antagonists(summary);
    assert_eq!(them.len(), count, "{them:?}");
    for one in them {
        let ns = |key: &str| one[key].as_u64().expect("a time");
        let of_phases = ["control_cpu_ns", "moving_cpu_ns"].map(ns);
        assert!(of_phases.iter().sum::<u64>() <= ns("cpu_ns"), "{one}");
        for phase in phases {
            assert!(ns(phase) > 0, "{one}");
        }
    }
}

#[test]
#[cfg_attr(no_kvm, ignore = "this host has no /dev/kvm for us")]
fn antagonists_take_time_in_control_and_moving_phase() {
    if !kvm() {
        return;
    }
    let scratch = Scratch::new();
    let line = "--cpus 2 --duration 3s --control 50% --antagonists 3:60:1";
    let (summary, _) = run(&scratch, line);
    assert_eq!(summary.at("/config/antagonists").as_str(), Some("3:60:1"));
    assert_took(&summary, 3, &["control_cpu_ns", "moving_cpu_ns"]);
    assert!(summary.migration().committed > 0);
}

/// The CPUs that threads of vCPUs and antagonists may run on when `share` vCPUs share each.
fn expected(vcpus: usize, antagonists: usize, share: usize) -> BTreeMap<String, String> {
    let cpus = allowed_cpus();
    let used = vcpus.div_ceil(share);
    let vcpu = |index: usize| (format!("vcpu{index}"), cpus[index / share].to_string());
    let antagonist = |index: usize| {
        (
            format!("antagonist-{index}"),
            cpus[index % used].to_string(),
        )
    };
    (0..vcpus)
        .map(vcpu)
        .chain((0..antagonists).map(antagonist))
        .collect()
}

#[test]
#[cfg_attr(no_kvm, ignore = "this host has no /dev/kvm for us")]
fn vcpus_and_movers_have_their_policies_and_slices() {
    if !kvm() {
        return;
    }
    if scheduling_of(0).is_none_or(|(_, _, slice_ns)| slice_ns == 0) {
        eprintln!("skipped: this kernel keeps no slices, as Linux does from 6.12 on");
        return;
    }
    let scratch = Scratch::new();
    let _turn = turn();
    let mut running = Command::underfoot(&scratch)
        .words("run --duration 2s --control 0% --warmup 1ms --cpus 2 --antagonists 1:10:7")
        .words("--sched vcpu=other:1:3ms,mover=batch:2:700us --out")
        .args([scratch.join("run")])
        .start();
    let roles = ["vcpu", "mover", "antagonist"];
    let batch = libc::SCHED_BATCH.cast_unsigned();
    // A mover has its name before its policy.
    let mover = (batch, 2, 700_000);
    running.wait_until("its movers", |running| {
        running
            .scheduling("mover")
            .into_values()
            .any(|found| found == mover)
    });
    let found: BTreeMap<_, _> = roles
        .iter()
        .flat_map(|role| running.scheduling(role))
        .collect();
    running.wait().assert_status(0);
    for vcpu in ["vcpu0", "vcpu1"] {
        assert_eq!(found[vcpu], (0, 1, 3_000_000), "{vcpu}");
    }
    assert_eq!(found["mover-0"], mover);
    let (policy, nice, _) = found["antagonist-0"];
    assert_eq!((policy, nice), (0, 7));
}

/// A signal ends it: the antagonists end with it.
#[test]
#[cfg_attr(no_kvm, ignore = "this host has no /dev/kvm for us")]
fn overcommitted_vcpus_are_only_on_their_cpu() {
    if !kvm() {
        return;
    }
    // One CPU too has room for all, if there is but one.
    let vcpus = 2 * allowed_cpus().len().min(2);
    let expected = expected(vcpus, 3, 2);
    let scratch = Scratch::new();
    let _turn = turn();
    let mut running = Command::underfoot(&scratch)
        .words(
            "run --duration 60s --control 0% --warmup 1ms --overcommit 2 --antagonists 3:40 --cpus",
        )
        .args([vcpus.to_string()])
        .words("--out")
        .args([scratch.join("run")])
        .words("--json")
        .args([scratch.join("run.json")])
        .start();
    let roles = ["vcpu", "antagonist"];
    // A thread has its name before its place; the movers come once all of these have theirs.
    running.wait_until("its movers", |running| {
        !running.host_cpus("mover").is_empty()
    });
    for _ in 0..LOOKS {
        let found: BTreeMap<_, _> = roles
            .iter()
            .flat_map(|role| running.host_cpus(role))
            .collect();
        for (name, (_, now_on)) in &found {
            assert_eq!(now_on, &expected[name], "{name}");
        }
        let allowed = found
            .into_iter()
            .map(|(name, (allowed, _))| (name, allowed));
        assert_eq!(allowed.collect::<BTreeMap<_, _>>(), expected);
        thread::sleep(BETWEEN);
    }
    running.signal(libc::SIGINT);
    let finished = running.wait();
    finished.assert_status(1);
    let summary = finished.summary(&scratch.join("run.json"));
    summary.assert_sound();
    assert_eq!(summary.at("/outcome/status").as_str(), Some("interrupted"));
    assert_eq!(summary.number("/config/overcommit"), 2);
    assert_took(&summary, 3, &["moving_cpu_ns"]);
    scratch.assert_untouched();
}
