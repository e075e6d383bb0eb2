//! The exported guest on a VMM that nobody here wrote.

use std::fs;

use underfoot_tests::{Command, Scratch, skip, turn};

/// What isa-debug-exit makes of the guest's status 0: `(0 << 1) | 1`.
const SOUND: i32 = 1;

#[test]
fn the_exported_guest_passes_its_self_test_under_qemu() {
    if std::process::Command::new("qemu-system-x86_64")
        .arg("--version")
        .output()
        .is_err()
    {
        return skip("no qemu-system-x86_64 (Debian package qemu-system-x86)");
    }
    let scratch = Scratch::new();
    let guest = scratch.join("guest.elf");
    Command::underfoot(&scratch)
        .words("guest --export")
        .args([guest.clone()])
        .run()
        .assert_status(0);
    for cpus in [1, 2, 4] {
        let _turn = turn();
        let console = scratch.join("console");
        let finished = Command::new("qemu-system-x86_64", &scratch)
            .words("-accel tcg -nodefaults -display none -no-reboot -m 64")
            .words(&format!("-smp {cpus} -kernel"))
            .args([guest.clone()])
            .words("-device isa-debug-exit,iobase=0xf4,iosize=4 -serial")
            .args([format!("file:{}", console.display())])
            .run();
        let said = fs::read(&console).expect("the console");
        let said = String::from_utf8_lossy(&said);
        println!("--- console, {cpus} CPUs\n{said}");
        assert_eq!(finished.status.code(), Some(SOUND), "{finished:?}\n{said}");
        let began = format!("self-test on {cpus} CPUs at CPL 0");
        assert!(said.contains(&began), "{cpus} CPUs:\n{said}");
        assert!(said.contains("self-test passed"), "{said}");
    }
}

#[test]
fn an_export_over_an_existing_file_or_nowhere_is_an_error() {
    let scratch = Scratch::new();
    let finished = Command::underfoot(&scratch)
        .words("guest --export /proc/guest.elf")
        .run();
    assert!(!finished.status.success());
    finished.assert_says(&["/proc/guest.elf"]);
    scratch.assert_untouched();
}
