//! Whole slots of KVM's move under a running guest.

use underfoot_abi::PageKind;
use underfoot_tests::{Scratch, at_least, attempt, kvm, run, turn};

const WAY: &str = "--backend memslot --strategy stop-world --warmup 100ms --cpus 2";
const MIB: u64 = 1 << 20;

#[test]
#[cfg_attr(no_kvm, ignore = "this host has no /dev/kvm for us")]
fn slots_of_any_size_move_with_pages_of_every_kind() {
    if !kvm() {
        return;
    }
    for (size, mib) in [("2MiB", 2), ("16MiB", 16), ("1GiB", 64)] {
        let scratch = Scratch::new();
        let line = format!("{WAY} --slot-size {size} --duration 3s --verify full");
        let (summary, finished) = run(&scratch, &line);
        let moved = summary.migration();
        assert!(moved.committed >= at_least(500), "{size}: {moved:?}");
        assert_eq!(summary.at("/config/slot-size"), size);
        assert!(
            finished.stdout.contains(&format!("slots of {size}")),
            "{}",
            finished.stdout
        );
        // No window is of more pages than a slot, and a slot of no more than memory has.
        let windows = summary.number("/histograms/window/count");
        let along = summary.number("/engine/moved_along");
        let most = windows * mib * MIB / 4096;
        assert!(
            windows > 0 && moved.committed + along <= most,
            "{size}: {moved:?} in {windows}"
        );
        if size != "2MiB" {
            // One slot has the whole image and its tables.
            for (kind, counts) in summary.by_kind() {
                assert!(counts.committed > 0, "{size}: {kind}: {counts:?}");
            }
            assert!(
                along > 0,
                "what lies below 1MiB and between the image's parts moves along"
            );
            assert_eq!(summary.by_kind().len(), PageKind::TARGETS.len());
        }
    }
}

#[test]
#[cfg_attr(no_kvm, ignore = "this host has no /dev/kvm for us")]
fn a_device_with_translations_of_its_own_lets_go_of_whole_slots() {
    if !kvm() {
        return;
    }
    let scratch = Scratch::new();
    let line = format!("{WAY} --workload dma --slot-size 4MiB --duration 3s");
    let (summary, _) = run(&scratch, &line);
    assert!(
        summary.migration().committed >= at_least(500),
        "{:?}",
        summary.migration()
    );
}

#[test]
#[cfg_attr(no_kvm, ignore = "this host has no /dev/kvm for us")]
fn a_window_that_is_given_up_leaves_the_guest_its_slot() {
    if !kvm() {
        return;
    }
    // Some windows are shorter than that and some are not, or all are one or the other: each way is sound.
    for bound in ["1us", "12ms"] {
        let scratch = Scratch::new();
        let line =
            format!("{WAY} --slot-size 4MiB --max-window {bound} --duration 2s --torment=true");
        let (summary, _) = run(&scratch, &line);
        let moved = summary.migration();
        assert!(moved.attempted > 0, "{bound}: {moved:?}");
        assert!(bound != "1us" || moved.committed == 0, "{bound}: {moved:?}");
    }
}

#[test]
#[cfg_attr(no_kvm, ignore = "this host has no /dev/kvm for us")]
fn busted_forms_of_slots_are_caught() {
    if !kvm() {
        return;
    }
    let _turn = turn();
    for (variant, check) in [
        ("busted-torn-copy", "wrong check words"),
        ("busted-stale-frame", "stale writes"),
        ("busted-same-frame", "in the same frame"),
    ] {
        let line = format!("{WAY} --variant {variant} --control 0% --duration 3s");
        let (summary, finished) = attempt(&Scratch::new(), &line);
        let integrity = summary.at("/integrity").to_string();
        // A guest whose page tables are half copied is dead before it can say so.
        let died = variant == "busted-torn-copy" && finished.status.code() != Some(0);
        assert!(
            integrity.to_lowercase().contains(check) || died,
            "{variant}: {integrity}"
        );
    }
}
