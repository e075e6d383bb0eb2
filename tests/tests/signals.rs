//! A run that is interrupted ends in order; one whose mover dies ends with a verdict.

use std::thread;
use std::time::Duration;

use underfoot_tests::{Command, Running, Scratch, kvm, turn};

const RUN: &str = "run --duration 60s --control 0% --warmup 1ms --cpus 2";

/// A run in the middle of moving pages: the vCPUs, the mover and the fault handler are there.
fn started(scratch: &Scratch) -> Running<'_> {
    let mut running = Command::underfoot(scratch)
        .words(RUN)
        .words("--out")
        .args([scratch.join("run")])
        .words("--json")
        .args([scratch.join("run.json")])
        .start();
    running.wait_until("its threads", |running| running.threads() >= 5);
    thread::sleep(Duration::from_millis(500));
    running
}

fn assert_ends_in_order(signal: libc::c_int) {
    if !kvm() {
        return;
    }
    let scratch = Scratch::new();
    let _turn = turn();
    let running = started(&scratch);
    running.signal(signal);
    // `wait` fails if a process is left, and gives up long before a 60 s run that goes on would
    // have been noticed by its summary below.
    let finished = running.wait();
    finished.assert_status(1);
    let summary = finished.summary(&scratch.join("run.json"));
    summary.assert_sound();
    assert!(summary.migration().committed > 0);
    let outcome = summary.at("/outcome");
    assert_eq!(outcome["complete"], false, "{outcome}");
    assert_eq!(outcome["status"], "interrupted", "{outcome}");
    assert!(
        finished.stdout.contains("INCOMPLETE"),
        "{}",
        finished.stdout
    );
    assert!(scratch.join("run/run.json").exists());
    scratch.assert_untouched();
}

#[test]
fn sigint_ends_a_run_in_order() {
    assert_ends_in_order(libc::SIGINT);
}

#[test]
fn sigterm_ends_a_run_in_order() {
    assert_ends_in_order(libc::SIGTERM);
}

/// Whenever it comes: a run that is over by then is told as one that was not interrupted.
#[test]
#[cfg_attr(no_kvm, ignore = "this host has no /dev/kvm for us")]
fn a_signal_about_the_end_of_a_run_loses_no_results() {
    if !kvm() {
        return;
    }
    let _turn = turn();
    for ms in (900..1700).step_by(80) {
        let scratch = Scratch::new();
        let running = Command::underfoot(&scratch)
            .words("run --duration 1s --warmup 1ms --cpus 2 --out")
            .args([scratch.join("run")])
            .start();
        thread::sleep(Duration::from_millis(ms));
        running.signal(libc::SIGTERM);
        let finished = running.wait();
        // One that came when all was written has nothing to lose.
        let code = finished.status.code();
        assert!(
            matches!(code, None | Some(0 | 1)),
            "after {ms} ms: {code:?}"
        );
        let json = scratch.join("run/run.json");
        finished.summary(&json).assert_sound();
    }
}

#[test]
#[cfg_attr(no_kvm, ignore = "this host has no /dev/kvm for us")]
fn a_killed_run_leaves_no_process_and_no_result() {
    if !kvm() {
        return;
    }
    let scratch = Scratch::new();
    let _turn = turn();
    let running = started(&scratch);
    running.signal(libc::SIGKILL);
    let finished = running.wait();
    assert_eq!(finished.status.code(), None);
    // Half-written results never bear the name of whole ones.
    assert!(!scratch.join("run").exists());
    assert!(!scratch.join("run.json").exists());
}

#[test]
#[cfg_attr(no_kvm, ignore = "this host has no /dev/kvm for us")]
fn a_killed_mover_ends_the_run_and_leaves_the_guest_whole() {
    if !kvm() {
        return;
    }
    let scratch = Scratch::new();
    let _turn = turn();
    let json = scratch.join("run.json");
    let finished = Command::underfoot(&scratch)
        .words("run --duration 2s --variant busted-mover-panic --out")
        .args([scratch.join("run")])
        .words("--json")
        .args([json.clone()])
        .run();
    finished.assert_status(1);
    assert!(finished.stderr.contains("mover"), "{}", finished.stderr);
    // The open window was rolled back: the guest lost nothing, the counters still add up.
    let summary = finished.summary(&json);
    summary.assert_sound();
    assert!(summary.migration().aborted > 0);
    scratch.assert_untouched();
}
