//! What a screen shows.

use super::*;
use crate::record::Outcome;
use crate::test_record::{test_record, test_report};
use underfoot_abi::Cpl;

fn fits(text: &str) {
    assert!(text.lines().count() <= 24, "{text}");
    // What was run is told in full, as is where the results are.
    let others = text.lines().enumerate().filter(|(number, _)| *number != 1);
    for (_, line) in others.filter(|(_, line)| !line.starts_with("results")) {
        assert!(line.chars().count() <= SCREEN, "{line}");
    }
}

#[test]
fn golden() {
    let text = summary(
        &test_record(),
        Some(Path::new("runs/20261121T042841Z-42")),
        Some(SCREEN),
    );
    fits(&text);
    assert_eq!(text, include_str!("../../tests/golden/summary.txt"));
}

#[test]
fn the_worst_still_fits_and_says_why() {
    let mut record = test_record();
    record.moving.clear();
    record.outcome = Outcome {
        ending: Ending::Failed,
        message: Some("a long story ".repeat(20)),
    };
    record.integrity.errors = 3;
    record.integrity.details = vec!["limbo frame 7 was written after commit".into(); 3];
    record
        .host
        .unsupported
        .insert("frames".into(), "needs CAP_SYS_ADMIN".into());
    record
        .host
        .unsupported
        .insert("fault".into(), "none ".repeat(30));
    let text = summary(&record, Some(Path::new("runs/x")), Some(SCREEN));
    fits(&text);
    for part in [
        "FAILED: a long",
        "3 ERRORS",
        "limbo frame 7",
        "absent -",
        "CAP_SYS_ADMIN",
    ] {
        assert!(text.contains(part), "{part} not in\n{text}");
    }
    let whole = summary(&record, None, None);
    for reason in ["a long story ".repeat(20), "none ".repeat(30)] {
        assert!(whole.contains(&reason), "{reason} not in\n{whole}");
    }
    let access = text
        .lines()
        .find(|line| line.starts_with("access"))
        .expect("a line");
    assert!(access.ends_with("-       -"), "{access}");
}

#[test]
fn reports_of_checkers_are_shown() {
    let mut record = test_record();
    record.guest.reports_made = 9;
    record.guest.reports = vec![test_report(0, underfoot_abi::ReportKind::LockCycle)];
    let text = summary(&record, None, Some(SCREEN));
    fits(&text);
    let shown = "\nreports   9: lock-cycle on CPU 1: tree -> list -> tree\n";
    assert!(text.contains(shown), "{text}");
    // What is wrong goes before what is scarce, however often and early that was told.
    let scarce = test_report(0, underfoot_abi::ReportKind::OutOfMemory);
    record.guest.reports.insert(0, scarce);
    record.guest.reports_by_kind = [("lock-cycle", 1), ("out-of-memory", 8)].into();
    let text = summary(&record, None, None);
    let shown = "\nreports   9 (1 lock-cycle, 8 out-of-memory): lock-cycle on CPU 1: tree";
    assert!(text.contains(shown), "{text}");
}

#[test]
fn windows_that_were_given_up_are_told() {
    let mut record = test_record();
    record.experiment.max_window = Some(crate::units::Span::from_ms(2));
    record.migration.aborted_by = [(OVER_BUDGET, 7_000), ("injected", 2)].into();
    let text = summary(&record, None, Some(SCREEN));
    let shown =
        "\ngiven up  7,000 pages whose windows were open for more than 2ms (--max-window)\n";
    assert!(text.contains(shown), "{text}");
    assert!(text.contains(", 64MiB, --max-window 2ms\n"), "{text}");
}

/// What was cut could not be run again.
#[test]
fn what_was_run_is_told_in_full() {
    let mut record = test_record();
    record.experiment.kernel = Some("/a/long/path".repeat(20).into());
    let text = summary(&record, None, Some(SCREEN));
    assert!(text.contains(&"/a/long/path".repeat(20)), "{text}");
}

#[test]
fn a_guest_that_is_told_of_pages_says_what_became_of_them() {
    let mut record = test_record();
    let vcpu = PageEventCounts {
        not_present: 1_010,
        switched: 1_000,
        early: 5,
        halted: 3,
        masked: 2,
        ..PageEventCounts::default()
    };
    record.waits.page_events = vec![vcpu; 2];
    let text = summary(&record, None, Some(SCREEN));
    fits(&text);
    let shown = "\nasync     2,020 pages away: 2,000 slept for, 10 back at once, 10 halted for\n";
    assert!(text.contains(shown), "{text}");
}

#[test]
fn a_busted_form_is_named() {
    let mut record = test_record();
    record.experiment.variant = Variant::NoUnmap;
    let text = summary(&record, None, Some(SCREEN));
    fits(&text);
    assert!(text.contains("busted-no-unmap, WRONG ON PURPOSE"), "{text}");
}

#[test]
fn a_hypercall_that_is_not_made_has_a_line_of_its_own() {
    for (cpl, refused, said) in [
        (
            Cpl::Three,
            1_234,
            Some("1,234 by single interrupts, not by hypercall: none is made at CPL 3"),
        ),
        (
            Cpl::Zero,
            1,
            Some("1 by single interrupts, not by hypercall: KVM did not take it"),
        ),
        (Cpl::Three, 0, None),
    ] {
        let mut record = test_record();
        record.cpl = Some(cpl);
        record.guest.moving.insert("hypercalls-refused", refused);
        let text = summary(&record, Some(Path::new("runs/x")), Some(SCREEN));
        fits(&text);
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("shootdown "));
        assert_eq!(line, said, "{text}");
    }
}

/// Findings come first: what waited for grace periods is in the results too.
#[test]
fn a_full_screen_goes_without_the_backlog() {
    let mut record = test_record();
    let said = |record: &RunRecord, width| {
        let text = summary(record, Some(Path::new("runs/x")), width);
        text.contains("callbacks ")
    };
    assert!(said(&record, Some(SCREEN)));
    record.outcome.ending = Ending::Failed;
    record.integrity.errors = 1;
    record.integrity.details = vec!["one".into()];
    record
        .host
        .unsupported
        .insert("frames".into(), "why".into());
    assert!(!said(&record, Some(SCREEN)) && said(&record, None));
}
