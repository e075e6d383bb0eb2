//! Builds the guest kernel with the host's toolchain, to be embedded, and says which commit this is.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

const TRIPLE: &str = "x86_64-unknown-linux-gnu";

fn main() {
    let out = PathBuf::from(variable("OUT_DIR"));
    let manifest = PathBuf::from(variable("CARGO_MANIFEST_DIR"));
    let root = manifest.parent().expect("lab/ lies in the workspace");
    build_guest(root, &out);
    tell_commit(root);
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| panic!("cargo sets {name} for build scripts"))
}

/// Builds the guest into `out/guest.elf`.
fn build_guest(root: &Path, out: &Path) {
    for input in ["guest", "firmware", "Cargo.toml", "Cargo.lock"] {
        println!("cargo:rerun-if-changed={}", root.join(input).display());
    }
    // A target directory of its own: the outer cargo holds the lock of the other.
    let target = out.join("guest-target");
    let mut cargo = Command::new(variable("CARGO"));
    cargo
        .current_dir(root)
        .args(["build", "--package", "underfoot-guest"])
        .args(["--bin", "underfoot-guest", "--features", "image"])
        .args(["--profile", "guest", "--target", TRIPLE])
        .arg("--target-dir")
        .arg(&target);
    isolate(&mut cargo);
    cargo.env("CARGO_ENCODED_RUSTFLAGS", guest_flags(root));
    let output = cargo
        .output()
        .unwrap_or_else(|error| panic!("cannot start cargo for the guest: {error}"));
    assert!(
        output.status.success(),
        "the guest does not build ({}):\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    let built = target.join(TRIPLE).join("guest/underfoot-guest");
    let embedded = out.join("guest.elf");
    std::fs::copy(&built, &embedded).unwrap_or_else(|error| {
        panic!(
            "cannot copy {} to {}: {error}",
            built.display(),
            embedded.display()
        )
    });
}

/// Takes away what the outer build says about itself: the guest is not built with its flags, for
/// its target or under its wrappers. Where cargo and rustup live stays.
fn isolate(cargo: &mut Command) {
    const KEPT: [&str; 5] = [
        "CARGO",
        "CARGO_HOME",
        "CARGO_NET_OFFLINE",
        "CARGO_HTTP_CAINFO",
        "CARGO_BUILD_JOBS",
    ];
    // Registries are where packages come from, not how they are built.
    const KEPT_PREFIXES: [&str; 3] = ["CARGO_REGISTR", "CARGO_SOURCE_", "CARGO_HTTP_"];
    for (name, _) in env::vars_os() {
        let Some(name) = name.to_str() else { continue };
        let ours = name.starts_with("CARGO") || name.starts_with("RUSTC") || name == "RUSTFLAGS";
        let kept =
            KEPT.contains(&name) || KEPT_PREFIXES.iter().any(|prefix| name.starts_with(prefix));
        if ours && !kept {
            cargo.env_remove(name);
        }
    }
}

/// Flags of the guest: static, at fixed addresses, by the firmware's linker script, without the
/// host's start-up code and without unwind tables.
fn guest_flags(root: &Path) -> String {
    let script = format!(
        "link-arg=-Wl,-T,{}",
        root.join("firmware/link.ld").display()
    );
    let options = [
        "relocation-model=static",
        "link-arg=-nostdlib",
        "link-arg=-static",
        "link-arg=-no-pie",
        "link-arg=-nostartfiles",
        &script,
        "link-arg=-Wl,--build-id=none",
        "force-unwind-tables=no",
    ];
    options
        .iter()
        .flat_map(|option| ["-C", option])
        .collect::<Vec<_>>()
        .join("\x1f")
}

/// Sets UNDERFOOT_COMMIT where this is a checkout.
fn tell_commit(root: &Path) {
    let git = |args: &[&str]| {
        let output = Command::new("git").current_dir(root).args(args).output();
        output
            .ok()
            .filter(|output| output.status.success())
            .map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let Some(commit) = git(&["rev-parse", "HEAD"]).filter(|commit| !commit.is_empty()) else {
        return;
    };
    // HEAD's log grows with every commit and checkout.
    if let Some(log) = git(&["rev-parse", "--git-path", "logs/HEAD"]) {
        println!("cargo:rerun-if-changed={}", root.join(log).display());
    }
    let dirty = git(&["status", "--porcelain", "--untracked-files=no"])
        .is_some_and(|changes| !changes.is_empty());
    let suffix = if dirty { "-dirty" } else { "" };
    println!("cargo:rustc-env=UNDERFOOT_COMMIT={commit}{suffix}");
}
