//! Wrong usage and hosts that lack something: the right status, a message with the value, the
//! bound and the remedy, and nothing left behind.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use underfoot_tests::{Command, Confinement, Finished, Scratch, is_root, kvm, turn};

fn refused(scratch: &Scratch, line: &str) -> Finished {
    let finished = Command::underfoot(scratch)
        .words("run --duration 1s")
        .words(line)
        .run();
    scratch.assert_untouched();
    finished
}

#[test]
fn wrong_values_are_refused_with_bound_and_remedy() {
    let cases: [(&str, &[&str]); 78] = [
        ("--cpus 0", &["--cpus", "0", "1", "64"]),
        ("--cpus 10000", &["--cpus", "10000", "1", "64"]),
        ("--cpus two", &["--cpus", "two", "for example"]),
        ("--memory 1", &["--memory", "1", "unit", "MiB"]),
        ("--memory 8MiB", &["--memory", "8MiB", "16MiB"]),
        ("--memory 16385KiB", &["--memory", "16385KiB", "multiple"]),
        ("--memory 5000GiB", &["--memory", "5000GiB", "16MiB"]),
        ("--memory 64", &["--memory", "64", "unit", "64MiB"]),
        ("--workload wlak", &["wlak", "walk", "workload"]),
        ("--target slb", &["slb", "slab", "page kind"]),
        ("--target slab,txet", &["txet", "text", "page kind"]),
        ("--strategy nnoe", &["nnoe", "none", "strategy"]),
        ("--backend mvoe", &["mvoe", "move", "backend"]),
        ("--wait hlat", &["hlat", "halt", "wait policy"]),
        ("--variant busted-no-unmp", &["busted-no-unmap", "variant"]),
        ("--batch 0", &["--batch", "0", "1", "512"]),
        ("--batch 513", &["--batch", "513", "1", "512"]),
        ("--uffds 65", &["--uffds", "65", "1", "64"]),
        ("--replug 10001", &["--replug", "10001", "1", "10000"]),
        (
            "--slot-size 1MiB",
            &["--slot-size", "1MiB", "2MiB", "16GiB"],
        ),
        ("--slot-size 3MiB", &["--slot-size", "3MiB", "multiple"]),
        (
            "--slot-size 4MiB",
            &["backend move", "slot size 4MiB", "--backend memslot"],
        ),
        (
            "--backend memslot",
            &["unmap-copy", "memslot", "use stop-world"],
        ),
        (
            "--backend memslot --strategy stop-world --batch 8",
            &["batch 8", "leave the batch out", "--slot-size"],
        ),
        (
            "--backend memslot --strategy stop-world --uffds 2",
            &["uffds 2", "leave the number out"],
        ),
        (
            "--backend memslot --strategy stop-world --target slab",
            &["target slab", "leave the kinds out"],
        ),
        (
            "--backend memslot --strategy stop-world --hugepages",
            &["hugepages true", "leave --hugepages out"],
        ),
        ("--replug 0", &["--replug", "`0`", "1", "10000"]),
        (
            "--fault-lock mutex",
            &["--fault-lock", "mutex", "region-lock"],
        ),
        (
            "--variant busted-fault-unlocked",
            &[
                "busted-fault-unlocked",
                "nothing could be caught",
                "--replug",
            ],
        ),
        ("--frames few", &["--frames", "few", "for example"]),
        (
            "--frames 1024,min=900 --batch 64",
            &["--frames", "min 900", "above the one before"],
        ),
        (
            "--variant busted-frames-twice",
            &["busted-frames-twice", "give --frames"],
        ),
        (
            "--frames-after grace",
            &["frames none", "give --frames as well"],
        ),
        (
            "--frames 128 --frames-after later",
            &["later", "flush", "grace"],
        ),
        (
            "--frames 128 --variant busted-window-waits-frames",
            &["busted-window-waits-frames", "--frames-after grace"],
        ),
        ("--rate 0", &["--rate", "0", "1", "max"]),
        ("--rate fast", &["--rate", "fast", "max"]),
        ("--duration 5parsecs", &["--duration", "5parsecs", "ms"]),
        ("--duration 5", &["--duration", "5", "unit", "ms"]),
        ("--duration 0s", &["--duration", "0"]),
        ("--control 101%", &["--control", "101%", "0%", "100%"]),
        ("--affinity vcpu=99", &["--affinity", "99", "this host has"]),
        ("--affinity vpcu=0", &["--affinity", "vpcu", "vcpu"]),
        ("--sched mover=fif:1", &["--sched", "fif", "fifo"]),
        (
            "--sched vcpu=other:50us",
            &["--sched", "50us", "100us to 100ms"],
        ),
        ("--antagonists 0", &["--antagonists", "`0`", "1 to 64"]),
        ("--antagonists 65", &["--antagonists", "`65`", "1 to 64"]),
        (
            "--antagonists two",
            &["--antagonists", "two", "for example", "2:50:10"],
        ),
        (
            "--antagonists 2:0",
            &["--antagonists", "`0`", "1 to 100", "duty"],
        ),
        (
            "--antagonists 2:101",
            &["--antagonists", "`101`", "1 to 100"],
        ),
        (
            "--antagonists 2:50:20",
            &["--antagonists", "`20`", "-20 to 19"],
        ),
        ("--overcommit 0", &["--overcommit", "`0`", "1 to 64"]),
        ("--overcommit 65", &["--overcommit", "`65`", "1 to 64"]),
        (
            "--overcommit 2 --affinity vcpu=0",
            &["overcommit 2", "affinity vcpu=0", "leave one of them out"],
        ),
        (
            "--affinity antagonist=0",
            &["antagonist=0", "no antagonists", "give --antagonists"],
        ),
        (
            "--antagonists 1 --sched antagonist=fifo:10",
            &["sched antagonist=fifo:10", "N:DUTY:NICE"],
        ),
        ("--cpl 1", &["--cpl", "1", "auto", "0", "3"]),
        ("--kernel nowhere.elf", &["nowhere.elf", "No such file"]),
        ("--mover gest", &["gest", "guest", "mover"]),
        (
            "--mover guest --backend copy",
            &["mover guest", "backend copy", "leave it out"],
        ),
        (
            "--mover guest --movers 2",
            &["mover guest", "movers 2", "leave it out"],
        ),
        (
            "--mover guest --strategy stop-world",
            &["strategy stop-world", "say none"],
        ),
        (
            "--mover guest --strategy none --variant busted-guest-no-shootdown",
            &[
                "strategy none",
                "busted-guest-no-shootdown",
                "leave the strategy out",
            ],
        ),
        (
            "--mover guest --target page-table,large",
            &["target page-table,large", "physical address"],
        ),
        (
            "--mover guest --variant busted-no-unmap",
            &["busted-no-unmap", "other mover"],
        ),
        (
            "--workload mmap1 --variant busted-no-sequence-check",
            &[
                "busted-no-sequence-check",
                "path=vma-lock",
                "path=speculative",
            ],
        ),
        (
            "--workload churn --parameters kind=sleepable --variant busted-rcu-stall",
            &["kind=sleepable", "kind=classic or preemptible"],
        ),
        (
            "--duration 4s --variant busted-rcu-stall",
            &["busted-rcu-stall", "--duration 4s", "--duration 5s or more"],
        ),
        (
            "--workload pressure --parameters faulters=0,allocators=0",
            &["faulters=0,allocators=0", "at least", "faulters=1"],
        ),
        (
            "--workload rcu-torture --parameters kind=sleepable,boost=on",
            &["kind=sleepable,boost=on", "kind=preemptible,boost=on"],
        ),
        (
            "--workload rcu-torture --parameters boost=on",
            &["boost=on", "kind=preemptible,boost=on"],
        ),
        (
            "--workload fault --variant busted-freed-listed",
            &["mappers=0", "mappers=1 or more"],
        ),
        (
            "--workload shootdown --cpus 1 --variant busted-skip-cpu",
            &["--cpus 1", "--cpus 2 or more"],
        ),
        (
            "--workload mix --variant busted-no-grace-period",
            &["mix", "hardly ever", "choose the workload walk"],
        ),
        (
            "--workload mix --parameters mmap1=off --variant busted-freed-listed",
            &["mmap1=off", "mmap1=on"],
        ),
        (
            "--variant busted-async-lost-wake",
            &["busted-async-lost-wake", "wait halt", "--wait async"],
        ),
        (
            "--variant busted-guest-copy-mapped",
            &["mover host", "busted-guest-copy-mapped", "other mover"],
        ),
    ];
    for (line, says) in cases {
        let scratch = Scratch::new();
        refused(&scratch, line).assert_status(2).assert_says(says);
    }
}

