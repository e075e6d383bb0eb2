//! On AMD's nested paging, in a box that QEMU emulates.

use underfoot_tests::{nested, skip};

#[test]
fn every_kind_moves_on_nested_paging_at_both_privilege_levels() {
    if std::env::var_os("PATH").is_none_or(|path| {
        !std::env::split_paths(&path).any(|dir| dir.join("qemu-system-x86_64").exists())
    }) {
        return skip("no qemu-system-x86_64 (Debian package qemu-system-x86)");
    }
    nested::assert_runs_in_box(
        "npt",
        "-c 2",
        "npt",
        "--cpus 2 --memory 32MiB --duration 5s",
    );
}
