//! A disk that is full when the results are written.

use underfoot_tests::{Confinement, Scratch, kvm, turn};

#[test]
#[cfg_attr(no_kvm, ignore = "this host has no /dev/kvm for us")]
fn a_full_disk_is_named_and_left_clean() {
    if !kvm() || !Confinement::possible() {
        return;
    }
    let scratch = Scratch::new();
    let _turn = turn();
    let host = Confinement {
        // Room for the directory, not for the histograms.
        full_kib: Some(16),
        ..Confinement::default()
    };
    let out = Confinement::full(&scratch).join("run");
    let finished = host
        .underfoot(&scratch)
        .words("run --duration 1s --out")
        .args([out])
        .run();
    finished
        .assert_status(1)
        .assert_says(&["full/run", "No space left"]);
    assert_eq!(Confinement::left_in_full(&scratch), "");
    scratch.assert_untouched();
}