#[test]
fn an_unknown_flag_or_verb_is_wrong_usage() {
    for line in ["run --frobnicate", "rnu", "guest --export", "list extra"] {
        let scratch = Scratch::new();
        let finished = Command::underfoot(&scratch).words(line).run();
        finished.assert_status(2).assert_says(&["usage"]);
        scratch.assert_untouched();
    }
}

#[test]
fn wrong_experiment_files_name_file_and_key() {
    for (text, says) in [
        ("duratoin = \"1s\"", ["wrong.toml", "duratoin", "duration"]),
        (
            "duration = \"1parsec\"",
            ["wrong.toml", "duration", "1parsec"],
        ),
        ("batch = 513", ["wrong.toml", "batch", "512"]),
        ("duration = ", ["wrong.toml", "1", "duration"]),
        ("memory = \"64s\"", ["wrong.toml", "memory", "64s"]),
        ("memory = 64", ["wrong.toml", "memory", "unit"]),
        ("workload = \"wlak\"", ["wrong.toml", "wlak", "walk"]),
    ] {
        let scratch = Scratch::new();
        let file = scratch.join("wrong.toml");
        fs::write(&file, text).expect("the experiment");
        let finished = Command::underfoot(&scratch)
            .words("run --experiment")
            .args([file])
            .run();
        finished.assert_status(2).assert_says(&says);
        scratch.assert_untouched();
    }
    let scratch = Scratch::new();
    refused(&scratch, "--experiment nowhere.toml")
        .assert_status(2)
        .assert_says(&["nowhere.toml", "No such file"]);
}

