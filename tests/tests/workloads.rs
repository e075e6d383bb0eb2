//! Each workload while every kind of page moves as fast as it can, and with page tables alone.
//!
//! `UNDERFOOT_WORKLOAD_SECONDS` says how long each runs; without it just long enough to move
//! something.

use std::{env, fs};

use underfoot_tests::{Scratch, Summary, at_least, kvm, run, workloads};

/// Far fewer than any of them moves in a second.
const LEAST: u64 = 100;

fn seconds() -> u64 {
    let Ok(text) = env::var("UNDERFOOT_WORKLOAD_SECONDS") else {
        return 2;
    };
    let seconds = text.parse().ok().filter(|seconds| *seconds > 0);
    seconds.unwrap_or_else(|| {
        panic!("UNDERFOOT_WORKLOAD_SECONDS is {text:?}: give a whole number of seconds above 0")
    })
}

/// Runs each of `names`; the guest's own checkers must have nothing to say, false alarms included.
fn each(names: &[String], cpus: u32, target: &str) {
    each_for(seconds(), names, cpus, target);
}

fn each_for(seconds: u64, names: &[String], cpus: u32, target: &str) {
    if !kvm() {
        return;
    }
    for name in names {
        let line = format!(
            "--workload {name} --cpus {cpus} --target {target} --rate max --duration {seconds}s"
        );
        let (summary, _) = run(&Scratch::new(), &line);
        assert_worked(&summary, &line);
    }
}

fn assert_worked(summary: &Summary, line: &str) {
    let moved = summary.migration();
    assert!(moved.committed >= at_least(LEAST), "{line}: {moved:?}");
    assert_eq!(summary.number("/guest/reports_made"), 0, "{line}");
    let operations = summary.number("/guest/counters/moving/operations");
    assert!(operations > 0, "{line}: no operations");
}

#[test]
#[cfg_attr(no_kvm, ignore = "this host has no /dev/kvm for us")]
fn each_workload_runs_on_two_vcpus() {
    each(&workloads(), 2, "all");
}

#[test]
#[cfg_attr(no_kvm, ignore = "this host has no /dev/kvm for us")]
fn each_workload_runs_on_four_vcpus() {
    each(&workloads(), 4, "all");
}

#[test]
#[cfg_attr(no_kvm, ignore = "this host has no /dev/kvm for us")]
fn each_workload_runs_on_eight_vcpus() {
    each(&workloads(), 8, "all");
}

/// As many as the guest must bear, many times the CPUs of most hosts: a second each will do, if nobody
/// asks for more.
#[test]
#[cfg_attr(no_kvm, ignore = "this host has no /dev/kvm for us")]
fn each_workload_runs_on_sixteen_vcpus() {
    each_for(seconds().div_ceil(2), &workloads(), 16, "all");
}

/// Every lock of the kernel has a class: no workload takes two of them in an order, or where an interrupt or a bottom
/// half comes, that could hang. `lock-order` is always watched.
#[test]
#[cfg_attr(no_kvm, ignore = "this host has no /dev/kvm for us")]
fn the_checker_of_lock_orders_has_nothing_to_say() {
    let watched = |name: &String| name != "lock-order";
    let names = workloads().into_iter().filter(watched);
    let mut lines: Vec<_> = names
        .map(|name| format!("{name} --parameters lockdep=on"))
        .collect();
    let more = [
        "walk --parameters lockdep=on,protect=mutex-srcu",
        "walk --parameters lockdep=on,protect=sleeping-spinlock",
        "lock --parameters lockdep=on,kind=queued",
        "churn --parameters lockdep=on,kind=sleepable",
        "mmap1 --parameters lockdep=on,path=speculative,remap=on,protect=on",
        "fault --parameters lockdep=on,fallback=ordinary,mappers=2",
        "pressure --memory 16MiB --parameters lockdep=on,shootdown=ipi",
    ];
    lines.extend(more.map(str::to_owned));
    each(&lines, 4, "all");
}

/// What the checker says that it has watched: the kernel's locks, and the workload's.
#[test]
#[cfg_attr(no_kvm, ignore = "this host has no /dev/kvm for us")]
fn the_checker_of_lock_orders_watches_the_kernels_locks() {
    const KERNEL: [&str; 2] = ["run_queue", "page_lists"];
    if !kvm() {
        return;
    }
    for (line, more) in [
        (
            "walk --parameters lockdep=on",
            &["slab_list", "dentry_lock", "rcu_callbacks"][..],
        ),
        (
            "walk --parameters lockdep=on,protect=mutex-srcu",
            &["dentry_mutex", "mutex_waiters", "srcu_stage"],
        ),
        ("lock --parameters lockdep=on", &["test_lock"]),
        (
            "fault --parameters lockdep=on,mappers=2",
            &[
                "mmap_lock",
                "rwsem_waiters",
                "vma_lock",
                "vm_sequence",
                "page_table_lock",
                "table_list_lock",
                "unused_owners",
                "fs_reclaim",
                "wait_queue",
            ],
        ),
        ("walk --mover guest --parameters lockdep=on", &["limbo"]),
    ] {
        let scratch = Scratch::new();
        let line = format!("--workload {line} --cpus 2 --duration 2s");
        let _ = run(&scratch, &line);
        let console = fs::read_to_string(scratch.join("run/console.log")).expect("the console");
        let watched = console
            .lines()
            .find_map(|line| line.split_once("lockdep: watched"));
        let (_, watched) = watched.unwrap_or_else(|| panic!("{line}: {console}"));
        let watched: Vec<_> = watched.split_whitespace().collect();
        for name in KERNEL.iter().chain(more) {
            assert!(watched.contains(name), "{line}: no {name} in {watched:?}");
        }
    }
}

