//! On AMD's nested paging, in a box that QEMU emulates.

use underfoot_tests::{nested, skip, workloads};

/// Whether the box can run. Says that the test is skipped if not.
fn qemu() -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|dir| dir.join("qemu-system-x86_64").exists());
    if !found {
        skip("no qemu-system-x86_64 (Debian package qemu-system-x86)");
    }
    found
}

#[test]
fn every_kind_moves_on_nested_paging_at_both_privilege_levels() {
    if qemu() {
        let line = "--cpus 2 --memory 32MiB --duration 5s";
        nested::assert_runs_in_box("npt", "-c 2 -t 150", "npt", line);
    }
}

#[test]
fn each_workload_runs_on_nested_paging_where_ring_0_is_native() {
    if qemu() {
        let line = "--cpl 0 --cpus 2 --memory 64MiB --warmup 100ms --duration 3s";
        nested::assert_workloads_run_in_box("npt", "-c 2 -t 900", &workloads(), line);
    }
}

#[test]
fn one_to_sixteen_vcpus_run_on_the_two_cpus_of_a_nested_host() {
    if !qemu() {
        return;
    }
    // With sixteen a vCPU has an eighth of an emulated CPU, most of which its ticks take, so that a grace period may last
    // longer than the stall detector lets pass: the run is over before.
    let each = [
        ("walk", 1, 3),
        ("mmap1", 4, 3),
        ("exit", 8, 3),
        ("walk", 16, 1),
    ];
    let runs = each.map(|(workload, cpus, seconds)| {
        let line = format!(
            "--cpl 0 --workload {workload} --cpus {cpus} --memory 64MiB --warmup 100ms --duration {seconds}s"
        );
        (format!("{workload}{cpus}"), line)
    });
    for summary in nested::run_in_box("npt", "-c 2 -t 300", &runs) {
        summary.assert_sound();
        assert!(summary.migration().committed > 0);
    }
}

#[test]
#[ignore = "takes three to seven minutes in emulation; CI runs each workload at CPL 0, and walk at CPL 3"]
fn each_workload_runs_on_nested_paging_in_ring_3() {
    if qemu() {
        let line = "--cpl 3 --cpus 2 --memory 64MiB --warmup 100ms --duration 1s";
        nested::assert_workloads_run_in_box("npt", "-c 2 -t 600", &workloads(), line);
    }
}

#[test]
fn the_guest_moves_its_own_pages_on_nested_paging_at_both_privilege_levels() {
    if !qemu() {
        return;
    }
    let line = "--mover guest --cpus 2 --memory 64MiB --warmup 100ms --duration 4s";
    let runs = [0, 3].map(|cpl| (format!("mover{cpl}"), format!("--cpl {cpl} {line}")));
    for summary in nested::run_in_box("npt", "-c 2 -t 150", &runs) {
        summary.assert_sound();
        assert!(summary.migration().committed > 0);
        assert!(summary.histograms("histograms")["guest.page_fault"].count > 0);
    }
}

/// The guest is told of pages that are away at both levels: at CPL 0 wherever its interrupts are open.
#[test]
fn the_guest_runs_other_threads_while_pages_are_away_on_nested_paging() {
    if !qemu() {
        return;
    }
    let line = "--wait async --cpus 2 --memory 64MiB --warmup 100ms --duration 5s --batch 32";
    let runs = [0, 3].map(|cpl| (format!("async{cpl}"), format!("--cpl {cpl} {line}")));
    for summary in nested::run_in_box("npt", "-c 2 -t 150", &runs) {
        summary.assert_sound();
        let ways = summary.page_events();
        assert!(
            ways["switched"] + ways["early"] > 0,
            "nobody slept: {ways:?}"
        );
    }
}

/// The kernel's own moves between two nodes of memory, and into huge pages.
#[test]
fn the_kernel_moves_pages_between_nodes_and_builds_huge_ones() {
    if !qemu() {
        return;
    }
    let line = "--backend kernel --cpl 0 --cpus 2 --memory 64MiB --warmup 100ms --duration 3s";
    let runs = [
        ("nodes".to_owned(), format!("{line} --batch 32")),
        ("collapse".to_owned(), format!("{line} --page-size 2MiB")),
    ];
    for summary in nested::run_in_box("npt", "-c 2 -n 2 -t 200", &runs) {
        summary.assert_sound();
        assert!(summary.migration().committed > 0);
        assert!(
            summary
                .by_kind()
                .keys()
                .any(|kind| summary.verified(kind) > 0)
        );
    }
}

/// KVM says there which vCPUs it keeps from running, and takes the hypercall for interrupts.
#[test]
fn shootdowns_leave_notes_and_make_hypercalls_where_kvm_takes_them() {
    if !qemu() {
        return;
    }
    let run = |way: &str, more: &str| {
        let line = format!(
            "--cpl 0 --workload shootdown --parameters way={way} --memory 64MiB --duration 4s {more}"
        );
        (way.to_owned(), line)
    };
    let runs = [run("pv", "--cpus 6"), run("hypercall", "--cpus 2")];
    let counters = ["notes-preempted", "hypercalls"];
    let summaries = nested::run_in_box("npt", "-c 2 -t 150", &runs);
    for ((way, summary), counter) in ["pv", "hypercall"].iter().zip(&summaries).zip(counters) {
        summary.assert_sound();
        let counted = ["control", "moving"]
            .map(|phase| summary.number(&format!("/guest/counters/{phase}/{counter}")));
        assert!(counted.iter().sum::<u64>() > 0, "{way}: {counted:?}");
    }
}

/// Emulation is slow: beside other load some cell may have no hits.
#[test]
#[ignore = "four minutes in emulation, and beside another box some cell has no hits: run with --ignored"]
fn torture_stands_a_walk_on_nested_paging() {
    if !qemu() {
        return;
    }
    let line = "--cpus 2 --memory 32MiB --duration 240s";
    let json = nested::torture_in_box("npt", "-c 2 -t 900", line);
    assert_eq!(json["outcome"]["sound"], true, "{json}");
    assert_eq!(json["host"]["stage2"], "npt");
    for cell in json["cells"].as_array().expect("a list") {
        assert!(
            cell["committed"].as_u64().is_some_and(|pages| pages > 0),
            "{cell}"
        );
    }
    for done in ["aborted", "pauses", "holds"] {
        assert_ne!(json["migration"][done], 0, "{done}");
    }
}
