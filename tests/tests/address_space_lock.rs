//! Calls that take the address-space lock for writing are told, where a backend makes such.

use underfoot_tests::{Scratch, kvm, run};

#[test]
#[cfg_attr(no_kvm, ignore = "this host has no /dev/kvm for us")]
fn each_mapping_and_registration_is_counted() {
    if !kvm() {
        return;
    }
    // By window: what is mapped, and the registration; a slot goes out and comes in.
    for (way, calls) in [
        ("--backend remap --strategy protect-copy", 2),
        ("--backend memslot --strategy stop-world", 3),
    ] {
        let scratch = Scratch::new();
        let (summary, finished) = run(&scratch, &format!("{way} --duration 1s"));
        let windows = summary.number("/histograms/window/count");
        let told = summary.number("/histograms/window.locked/count");
        assert!(windows > 0, "{way}");
        assert!(finished.stdout.contains("\nlocked "), "{}", finished.stdout);
        if summary.migration().aborted == 0 && summary.number("/migration/retried") == 0 {
            assert_eq!(told, calls * windows, "{way}");
        }
    }
    let scratch = Scratch::new();
    let (summary, finished) = run(&scratch, "--backend move --duration 1s");
    assert!(summary.at("/histograms/window.locked").is_null());
    assert!(
        !finished.stdout.contains("\nlocked "),
        "{}",
        finished.stdout
    );
}
