//! The main job: the guest's pages move under it, nothing is lost, and the summary says so.

use std::fs;

use underfoot_abi::PageKind;
use underfoot_tests::{Command, Finished, Scratch, Summary, at_least, is_root, kvm, run, turn};

/// Every kind moved, and its frames were seen to change where this user may see frames.
fn assert_every_kind_moved(summary: &Summary, least: u64) {
    let by_kind = summary.by_kind();
    for kind in PageKind::TARGETS.map(PageKind::name) {
        let committed = by_kind[kind].committed;
        assert!(committed >= least, "{kind}: {committed} of {least}");
        assert!(!is_root() || summary.verified(kind) > 0, "{kind}: frames");
    }
}

/// Runs in one of which this many pages must move and this many stalls fall into windows of their own
/// page. A quiet machine moves twice as many pages and has ten times as many such stalls; how many
/// they are depends on what else the host does, and on how far its CPUs are from each other.
const RUNS: u32 = 3;
const MOVED: u64 = 50_000;
const OWN_WINDOW: u64 = 100;

/// The workload counted its operations in both phases, and no more than the vCPUs made in all.
fn assert_operations_add_up(summary: &Summary) {
    let counted = ["control", "moving"].map(|phase| {
        let counted = summary.number(&format!("/guest/counters/{phase}/operations"));
        assert!(counted > 0, "{phase}: no operations");
        counted
    });
    let vcpus = summary.at("/progress").as_array().expect("a list of vCPUs");
    let made = vcpus.iter().filter_map(|vcpu| vcpu["operations"].as_u64());
    assert!(counted.iter().sum::<u64>() <= made.sum());
    assert_eq!(summary.number("/guest/reports_made"), 0);
}

/// Every vCPU worked, and took timer ticks.
fn assert_every_vcpu_worked(summary: &Summary, cpus: usize) {
    let vcpus = summary.at("/progress").as_array().expect("a list of vCPUs");
    assert_eq!(vcpus.len(), cpus);
    for vcpu in vcpus {
        for count in ["operations", "ticks"] {
            assert!(vcpu[count].as_u64() > Some(0), "{count}: {vcpu}");
        }
    }
}

#[test]
#[cfg_attr(no_kvm, ignore = "this host has no /dev/kvm for us")]
fn the_default_job_moves_every_kind_and_loses_nothing() {
    if !kvm() {
        return;
    }
    let mut seen = Vec::new();
    for _ in 0..RUNS {
        let (summary, finished) = run(&Scratch::new(), "--duration 6s");
        assert_default_job(&summary, &finished);
        let moved = summary.migration().committed;
        let own_window = summary.number("/stalls/own_window");
        if moved >= at_least(MOVED) && own_window >= at_least(OWN_WINDOW) {
            return;
        }
        seen.push((moved, own_window));
    }
    panic!("pages moved, and stalls in a window of their own page: {seen:?}");
}

fn assert_default_job(summary: &Summary, finished: &Finished) {
    assert_every_kind_moved(summary, at_least(100));
    assert!(summary.number("/integrity/checked") >= at_least(10_000));
    let stage2 = summary.at("/host/stage2").as_str().expect("a string");
    assert!(["ept", "npt", "shadow"].contains(&stage2), "{stage2}");

    assert_operations_add_up(summary);

    let moving = summary.histograms("histograms");
    for name in [
        "window",
        "window.unmap",
        "window.copy",
        "window.map",
        "migration",
        "guest.access",
        "guest.stall",
        "guest.probe",
        "guest.rcu.read",
        "guest.rcu.grace_period",
    ] {
        assert!(moving.get(name).is_some_and(|h| h.count > 0), "{name}");
    }
    let control = summary.histograms("control");
    for name in ["guest.access", "guest.probe", "guest.rcu.read"] {
        assert!(control.get(name).is_some_and(|h| h.count > 0), "{name}");
    }
    assert!(!control.contains_key("window"), "the control moved pages");

    let lines: Vec<_> = finished.stdout.lines().collect();
    assert!(lines.len() <= 24, "{} lines", lines.len());
    // Reasons and paths are whole where no screen cuts them.
    let free = |line: &str| {
        ["absent", "results"]
            .iter()
            .any(|label| line.starts_with(label))
    };
    // So is what was run.
    let mut table = lines.iter().enumerate();
    assert!(table.all(|(number, line)| number == 1 || free(line) || line.chars().count() <= 80));
    assert!(lines[0].contains("CPL"), "the kind of host: {}", lines[0]);
    assert!(finished.stdout.contains("control"));
}

#[test]
#[cfg_attr(no_kvm, ignore = "this host has no /dev/kvm for us")]
fn more_vcpus_than_cpus_all_get_on() {
    if !kvm() {
        return;
    }
    for cpus in [1, 2, 4, 8] {
        let scratch = Scratch::new();
        let (summary, _) = run(&scratch, &format!("--cpus {cpus} --duration 2s"));
        assert_every_vcpu_worked(&summary, cpus);
        assert_every_kind_moved(&summary, 1);
    }
}

