//! The guest moves its own pages: nothing is lost, and what cannot move is told with its reason.

use underfoot_tests::{Command, Scratch, Summary, kvm, run, turn};

/// What the guest moves itself, and what it leaves alone.
const MOVED: [&str; 7] = ["text", "rodata", "data", "stack", "slab", "percpu", "free"];
const REFUSED: [&str; 3] = ["page-table", "descriptor", "large"];

/// Fewer than it moves in two seconds where each vCPU has a CPU of its host; where they have not, all of
/// them must have run before a window closes.
const LEAST: u64 = 20;

fn assert_moved(summary: &Summary, least: u64) {
    assert_eq!(summary.at("/migration/mover"), "guest");
    assert_eq!(summary.at("/config/mover"), "guest");
    assert_eq!(summary.at("/waits/policy"), "guest-spin");
    assert!(summary.at("/config").get("backend").is_none());
    let moved = summary.migration();
    assert!(moved.committed >= least, "{moved:?}");
    let by_kind = summary.by_kind();
    let committed = |kind: &str| by_kind[kind].committed;
    assert_eq!(
        MOVED.iter().map(|kind| committed(kind)).sum::<u64>(),
        moved.committed
    );
    // The host compares each page that moved, once, with where its last move put it.
    let verified: u64 = MOVED.iter().map(|kind| summary.verified(kind)).sum();
    assert!((1..=moved.committed).contains(&verified), "{verified}");
    for kind in REFUSED {
        assert_eq!(committed(kind), 0, "{kind}");
        let reason = summary.at(&format!("/migration/refused/{kind}"));
        assert!(reason.as_str().is_some_and(|text| !text.is_empty()));
    }

    let moving = summary.histograms("histograms");
    for name in [
        "window",
        "window.unmap",
        "window.copy",
        "window.map",
        "migration",
    ] {
        assert!(moving[name].count >= moved.committed, "{name}");
    }
    for name in ["guest.page_fault", "guest.stall.own_window"] {
        assert!(moving.contains_key(name), "{name}");
    }
    let control = summary.histograms("control");
    assert!(!control.contains_key("window"), "the control moved pages");
    assert_eq!(control["guest.page_fault"].count, 0);
}

#[test]
#[cfg_attr(no_kvm, ignore = "this host has no /dev/kvm for us")]
fn the_guest_moves_its_pages_and_loses_nothing() {
    if !kvm() {
        return;
    }
    for (cpus, least) in [(1, LEAST), (2, LEAST), (4, 1)] {
        let line = format!("--mover guest --cpus {cpus} --duration 2s");
        let (summary, finished) = run(&Scratch::new(), &line);
        assert_moved(&summary, least);
        assert!(finished.stdout.contains("mover guest"));
        assert!(finished.stdout.lines().count() <= 24);
    }
}

/// Both shoot down: the mover hardware translations of its pages, the spaces what CPUs keep in software.
#[test]
#[cfg_attr(no_kvm, ignore = "this host has no /dev/kvm for us")]
fn the_guest_moves_beside_spaces_that_shoot_down_themselves() {
    if !kvm() {
        return;
    }
    let line =
        "--mover guest --workload mmap1 --parameters shootdown=ipi,remap=on --cpus 2 --duration 3s";
    let (summary, _) = run(&Scratch::new(), line);
    assert_moved(&summary, 1);
    let moved = summary.number("/guest/counters/moving/moved");
    let operations = summary.number("/guest/counters/moving/operations");
    assert!(moved > 0 && operations > 0, "{moved} of {operations}");
}

/// A vCPU that touches a page in flight faults, waits, and is told of as a stall in that window.
#[test]
#[cfg_attr(no_kvm, ignore = "this host has no /dev/kvm for us")]
fn who_touches_a_page_in_flight_waits_in_the_handler() {
    if !kvm() {
        return;
    }
    // Few pages, so that they are met.
    let line = "--mover guest --cpus 2 --duration 3s --control 0% --target text,rodata,percpu";
    let (summary, _) = run(&Scratch::new(), line);
    assert!(summary.histograms("histograms")["guest.page_fault"].count > 0);
    assert!(summary.number("/stalls/own_window") > 0);
    let waits = summary.at("/stalls/own_window_by_wait");
    assert_eq!(
        waits["guest-spin"],
        *summary.at("/stalls/own_window"),
        "{waits}"
    );
}

/// The control has a mover that finds no page, and rests.
#[test]
#[cfg_attr(no_kvm, ignore = "this host has no /dev/kvm for us")]
fn with_strategy_none_nothing_moves() {
    if !kvm() {
        return;
    }
    let line = "--mover guest --strategy none --cpus 2 --duration 1s --control 0%";
    let (summary, _) = run(&Scratch::new(), line);
    assert_eq!(summary.at("/config/strategy"), "none");
    let moved = summary.migration();
    assert_eq!((moved.attempted, moved.committed), (0, 0));
    assert_eq!(
        summary.histograms("histograms")["guest.page_fault"].count,
        0
    );
}

/// Each workload, briefly, with all that can move.
#[test]
#[cfg_attr(no_kvm, ignore = "this host has no /dev/kvm for us")]
fn every_workload_stands_it() {
    if !kvm() {
        return;
    }
    for workload in underfoot_abi::WorkloadId::ALL {
        let name = workload.name();
        let line = format!("--mover guest --workload {name} --cpus 2 --duration 1s --control 0%");
        let (summary, _) = run(&Scratch::new(), &line);
        assert!(summary.migration().committed > 0, "{name}");
    }
}

#[test]
#[cfg_attr(no_kvm, ignore = "this host has no /dev/kvm for us")]
fn it_keeps_to_its_rate_and_its_targets() {
    if !kvm() {
        return;
    }
    let line = "--mover guest --rate 50 --target slab --duration 2s --control 0%";
    let (summary, _) = run(&Scratch::new(), line);
    let moved = summary.migration();
    // One beyond, since the first comes at once.
    assert!((1..=101).contains(&moved.attempted), "{moved:?}");
    assert_eq!(summary.by_kind().len(), 1);
}

/// The file that a run leaves is one that can be run again.
#[test]
#[cfg_attr(no_kvm, ignore = "this host has no /dev/kvm for us")]
fn its_experiment_can_be_run_again() {
    if !kvm() {
        return;
    }
    let _turn = turn();
    let scratch = Scratch::new();
    let out = scratch.join("first");
    Command::underfoot(&scratch)
        .words("run --mover guest --duration 300ms --warmup 0s --out")
        .args([out.clone()])
        .run()
        .assert_status(0);
    let json = scratch.join("again.json");
    let finished = Command::underfoot(&scratch)
        .words("run --experiment")
        .args([out.join("experiment.toml")])
        .words("--out")
        .args([scratch.join("second")])
        .words("--json")
        .args([json.clone()])
        .run();
    finished.assert_status(0);
    assert_eq!(finished.summary(&json).at("/config/mover"), "guest");
}
