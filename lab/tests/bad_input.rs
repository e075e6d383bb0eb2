//! Wrong usage that needs no VM to be refused: status, message, nothing left behind.

use assert_cmd::Command;
use std::path::Path;

/// Status, standard output and standard error of the command in `directory`.
fn underfoot(directory: &Path, args: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::cargo_bin("underfoot")
        .expect("the binary")
        .current_dir(directory)
        .args(args)
        .output()
        .expect("it starts");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

fn entries(directory: &Path) -> usize {
    directory.read_dir().expect("readable").count()
}

#[test]
fn wrong_values_name_value_bound_and_remedy() {
    for (flag, value, parts) in [
        ("--cpus", "0", ["`0`", "1 to 64"]),
        ("--cpus", "10000", ["`10000`", "1 to 64"]),
        ("--memory", "8MiB", ["`8MiB`", "16MiB"]),
        ("--memory", "17MiB", ["`17MiB`", "multiple of 2MiB"]),
        ("--memory", "1", ["`1` has no unit", "64MiB"]),
        (
            "--memory",
            "5000GiB",
            ["`5000GiB`", "free memory on the host"],
        ),
        (
            "--memory",
            "99999999999999999999GiB",
            ["`99999999999999999999GiB`", "outside 16MiB to"],
        ),
        (
            "--duration",
            "99999999999999999999s",
            ["`99999999999999999999s`", "outside 10ms to 1440m"],
        ),
        (
            "--warmup",
            "99999999999999999999s",
            ["`99999999999999999999s`", "half a second is plenty"],
        ),
        ("--parameters", "x=1", ["`x`", "protect, threads"]),
        ("--parameter", "x", ["`x`", "NAME=VALUE"]),
        ("--workload", "wlak", ["`wlak`", "mean `walk`"]),
        ("--target", "slab,txt", ["`txt`", "mean `text`"]),
        ("--strategy", "nnoe", ["`nnoe`", "mean `none`"]),
        ("--batch", "0", ["`0`", "1 to 512"]),
        ("--batch", "513", ["`513`", "1 to 512"]),
        ("--max-window", "500ns", ["`500ns`", "1us to 10s"]),
        ("--max-window", "11s", ["`11s`", "leave it out"]),
        ("--rate", "0", ["`0`", "max"]),
        ("--duration", "5parsecs", ["`parsecs`", "ns, us, ms, s, m"]),
        ("--duration", "1ms", ["`1ms`", "10ms to"]),
        ("--control", "101%", ["`101%`", "0% to 100%"]),
        ("--control", "20", ["`20` has no unit", "%"]),
        ("--affinity", "vcpu=8000", ["8000", "beyond"]),
        (
            "--affinity",
            "vcpu=1023",
            ["CPU 1023", "this host has CPUs"],
        ),
        ("--sched", "mover=fifo:100", ["100", "1 to 99"]),
        ("--antagonists", "0", ["`0`", "1 to 64"]),
        ("--antagonists", "2:101", ["`101`", "1 to 100"]),
        ("--antagonists", "2:50:-21", ["`-21`", "-20 to 19"]),
        ("--antagonists", "2:", ["`2:`", "2:50:10"]),
        ("--overcommit", "-1", ["`-1`", "1 to 64"]),
        ("--stall-threshold", "5s", ["`5s`", "1ns to"]),
        ("--seed", "x", ["`x`", "seed"]),
        ("--kernel", "nowhere", ["`nowhere`", "No such file"]),
    ] {
        let directory = tempfile::tempdir().expect("a directory");
        let (status, out, err) = underfoot(directory.path(), &["run", flag, value]);
        assert_eq!(
            (status, out.as_str()),
            (Some(2), ""),
            "{flag} {value}: {err}"
        );
        for part in parts.into_iter().chain([flag]) {
            assert!(err.contains(part), "{part} not in {err}");
        }
        assert_eq!(err.lines().count(), 1, "{err}");
        assert_eq!(entries(directory.path()), 0, "{flag} {value}");
    }
}

#[test]
fn unknown_words_are_wrong_usage() {
    let directory = tempfile::tempdir().expect("a directory");
    for args in [
        &["run", "--frobnicate"][..],
        &["rnu"],
        &["guest", "--export"],
        &["list", "more"],
        &[],
    ] {
        let (status, _, err) = underfoot(directory.path(), args);
        assert_eq!(status, Some(2), "{args:?}: {err}");
        assert!(err.contains("Usage"), "{args:?}: {err}");
    }
    assert_eq!(entries(directory.path()), 0);
}

#[test]
fn wrong_experiment_files_name_file_and_key() {
    for (text, parts) in [
        ("duratoin = '1s'", ["unknown key `duratoin`", "`duration`"]),
        (
            "stall_threshold = '2us'",
            ["`stall_threshold`", "`stall-threshold`"],
        ),
        ("duration = 10", ["key `duration`", "has no unit"]),
        (
            "duration = '5MiB'",
            ["key `duration`", "unknown unit `MiB`"],
        ),
        ("batch = 513", ["key `batch`", "1 to 512"]),
        ("target = ['slab', 7]", ["key `target`", "array"]),
        ("seed = 2026-11-21", ["key `seed`", "datetime"]),
        (
            "[parameters]\nreaders = 1",
            ["key `parameters`", "protect, threads"],
        ),
        ("parameters = [[1]]", ["key `parameters`", "array"]),
        ("[duration]\nx = 1", ["key `duration`", "table"]),
        ("duration = ", ["not TOML", "1"]),
    ] {
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::write(directory.path().join("wrong.toml"), text).expect("room");
        let args = ["run", "--experiment", "wrong.toml"];
        let (status, _, err) = underfoot(directory.path(), &args);
        assert_eq!(status, Some(2), "{text}: {err}");
        for part in parts.into_iter().chain(["wrong.toml"]) {
            assert!(err.contains(part), "{part} not in {err}");
        }
        assert_eq!(entries(directory.path()), 1, "{text}");
    }
}

#[test]
fn places_for_results_are_looked_at_before_the_run() {
    let directory = tempfile::tempdir().expect("a directory");
    for (flag, place, part) in [
        ("--out", ".", "exists"),
        ("--out", "missing/x", "make it first"),
        ("--out", "/proc/x", "/proc/x"),
        ("--json", "missing/x.json", "make it first"),
        ("--json", "/proc/x.json", "/proc/x.json"),
        ("--json", "/proc", "is a directory"),
    ] {
        let (status, _, err) = underfoot(directory.path(), &["run", flag, place]);
        assert_eq!(status, Some(2), "{flag} {place}: {err}");
        assert!(err.contains(flag) && err.contains(part), "{err}");
        assert_eq!(entries(directory.path()), 0, "{flag} {place}");
    }
}

#[test]
fn a_full_disk_is_said_to_be_full() {
    let directory = tempfile::tempdir().expect("a directory");
    let args = ["guest", "--export", "/dev/full"];
    let (status, _, err) = underfoot(directory.path(), &args);
    assert_eq!(status, Some(1), "{err}");
    assert!(
        err.contains("no room") && err.contains("No space left"),
        "{err}"
    );
}

#[test]
fn the_guest_is_exported_whole() {
    let directory = tempfile::tempdir().expect("a directory");
    let (status, _, err) = underfoot(directory.path(), &["guest", "--export", "guest.elf"]);
    assert_eq!(status, Some(0), "{err}");
    let bytes = std::fs::read(directory.path().join("guest.elf")).expect("the guest");
    assert_eq!(bytes, underfoot::image::GUEST_IMAGE);
    assert_eq!(entries(directory.path()), 1);
}

#[test]
fn help_and_lists_go_to_standard_output() {
    let directory = tempfile::tempdir().expect("a directory");
    for args in [
        &["--help"][..],
        &["run", "--help"],
        &["list"],
        &["claims"],
        &["claims", "--help"],
        &["--version"],
    ] {
        let (status, out, err) = underfoot(directory.path(), args);
        assert_eq!((status, err.as_str()), (Some(0), ""), "{args:?}");
        assert!(!out.is_empty(), "{args:?}");
    }
}

#[test]
fn doctor_says_the_same_to_people_and_programs() {
    let directory = tempfile::tempdir().expect("a directory");
    let (status, text, _) = underfoot(directory.path(), &["doctor"]);
    let (json_status, json, _) = underfoot(directory.path(), &["doctor", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    let expected = if json["ready"] == true { 0 } else { 4 };
    assert_eq!((status, json_status), (Some(expected), Some(expected)));
    for check in json["checks"].as_array().expect("checks") {
        let name = check["name"].as_str().expect("a name");
        assert!(text.contains(name), "{name} not in {text}");
    }
}
