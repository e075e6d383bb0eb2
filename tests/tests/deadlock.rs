//! A window that waits for the guest's readers: the watchdog finds the deadlock, names it and ends it.

use underfoot_tests::{Scratch, attempt, kvm, turn};

/// Two seconds of it; more of them where no reader met a window.
const RUNS: u32 = 4;

#[test]
#[cfg_attr(no_kvm, ignore = "this host has no /dev/kvm for us")]
fn a_window_that_waits_for_readers_is_found_as_a_cycle_and_broken() {
    if !kvm() {
        return;
    }
    let _turn = turn();
    for wait in ["halt", "block", "spin"] {
        let line = format!(
            "--duration 2s --control 0% --cpus 2 --target slab --wait {wait} \
             --variant busted-window-waits-grace-period"
        );
        let caught = (0..RUNS).any(|_| is_caught(&line));
        assert!(caught, "{wait}: no cycle in {RUNS} runs");
    }
}

/// Runs it once. Whether there was a cycle; if so, it was told and broken, and the guest went on.
fn is_caught(line: &str) -> bool {
    let (summary, finished) = attempt(&Scratch::new(), line);
    assert_eq!(summary.at("/outcome/status"), "done", "{}", finished.stderr);
    assert_eq!(
        summary.number("/integrity/errors"),
        0,
        "{}",
        finished.stderr
    );
    finished.assert_status(1);
    let cycles = summary.number("/watchdog/cycles");
    if cycles == 0 {
        assert!(
            finished.stderr.contains("was not caught"),
            "{}",
            finished.stderr
        );
        return false;
    }
    assert_eq!(summary.number("/watchdog/broken"), cycles);
    assert_eq!(summary.number("/watchdog/members"), 3 * cycles);
    assert_eq!(summary.number("/histograms/watchdog.found/count"), cycles);
    let verdicts = summary.at("/watchdog/verdicts").to_string();
    for part in [
        "deadlock: ",
        " waits for page 0x",
        " of migration 0",
        "migration 0 waits for grace period 0",
        "grace period 0, which waits for vCPU ",
        "migration 0 was asked to give up",
    ] {
        // In a cycle any member may be the first to be named.
        let also = part.replace("migration 0 waits", "migration 0, which waits");
        assert!(
            verdicts.contains(part) || verdicts.contains(&also),
            "{part}: {verdicts}"
        );
    }
    assert!(
        finished.stderr.contains("deadlock: "),
        "{}",
        finished.stderr
    );
    assert!(
        finished.stdout.contains("\nwatchdog"),
        "{}",
        finished.stdout
    );
    // Each that was asked gave up, unless its wait had just ended by itself.
    let given_up = summary.number("/migration/aborted_by/deadlock");
    assert!((1..=cycles).contains(&given_up), "{given_up} of {cycles}");
    let left = summary.at("/migration/committed").as_u64();
    assert!(left.is_some_and(|pages| pages > 0), "nothing moved beside");
    true
}

#[test]
#[cfg_attr(no_kvm, ignore = "this host has no /dev/kvm for us")]
fn windows_over_their_budget_go_back_and_nothing_is_found() {
    if !kvm() {
        return;
    }
    let _turn = turn();
    // No window of 512 pages is that short, and hardly one of a page.
    let line = "--duration 1s --control 0% --batch 512 --max-window 1us";
    let (summary, finished) = attempt(&Scratch::new(), line);
    finished.assert_status(0);
    let over = summary.number("/migration/aborted_by/over-budget");
    assert!(over > 0, "{}", finished.stdout);
    assert!(over <= summary.number("/migration/aborted"));
    assert_eq!(summary.number("/watchdog/cycles"), 0);
    assert_eq!(summary.at("/config/max-window"), "1us");
}
