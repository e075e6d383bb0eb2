//! Each deliberately wrong form is caught, by the check meant for it.

use underfoot_tests::{Scratch, attempt, kvm, turn};

/// Runs of a variant that is wrong only where two CPUs meet at a bad moment, or that may kill the
/// guest before a check speaks: most runs are caught, and of so many at least one is.
const RUNS: u32 = 8;

/// Runs the variant once; `None` if no check spoke.
fn found(variant: &str, more: &str) -> Option<String> {
    let span = if more.contains("--duration") {
        ""
    } else {
        "--duration 3s"
    };
    let line = format!("{span} --control 0% --variant {variant} {more}");
    let (summary, finished) = attempt(&Scratch::new(), &line);
    // Marked, so that nobody takes the figures for those of the right form.
    assert_eq!(summary.at("/config/variant"), variant);
    assert!(finished.stdout.contains(variant), "{}", finished.stdout);
    if summary.number("/integrity/errors") == 0 {
        return None;
    }
    // 3: the guest hung as well, as it does by a lock that deadlocks.
    let status = finished.status.code();
    assert!(
        matches!(status, Some(1 | 3)),
        "{status:?}: {}",
        finished.stderr
    );
    // What the host found, in words, and the kinds of what the guest's checkers reported.
    let reports = summary.at("/guest/reports").as_array().cloned();
    let kinds = reports.unwrap_or_default().into_iter();
    let kinds: Vec<_> = kinds
        .map(|report| format!("report {}", report["kind"]))
        .collect();
    let integrity = summary.at("/integrity").to_string().to_lowercase();
    Some(format!("{integrity} {}", kinds.join(" ").replace('"', "")))
}

/// Runs the variant, up to `runs` times, until one of `checks` is named.
fn assert_caught(variant: &str, more: &str, runs: u32, checks: &[&str]) {
    if !kvm() {
        return;
    }
    let _turn = turn();
    let mut said = Vec::new();
    for _ in 0..runs {
        let integrity = found(variant, more).unwrap_or_default();
        if checks.iter().any(|check| integrity.contains(check)) {
            return;
        }
        said.push(integrity);
    }
    panic!("{variant}: none of {checks:?} in {said:#?}");
}

#[test]
#[cfg_attr(no_kvm, ignore = "this host has no /dev/kvm for us")]
fn copying_while_mapped_loses_updates() {
    assert_caught("busted-no-unmap", "", RUNS, &["update", "check word"]);
}

#[test]
#[cfg_attr(no_kvm, ignore = "this host has no /dev/kvm for us")]
fn what_a_strategy_leaves_out_loses_updates() {
    for (variant, strategy) in [
        ("busted-no-protect", "protect-copy"),
        ("busted-no-compare", "transactional"),
        ("busted-zero-fill", "lazy"),
    ] {
        let more = format!("--strategy {strategy} --target data,large");
        assert_caught(variant, &more, RUNS, &["update", "check word"]);
    }
}

/// A device whose translations go stale, with movers whose invalidations overlap.
#[test]
#[cfg_attr(no_kvm, ignore = "this host has no /dev/kvm for us")]
fn broken_invalidation_is_seen_by_its_counter_or_loses_updates() {
    let moving = "--workload dma --backend remap --strategy protect-copy --target data --cpus 2";
    let overlapping = "--movers 3 --rate 60000 --batch 8 --torment=true \
                       --parameters renew-busy=on,ranges=1,cache=1";
    let slow = "--rate 20000 --parameters renew=0,cache=1,lookup-us=20";
    let lost = ["check word", "stale write"];
    for (variant, more, checks) in [
        (
            "busted-invalidate-unmatched",
            overlapping,
            ["saw more", "is at -"],
        ),
        ("busted-invalidate-clamp", overlapping, lost),
        ("busted-invalidate-no-sequence", slow, lost),
    ] {
        assert_caught(variant, &format!("{moving} {more}"), RUNS, &checks);
    }
}

/// By the watchdog too, which sees a guest that gets nowhere.
#[test]
#[cfg_attr(no_kvm, ignore = "this host has no /dev/kvm for us")]
fn a_page_that_wakes_nobody_lets_a_thread_sleep_for_ever() {
    assert_caught(
        "busted-async-lost-wake",
        "--wait async --cpus 2",
        RUNS,
        &["sleep for pages that are there"],
    );
}

