//! Tells the tests whether this host can run them: those that it can't are ignored, and counted as
//! that. With `UNDERFOOT_REQUIRE_KVM=1` all run, and fail where they must.

use std::fs::{self, File};

const REQUIRE: &str = "UNDERFOOT_REQUIRE_KVM";
const DEVICE: &str = "/dev/userfaultfd";
const CAP_SYS_PTRACE: u32 = 19;

fn main() {
    println!("cargo:rustc-check-cfg=cfg(no_userfaultfd)");
    println!("cargo:rerun-if-env-changed={REQUIRE}");
    println!("cargo:rerun-if-changed={DEVICE}");
    let required = std::env::var(REQUIRE).is_ok_and(|value| value == "1");
    if !required && !may_serve_kernel_faults() {
        println!("cargo:rustc-cfg=no_userfaultfd");
    }
}

/// The three ways to a userfaultfd that serves the kernel's own faults (userfaultfd(2)).
fn may_serve_kernel_faults() -> bool {
    File::options().read(true).write(true).open(DEVICE).is_ok()
        || fs::read_to_string("/proc/sys/vm/unprivileged_userfaultfd")
            .is_ok_and(|text| text.trim() == "1")
        || capabilities().is_some_and(|set| set & (1 << CAP_SYS_PTRACE) != 0)
}

fn capabilities() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let set = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(set.trim(), 16).ok()
}