#[test]
fn an_output_directory_that_exists_is_kept() {
    let scratch = Scratch::new();
    let out = scratch.join("out");
    fs::create_dir(&out).expect("a directory");
    fs::write(out.join("precious"), "kept").expect("a file");
    refused(&scratch, &format!("--out {}", out.display()))
        .assert_status(2)
        .assert_says(&[&out.display().to_string(), "exists", "--out"]);
    let left: Vec<_> = fs::read_dir(&out).expect("a directory").collect();
    assert_eq!(left.len(), 1, "{left:?}");
    assert_eq!(fs::read(out.join("precious")).expect("the file"), b"kept");
}

#[test]
fn an_output_directory_that_cannot_be_written_is_refused_before_the_run() {
    for parent in ["/proc", "/dev/null"] {
        let scratch = Scratch::new();
        let finished = refused(&scratch, &format!("--out {parent}/run"));
        finished.assert_status(2).assert_says(&[parent, "--out"]);
    }
}

#[test]
fn an_output_directory_in_somebody_elses_is_refused_before_the_run() {
    if !is_root() || !Confinement::possible() {
        return;
    }
    let scratch = Scratch::new();
    let theirs = scratch.join("theirs");
    fs::create_dir(&theirs).expect("a directory");
    fs::set_permissions(&theirs, fs::Permissions::from_mode(0o555)).expect("permissions");
    let host = Confinement {
        privileges: "--reuid 65534 --regid 65534 --clear-groups",
        ..Confinement::default()
    };
    let finished = host
        .underfoot(&scratch)
        .words("run --duration 1s --out")
        .args([theirs.join("run")])
        .run();
    finished.assert_status(2).assert_says(&[
        "theirs/run",
        "--out",
        "may write to",
        "Permission denied",
    ]);
    assert_eq!(fs::read_dir(&theirs).expect("a directory").count(), 0);
    scratch.assert_untouched();
}