#[test]
#[cfg_attr(no_kvm, ignore = "this host has no /dev/kvm for us")]
fn page_tables_move_alone_under_those_who_change_them() {
    let names = ["mmap1", "exit", "shootdown"].map(str::to_owned);
    for cpus in [2, 4, 8] {
        each(&names, cpus, "page-table");
    }
}

/// What is unmapped is free once it was shot down: in each way, and by each workload that unmaps.
#[test]
#[cfg_attr(no_kvm, ignore = "this host has no /dev/kvm for us")]
fn address_spaces_shoot_down_what_they_unmap() {
    if !kvm() {
        return;
    }
    for (name, more, cpus) in [
        ("mmap1", "shootdown=ipi,remap=on", 2),
        ("mmap1", "shootdown=ipi,remap=on,lockdep=on,protect=on", 4),
        ("mmap1", "shootdown=pv,path=speculative,protect=on", 4),
        // vCPUs that the VMM has stopped are left notes.
        ("mmap1 --strategy stop-world", "shootdown=pv", 4),
        ("mmap1", "shootdown=hypercall", 2),
        ("exit", "shootdown=ipi", 4),
        ("fault", "shootdown=pv,mappers=1", 2),
        ("pressure --memory 32MiB", "shootdown=ipi", 4),
    ] {
        let line = format!(
            "--workload {name} --parameters {more} --cpus {cpus} --target all --rate max --duration {}s",
            seconds()
        );
        let (summary, _) = run(&Scratch::new(), &line);
        assert_worked(&summary, &line);
        let counter = |name: &str| summary.number(&format!("/guest/counters/moving/{name}"));
        let shots = counter("shootdowns");
        assert!(shots > 0, "{line}: no shootdowns");
        assert!(counter("shot-pages") >= shots, "{line}");
        assert!(counter("hypercalls-refused") <= shots, "{line}");
        if name.contains("stop-world") {
            assert!(
                counter("spared-notes") > 0,
                "{line}: nobody was left a note"
            );
        }
        if more.contains("remap=on") {
            assert!(counter("moved") > 0, "{line}: no region was moved");
        }
        if more.contains("protect=on") {
            assert_split(&summary, &line);
        }
    }
}

/// Mappings were split and merged, and writes refused meanwhile.
fn assert_split(summary: &Summary, line: &str) {
    for name in ["splits", "merges", "denied"] {
        let count = summary.number(&format!("/guest/counters/moving/{name}"));
        assert!(count > 0, "{line}: no {name}");
    }
}

/// Where what is forbidden waits for a grace period, on each path of faults.
#[test]
#[cfg_attr(no_kvm, ignore = "this host has no /dev/kvm for us")]
fn mappings_are_split_and_merged_under_accesses() {
    if !kvm() {
        return;
    }
    for path in ["mmap-lock", "vma-lock", "speculative"] {
        let line = format!(
            "--workload mmap1 --parameters protect=on,path={path} --cpus 2 --target all --rate max --duration {}s",
            seconds()
        );
        let (summary, _) = run(&Scratch::new(), &line);
        assert_worked(&summary, &line);
        assert_split(&summary, &line);
    }
}

/// Each kind of spinlock guards pages that move; readers beside the writers of one find them whole.
#[test]
#[cfg_attr(no_kvm, ignore = "this host has no /dev/kvm for us")]
fn each_kind_of_spinlock_is_contended() {
    if !kvm() {
        return;
    }
    for kind in ["ticket", "queued", "seqlock"] {
        let line = format!(
            "--workload lock --parameters kind={kind} --cpus 4 --target all --rate max --duration {}s",
            seconds()
        );
        let (summary, _) = run(&Scratch::new(), &line);
        assert_worked(&summary, &line);
        let waits = summary.histograms("histograms");
        assert!(
            waits.get("guest.lock.wait").is_some_and(|h| h.count > 0),
            "{line}: nobody took a lock"
        );
        let snapshots = summary.number("/guest/counters/moving/snapshots");
        assert_eq!(snapshots > 0, kind == "seqlock", "{line}");
    }
}

/// Spaces and mappings that are gone wait for their grace period: who wants one waits, and is not told
/// that memory is short.
#[test]
#[cfg_attr(no_kvm, ignore = "this host has no /dev/kvm for us")]
fn what_waits_for_a_grace_period_is_no_lack_of_memory() {
    if !kvm() {
        return;
    }
    for line in [
        "--workload exit --strategy none --memory 1GiB --parameters shootdown=ipi,pages=1,regions=1",
        "--workload exit --strategy none --memory 64MiB --parameters shootdown=rcu,pages=1,regions=1",
        "--workload mmap1 --mover guest",
    ] {
        let line = format!("{line} --cpus 8 --duration {}s", seconds());
        let (summary, _) = run(&Scratch::new(), &line);
        assert_eq!(summary.number("/guest/reports_made"), 0, "{line}");
        let operations = summary.number("/guest/counters/moving/operations");
        assert!(operations > 0, "{line}: no operations");
    }
}

#[test]
#[cfg_attr(no_kvm, ignore = "this host has no /dev/kvm for us")]
fn ticks_are_timed_where_they_interrupt() {
    if !kvm() {
        return;
    }
    let line = "--workload chase --parameters threads=1,ticks=on --strategy none --duration 2s";
    let (summary, _) = run(&Scratch::new(), line);
    for phase in ["control", "histograms"] {
        let ticks = summary.histograms(phase);
        assert!(
            ticks.get("guest.tick").is_some_and(|h| h.count > 0),
            "{phase}"
        );
    }
}