#[test]
#[cfg_attr(no_kvm, ignore = "this host has no /dev/kvm for us")]
fn memory_may_be_small_or_large() {
    if !kvm() {
        return;
    }
    for memory in ["16MiB", "1GiB", "4GiB"] {
        let scratch = Scratch::new();
        let (summary, _) = run(&scratch, &format!("--memory {memory} --duration 1s"));
        assert_every_kind_moved(&summary, 1);
    }
}

#[test]
#[cfg_attr(no_kvm, ignore = "this host has no /dev/kvm for us")]
fn batches_move_whole() {
    if !kvm() {
        return;
    }
    for batch in [1, 7, 512] {
        let scratch = Scratch::new();
        let (summary, _) = run(&scratch, &format!("--batch {batch} --duration 1s"));
        assert!(summary.migration().committed >= at_least(1_000));
        let windows = summary.histograms("histograms")["window"].count;
        assert!(windows * batch >= summary.migration().committed);
    }
}

#[test]
#[cfg_attr(no_kvm, ignore = "this host has no /dev/kvm for us")]
fn only_the_target_moves() {
    if !kvm() {
        return;
    }
    let scratch = Scratch::new();
    let (summary, _) = run(&scratch, "--target slab,page-table --duration 1s");
    for (kind, counters) in summary.by_kind() {
        let wanted = ["slab", "page-table"].contains(&kind.as_str());
        assert_eq!(counters.committed > 0, wanted, "{kind}: {counters:?}");
        assert!(wanted || counters.attempted == 0, "{kind}: {counters:?}");
    }
}

#[test]
#[cfg_attr(no_kvm, ignore = "this host has no /dev/kvm for us")]
fn the_strategy_none_moves_nothing() {
    if !kvm() {
        return;
    }
    let scratch = Scratch::new();
    let (summary, _) = run(&scratch, "--strategy none --duration 1s");
    assert_eq!(summary.migration().attempted, 0);
    assert!(summary.histograms("histograms")["guest.access"].count > 0);
}

#[test]
#[cfg_attr(no_kvm, ignore = "this host has no /dev/kvm for us")]
fn the_rate_is_kept() {
    if !kvm() {
        return;
    }
    let scratch = Scratch::new();
    let (summary, _) = run(&scratch, "--rate 500 --duration 2s --control 0%");
    // An upper bound on a count: a slow machine moves fewer.
    let attempted = summary.migration().attempted;
    assert!((1..=1_500).contains(&attempted), "{attempted}");
}

#[test]
#[cfg_attr(no_kvm, ignore = "this host has no /dev/kvm for us")]
fn full_verification_checks_every_page() {
    if !kvm() {
        return;
    }
    let scratch = Scratch::new();
    let (summary, _) = run(&scratch, "--verify full --rate 2000 --duration 1s");
    if is_root() {
        for (kind, counters) in summary.by_kind() {
            assert_eq!(summary.verified(&kind), counters.committed, "{kind}");
        }
    }
}

#[test]
#[cfg_attr(no_kvm, ignore = "this host has no /dev/kvm for us")]
fn a_run_directory_runs_again() {
    if !kvm() {
        return;
    }
    let scratch = Scratch::new();
    let (summary, _) = run(&scratch, "--duration 1s --seed 42 --target slab");
    let directory = scratch.join("run");
    for name in ["run.json", "experiment.toml", "histograms.hlog"] {
        let length = fs::metadata(directory.join(name)).map(|file| file.len());
        assert!(length.is_ok_and(|length| length > 0), "{name}");
    }
    let recorded = fs::read_to_string(directory.join("run.json")).expect("a summary");
    assert_eq!(Summary::parse(&recorded).at(""), summary.at(""));

    let again = Scratch::new();
    let experiment = directory.join("experiment.toml");
    let (second, _) = run(&again, &format!("--experiment {}", experiment.display()));
    assert_eq!(second.at("/config"), summary.at("/config"));
}

#[test]
#[cfg_attr(no_kvm, ignore = "this host has no /dev/kvm for us")]
fn json_goes_to_standard_output_alone() {
    if !kvm() {
        return;
    }
    let scratch = Scratch::new();
    let _turn = turn();
    let finished = Command::underfoot(&scratch)
        .words("run --duration 1s --json - --out")
        .args([scratch.join("run")])
        .run();
    finished.assert_status(0);
    Summary::parse(&finished.stdout).assert_sound();
}

#[test]
#[cfg_attr(no_kvm, ignore = "this host has no /dev/kvm for us")]
fn without_out_the_run_goes_under_runs() {
    if !kvm() {
        return;
    }
    let scratch = Scratch::new();
    let _turn = turn();
    let finished = Command::underfoot(&scratch)
        .words("run --duration 1s")
        .run();
    finished.assert_status(0);
    let runs: Vec<_> = fs::read_dir(scratch.work().join("runs"))
        .expect("runs/")
        .collect();
    assert_eq!(runs.len(), 1, "one run, nothing half-written: {runs:?}");
}