#[test]
fn json_that_cannot_be_written_is_refused_before_the_run() {
    for parent in ["/proc", "missing", "/dev/null"] {
        let scratch = Scratch::new();
        refused(&scratch, &format!("--json {parent}/run.json"))
            .assert_status(2)
            .assert_says(&[parent, "--json"]);
    }
}

#[test]
#[cfg_attr(no_kvm, ignore = "this host has no /dev/kvm for us")]
fn ring_0_is_refused_where_it_is_emulated() {
    if !kvm() {
        return;
    }
    let scratch = Scratch::new();
    let doctor = Command::underfoot(&scratch).words("doctor --json").run();
    let doctor: serde_json::Value = serde_json::from_str(&doctor.stdout).expect("JSON");
    let checks = doctor["checks"].as_array().expect("a list");
    let ring0 = checks.iter().find(|check| check["name"] == "ring 0");
    let emulated = ring0.is_some_and(|check| check["detail"].to_string().contains("emulated"));
    let _turn = turn();
    let scratch = Scratch::new();
    let finished = Command::underfoot(&scratch)
        .words("run --duration 1s --cpl 0 --out")
        .args([scratch.join("run")])
        .run();
    if emulated {
        finished
            .assert_status(4)
            .assert_says(&["--cpl 0", "emulated", "SSE", "--cpl 3"]);
        assert!(!scratch.join("run").exists());
    } else {
        finished.assert_status(0);
    }
    scratch.assert_untouched();
}

#[test]
#[cfg_attr(no_kvm, ignore = "this host has no /dev/kvm for us")]
fn a_kernel_that_is_none_is_refused() {
    if !kvm() {
        return;
    }
    let scratch = Scratch::new();
    let file = scratch.join("not-a-kernel");
    fs::write(&file, "not a kernel").expect("a file");
    let finished = refused(&scratch, &format!("--kernel {}", file.display()));
    finished
        .assert_status(2)
        .assert_says(&["not-a-kernel", "PVH"]);
}

/// A run on a confined host that must end with status 4.
fn assert_lacks(host: Confinement, says: &[&str]) {
    if !Confinement::possible() {
        return;
    }
    let scratch = Scratch::new();
    let _turn = turn();
    let finished = host.underfoot(&scratch).words("run --duration 1s").run();
    finished.assert_status(4).assert_says(says);
    scratch.assert_untouched();
    // `doctor` says the same, and what to do about it.
    let scratch = Scratch::new();
    let doctor = host.underfoot(&scratch).words("doctor").run();
    doctor.assert_status(4);
    let said = doctor.stdout + &doctor.stderr;
    assert!(said.contains(says[0]), "{said}");
    scratch.assert_untouched();
}

#[test]
fn a_missing_kvm_is_named() {
    let host = Confinement {
        devices: Some(&["null", "zero", "urandom", "userfaultfd"]),
        ..Confinement::default()
    };
    assert_lacks(host, &["/dev/kvm", "kvm_"]);
}

#[test]
#[cfg_attr(no_kvm, ignore = "this host has no /dev/kvm for us")]
fn a_forbidden_kvm_is_named() {
    if !kvm() || !is_root() {
        return;
    }
    let host = Confinement {
        privileges: "--reuid 65534 --regid 65534 --clear-groups",
        ..Confinement::default()
    };
    assert_lacks(host, &["/dev/kvm", "permission", "group"]);
}

#[test]
#[cfg_attr(no_kvm, ignore = "this host has no /dev/kvm for us")]
fn a_refused_userfaultfd_is_named() {
    let open = fs::read_to_string("/proc/sys/vm/unprivileged_userfaultfd");
    if !kvm() || open.is_ok_and(|value| value.trim() == "1") {
        return;
    }
    let host = Confinement {
        devices: Some(&["null", "zero", "urandom", "kvm"]),
        privileges: "--bounding-set -sys_ptrace --inh-caps -sys_ptrace",
        ..Confinement::default()
    };
    assert_lacks(
        host,
        &["userfaultfd", "CAP_SYS_PTRACE", "unprivileged_userfaultfd"],
    );
}
