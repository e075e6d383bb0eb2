//! Tells the tests whether this host can run them: those that it can't are ignored, and counted as
//! that. With `UNDERFOOT_REQUIRE_KVM=1` all run, and fail where they must.

use std::fs::File;

const KVM: &str = "/dev/kvm";
const REQUIRE: &str = "UNDERFOOT_REQUIRE_KVM";

fn main() {
    println!("cargo:rustc-check-cfg=cfg(no_kvm)");
    println!("cargo:rerun-if-env-changed={REQUIRE}");
    println!("cargo:rerun-if-changed={KVM}");
    let required = std::env::var(REQUIRE).is_ok_and(|value| value == "1");
    let usable = || File::options().read(true).write(true).open(KVM).is_ok();
    if !required && !usable() {
        println!("cargo:rustc-cfg=no_kvm");
    }
}
