//! `underfoot torture`: a short walk on KVM, one that is interrupted, busted forms, and wrong usage.

use serde_json::Value;
use std::fs;
use std::thread;
use std::time::Duration;
use underfoot_tests::{Command, Finished, Scratch, kvm, turn};

fn torture<'a>(scratch: &'a Scratch, line: &str) -> Command<'a> {
    Command::underfoot(scratch)
        .words("torture --out")
        .args([scratch.join("out")])
        .words("--json")
        .args([scratch.join("torture.json")])
        .words(line)
}

fn json(scratch: &Scratch, finished: &Finished) -> Value {
    let text = fs::read_to_string(scratch.join("torture.json"))
        .unwrap_or_else(|error| panic!("{error}\n{}", finished.stderr));
    let json: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(json["schema"], "underfoot.torture/1");
    json
}

fn number(value: &Value) -> u64 {
    value
        .as_u64()
        .unwrap_or_else(|| panic!("{value} is no whole number"))
}

/// The counters of the cells make up those of all, and pages by outcome those attempted.
fn assert_adds_up(json: &Value) {
    let cells = json["cells"].as_array().expect("a list");
    for key in [
        "visits",
        "attempted",
        "committed",
        "aborted",
        "skipped",
        "pauses",
        "holds",
        "errors",
    ] {
        let sum: u64 = cells.iter().map(|cell| number(&cell[key])).sum();
        assert_eq!(sum, number(&json["migration"][key]), "{key}");
    }
    for counts in cells.iter().chain([&json["migration"]]) {
        let outcomes = ["committed", "aborted", "skipped"].map(|key| number(&counts[key]));
        assert_eq!(
            number(&counts["attempted"]),
            outcomes.iter().sum::<u64>(),
            "{counts}"
        );
    }
}

#[test]
#[cfg_attr(no_kvm, ignore = "this host has no /dev/kvm for us")]
fn every_way_to_move_pages_stands_a_short_walk() {
    if !kvm() {
        return;
    }
    for cpus in [2, 4] {
        let scratch = Scratch::new();
        let _turn = turn();
        let finished = torture(&scratch, &format!("--duration 60s --cpus {cpus}")).run();
        finished.assert_status(0);
        scratch.assert_untouched();
        assert!(!scratch.join("out").exists(), "results of a failure");
        let json = json(&scratch, &finished);
        assert_adds_up(&json);
        assert_eq!(json["integrity"]["errors"], 0);
        assert!(number(&json["integrity"]["checked"]) > 0);
        for cell in json["cells"].as_array().expect("a list") {
            assert!(number(&cell["committed"]) > 0, "{cell}");
        }
        for done in ["aborted", "pauses", "holds"] {
            assert!(number(&json["migration"][done]) > 0, "{done}");
        }
        let last = finished.stdout.lines().last().expect("a verdict");
        assert!(
            last.starts_with("sound ") && last.ends_with("no cell without hits"),
            "{last}"
        );
    }
}

#[test]
#[cfg_attr(no_kvm, ignore = "this host has no /dev/kvm for us")]
fn busted_forms_are_caught_and_leave_what_repeats_them() {
    if !kvm() {
        return;
    }
    for variant in ["busted-no-unmap", "busted-same-frame", "busted-torn-copy"] {
        let scratch = Scratch::new();
        let _turn = turn();
        let finished = torture(
            &scratch,
            &format!("--duration 60s --cpus 2 --variant {variant}"),
        )
        .run();
        // Torn pages can kill a guest, or have it hang, before its checks speak.
        let status = finished.status.code();
        assert!(
            matches!(status, Some(1 | 3)),
            "{status:?}\n{}",
            finished.stdout
        );
        let json = json(&scratch, &finished);
        assert_adds_up(&json);
        let failure = &json["failure"];
        assert!(
            failure["message"].is_string(),
            "{variant}: {}",
            finished.stdout
        );
        let command = failure["command"].as_str().expect("a command");
        for part in [variant, "--torment=true", "--seed "] {
            assert!(command.contains(part), "{command}");
        }
        assert!(finished.stdout.contains(command) && finished.stdout.contains("WRONG ON PURPOSE"));
        for file in ["run.json", "experiment.toml", "console.log"] {
            assert!(scratch.join("out").join(file).is_file(), "{file}");
        }
    }
}

#[test]
#[cfg_attr(no_kvm, ignore = "this host has no /dev/kvm for us")]
fn an_interrupted_walk_says_what_was_done() {
    if !kvm() {
        return;
    }
    let scratch = Scratch::new();
    let _turn = turn();
    let mut running = torture(&scratch, "--duration 60s --cpus 2").start();
    running.wait_until("its threads", |running| running.threads() >= 5);
    // In the midst of a visit or between two: either ends it.
    thread::sleep(Duration::from_secs(4));
    running.signal(libc::SIGINT);
    let finished = running.wait();
    finished.assert_status(1);
    scratch.assert_untouched();
    let json = json(&scratch, &finished);
    assert_adds_up(&json);
    assert_eq!(json["outcome"]["status"], "interrupted");
    assert_eq!(json["outcome"]["complete"], false);
    assert!(number(&json["migration"]["committed"]) > 0);
    let last = finished.stdout.lines().last().expect("a verdict");
    assert!(last.starts_with("INCOMPLETE"), "{last}");
}

#[test]
#[cfg_attr(no_kvm, ignore = "this host has no /dev/kvm for us")]
fn too_short_a_walk_fails_and_says_what_is_enough() {
    if !kvm() {
        return;
    }
    let scratch = Scratch::new();
    let _turn = turn();
    let finished = torture(&scratch, "--duration 1s --cpus 2").run();
    finished.assert_status(1);
    let json = json(&scratch, &finished);
    assert_eq!(json["outcome"]["status"], "done");
    let last = finished.stdout.lines().last().expect("a verdict");
    for part in ["cells without hits", "--duration "] {
        assert!(last.contains(part), "{last}");
    }
}

#[test]
fn wrong_usage_is_refused() {
    for (line, says) in [
        ("--cpus 0", &["--cpus", "0", "1", "64"][..]),
        ("--cpus two", &["--cpus", "two"]),
        ("--memory 8MiB", &["--memory", "8MiB", "16MiB"]),
        ("--duration 5", &["--duration", "5", "unit"]),
        ("--duration 0s", &["--duration", "0"]),
        ("--duration -1s", &["--duration", "-1s"]),
        ("--seed x", &["--seed", "`x`"]),
        (
            "--variant busted-no-unmp",
            &["--variant", "busted-no-unmp", "busted-no-unmap"],
        ),
        (
            "--variant busted-no-lock",
            &["busted-no-lock", "engine", "underfoot run"],
        ),
        ("--strategy none", &["--strategy", "usage"]),
        ("--out .", &["--out", "exists"]),
        ("--out missing/x", &["--out", "make it first"]),
        ("--json /proc", &["--json", "is a directory"]),
        ("--json missing/x", &["--json", "missing"]),
        ("everything", &["everything", "usage"]),
    ] {
        let scratch = Scratch::new();
        let finished = Command::underfoot(&scratch)
            .words("torture --duration 1s")
            .words(line)
            .run();
        finished.assert_status(2).assert_says(says);
        scratch.assert_untouched();
    }
}