#[test]
#[cfg_attr(no_kvm, ignore = "this host has no /dev/kvm for us")]
fn writing_an_old_frame_is_seen_in_limbo() {
    assert_caught("busted-stale-frame", "", 1, &["stale"]);
}

#[test]
#[cfg_attr(no_kvm, ignore = "this host has no /dev/kvm for us")]
fn the_same_frame_is_no_migration() {
    assert_caught(
        "busted-same-frame",
        "--verify full",
        1,
        &["same frame", "same-frame", "same_frame"],
    );
}

#[test]
#[cfg_attr(no_kvm, ignore = "this host has no /dev/kvm for us")]
fn half_of_a_copy_is_seen_by_the_guest() {
    // Only kinds whose loss the guest survives, so that it lives to tell.
    assert_caught(
        "busted-torn-copy",
        "--target slab,data",
        RUNS,
        &["check word"],
    );
}

#[test]
#[cfg_attr(no_kvm, ignore = "this host has no /dev/kvm for us")]
fn freeing_without_a_grace_period_is_seen() {
    assert_caught(
        "busted-no-grace-period",
        "",
        RUNS,
        &["check word", "poison"],
    );
}

#[test]
#[cfg_attr(no_kvm, ignore = "this host has no /dev/kvm for us")]
fn renaming_without_the_sequence_count_is_seen() {
    assert_caught("busted-no-seqcount", "", RUNS, &["check word", "sequence"]);
}

#[test]
#[cfg_attr(no_kvm, ignore = "this host has no /dev/kvm for us")]
fn updating_without_the_lock_is_seen() {
    assert_caught("busted-no-lock", "", RUNS, &["update"]);
}

/// The forms of `walk` with other readers and other locks than the default's are checked as well.
#[test]
#[cfg_attr(no_kvm, ignore = "this host has no /dev/kvm for us")]
fn every_protection_of_the_tree_can_be_missed() {
    for (variant, form, checks) in [
        (
            "busted-no-grace-period",
            "preemptible",
            ["check word", "poison"],
        ),
        (
            "busted-no-grace-period",
            "sleepable",
            ["check word", "poison"],
        ),
        (
            "busted-no-seqcount",
            "mutex-srcu",
            ["check word", "sequence"],
        ),
        (
            "busted-no-seqcount",
            "sleeping-spinlock",
            ["check word", "sequence"],
        ),
        ("busted-no-lock", "mutex-srcu", ["update"; 2]),
        ("busted-no-lock", "sleeping-spinlock", ["update"; 2]),
    ] {
        let more = format!("--parameters protect={form}");
        assert_caught(variant, &more, RUNS, &checks);
    }
}

/// Each kind that the guest writes to has its own count of updates: other kinds do not stand in.
#[test]
#[cfg_attr(no_kvm, ignore = "this host has no /dev/kvm for us")]
fn updates_lost_on_one_kind_alone_are_noticed() {
    for kind in ["data", "large", "slab"] {
        let target = format!("--target {kind}");
        assert_caught("busted-no-unmap", &target, RUNS, &["update", "check word"]);
    }
}

/// The guest's own mover: copied too early, and with translations that nobody shot down.
#[test]
#[cfg_attr(no_kvm, ignore = "this host has no /dev/kvm for us")]
fn what_the_guests_own_mover_does_wrongly_is_noticed() {
    // Kinds whose loss the guest survives, so that it lives to tell.
    let more = "--mover guest --cpus 2 --target slab,data,percpu";
    let copied = ["update", "check word"];
    assert_caught("busted-guest-copy-mapped", more, RUNS, &copied);
    assert_caught(
        "busted-guest-no-shootdown",
        more,
        RUNS,
        &["limbo", "check word"],
    );
    let all = "--mover guest --cpus 2";
    assert_caught(
        "busted-guest-no-shootdown",
        all,
        RUNS,
        &["limbo", "check word"],
    );
}

