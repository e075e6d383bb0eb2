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
        nested::assert_runs_in_box("npt", "-c 2", "npt", line);
    }
}

#[test]
fn each_workload_runs_on_nested_paging_where_ring_0_is_native() {
    if qemu() {
        let line = "--cpus 2 --memory 64MiB --warmup 100ms --duration 3s";
        nested::assert_workloads_run_in_box("npt", "-c 2 -t 900", &workloads(), line);
    }
}
