//! A window that waits for the guest's readers: the watchdog finds the deadlock, names it and ends it.

use underfoot_tests::{Scratch, at_least, attempt, kvm, run, turn};

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
        let caught = (0..RUNS).any(|_| is_caught(&line, &READERS));
        assert!(caught, "{wait}: no cycle in {RUNS} runs");
    }
}

/// Old frames wait for readers, readers for pages, pages for old frames: Q1a's danger.
#[test]
#[cfg_attr(no_kvm, ignore = "this host has no /dev/kvm for us")]
fn a_window_that_waits_for_frames_which_wait_for_readers_is_found_and_broken() {
    if !kvm() {
        return;
    }
    let _turn = turn();
    for wait in ["halt", "block", "spin"] {
        let line = format!(
            "--duration 2s --control 0% --cpus 2 --target slab --wait {wait} --frames 128 \
             --frames-after grace --variant busted-window-waits-frames"
        );
        let caught = (0..RUNS).any(|_| is_caught(&line, &FRAMES));
        assert!(caught, "{wait}: no cycle in {RUNS} runs");
    }
}

/// Who frames wait for holds up no mover with pages: the pool runs dry again and again, and nothing is found.
#[test]
#[cfg_attr(no_kvm, ignore = "this host has no /dev/kvm for us")]
fn old_frames_that_wait_for_readers_hold_nobody_up_for_good() {
    if !kvm() {
        return;
    }
    for how in [
        "--frames 128",
        "--strategy lazy --backend move --batch 64 --frames 1024",
    ] {
        let scratch = Scratch::new();
        let line = format!("--duration 2s --control 0% --cpus 2 {how} --frames-after grace");
        let (summary, _) = run(&scratch, &line);
        assert_eq!(summary.at("/config/frames-after"), "grace");
        let moved = summary.migration().committed;
        // All frames came back several times.
        assert!(moved >= at_least(5000), "{how}: {moved}");
        let fell_back = summary.number("/frames/users/mover/fell_back");
        assert!(fell_back > 0, "{how}: no frame was ever held back");
        assert_eq!(summary.number("/watchdog/cycles"), 0, "{how}");
    }
}

/// The members of each cycle, and what its migration waits for.
type Cycle = (u64, &'static [&'static str]);
const READERS: Cycle = (3, &["migration 0 waits for grace period 0"]);
const FRAMES: Cycle = (
    4,
    &[
        "migration 0 waits for frame pool 0",
        "frame pool 0, which waits for grace period 1",
    ],
);

/// Runs it once. Whether there was a cycle; if so, it was told and broken, and the guest went on.
fn is_caught(line: &str, (members, waits): &Cycle) -> bool {
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
    assert_eq!(summary.number("/watchdog/members"), members * cycles);
    assert_eq!(summary.number("/histograms/watchdog.found/count"), cycles);
    let verdicts = summary.at("/watchdog/verdicts").to_string();
    for part in [
        "deadlock: ",
        " waits for page 0x",
        " of migration 0",
        "which waits for vCPU ",
        "migration 0 was asked to give up",
    ]
    .iter()
    .chain(*waits)
    {
        // In a cycle any member may be the first to be named.
        let others = [
            part.replace("migration 0 waits", "migration 0, which waits"),
            part.replace("pool 0, which waits", "pool 0 waits"),
        ];
        assert!(
            verdicts.contains(part) || others.iter().any(|other| verdicts.contains(other)),
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