/// Each kind of RCU has a form that does not wait for its readers.
#[test]
#[cfg_attr(no_kvm, ignore = "this host has no /dev/kvm for us")]
fn readers_that_are_not_waited_for_see_objects_too_old() {
    for (variant, kind) in [
        ("busted-rcu-classic", "classic"),
        ("busted-rcu-preempt", "preemptible"),
        ("busted-rcu-sleep", "sleepable"),
    ] {
        let more = format!("--workload rcu-torture --parameters kind={kind}");
        assert_caught(variant, &more, RUNS, &["report rcu-torture"]);
    }
}

/// A CPU that never is quiescent, where its workload uses RCU in which CPUs report; longer than the
/// detector waits.
#[test]
#[cfg_attr(no_kvm, ignore = "this host has no /dev/kvm for us")]
fn a_cpu_that_is_never_quiescent_is_seen_whatever_the_workload() {
    for workload in [
        "walk --parameters protect=preemptible",
        "churn --parameters kind=preemptible",
        "rcu-torture",
        "mmap1",
        "exit",
        "fault",
    ] {
        let more = format!("--workload {workload} --duration 6s");
        assert_caught("busted-rcu-stall", &more, 2, &["stall detector"]);
    }
}

/// A callback that spins in a bottom half for a lock of the thread below it, with nothing that checks orders of locks:
/// RCU's stall detector speaks before the host gives the guest up.
#[test]
#[cfg_attr(no_kvm, ignore = "this host has no /dev/kvm for us")]
fn a_lock_that_deadlocks_in_a_bottom_half_stalls_rcu() {
    let more = "--cpus 2 --workload mmap1 --parameters lockdep=off,pages=1 --duration 7s";
    assert_caught("busted-plain-lock", more, RUNS, &["report rcu-stall"]);
}

/// The wrong forms of locks, shootdowns, page tables and reclaim, each by its own checker.
#[test]
#[cfg_attr(no_kvm, ignore = "this host has no /dev/kvm for us")]
fn checkers_of_the_guest_speak_for_themselves() {
    for (variant, more, check) in [
        (
            "busted-lock-order",
            "--workload lock-order",
            "report lock-cycle",
        ),
        (
            "busted-skip-cpu",
            "--workload shootdown",
            "report translation",
        ),
        (
            "busted-skip-cpu",
            "--workload mmap1 --parameters shootdown=ipi",
            "report translation",
        ),
        (
            "busted-skip-cpu",
            "--workload pressure --memory 16MiB --rate 5000 --parameters shootdown=ipi",
            "report translation",
        ),
        (
            "busted-no-pending-check",
            "--workload mmap1",
            "report fragment",
        ),
        (
            "busted-no-pending-check",
            "--workload fault --parameters mappers=1",
            "report fragment",
        ),
        ("busted-freed-listed", "--workload mmap1", "listed"),
        (
            "busted-freed-listed",
            "--workload fault --parameters mappers=2",
            "listed",
        ),
        ("busted-owner-gone", "--workload mmap1", "report fragment"),
        ("busted-owner-gone", "--workload exit", "report fragment"),
        ("busted-owner-gone", "--workload fault", "report fragment"),
        (
            "busted-plain-lock",
            "--workload mmap1",
            "report lock-context",
        ),
        (
            "busted-plain-lock",
            "--workload exit",
            "report lock-context",
        ),
        (
            "busted-plain-lock",
            "--workload fault --parameters mappers=1",
            "report lock-context",
        ),
        ("busted-no-vma-lock", "--workload mmap1", "report fragment"),
        (
            "busted-no-sequence-check",
            "--workload mmap1 --parameters path=speculative",
            "report fragment",
        ),
        ("busted-no-lock", "--workload lock", "update"),
        (
            "busted-dips-into-reserve",
            "--workload pressure --memory 16MiB --rate 5000",
            "report allocation",
        ),
        (
            "busted-reclaims-under-rcu",
            "--workload pressure --parameters path=speculative --rate 5000",
            "report allocation",
        ),
        (
            "busted-never-pays",
            "--workload pressure --memory 16MiB --rate 5000",
            "report starvation",
        ),
        (
            "busted-drops-updates",
            "--workload pressure --memory 16MiB --rate 5000",
            "update",
        ),
    ] {
        assert_caught(variant, more, RUNS, &[check]);
    }
}
