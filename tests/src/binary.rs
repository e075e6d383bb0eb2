//! Where the program under test is: built through cargo, once per test process.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use serde_json::Value;

/// Package and name of the program under test.
const PROGRAM: (&str, &str) = ("underfoot", "underfoot");

/// The root of the workspace.
///
/// # Panics
///
/// If this package no longer lies in one.
#[must_use]
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the package lies in the workspace")
}

/// The `underfoot` program: `UNDERFOOT_BIN`, or a release build of this work tree.
///
/// # Panics
///
/// If it does not build.
#[must_use]
pub fn underfoot() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| match env::var_os("UNDERFOOT_BIN") {
        Some(given) => PathBuf::from(given),
        None => build(PROGRAM, &[], None),
    })
}

/// What runs in the boxes: release builds that need no library of the machine they run on.
pub struct Static {
    /// The program under test.
    pub underfoot: PathBuf,
    /// Keeps a VM there: see `src/bin/hold-vm.rs`.
    pub hold_vm: PathBuf,
}

/// Builds them, in a target directory of their own, because other flags would rebuild everything in the
/// common one.
///
/// # Panics
///
/// If they do not build.
#[must_use]
pub fn build_static() -> Static {
    let target = env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| workspace().join("target"), PathBuf::from)
        .join("static");
    let target = target.to_str().expect("the target directory is UTF-8");
    let extra = [
        "--target",
        "x86_64-unknown-linux-gnu",
        "--target-dir",
        target,
    ];
    let flags = Some("-C target-feature=+crt-static");
    Static {
        underfoot: build(PROGRAM, &extra, flags),
        hold_vm: build(("underfoot-tests", "hold-vm"), &extra, flags),
    }
}

fn build((package, name): (&str, &str), extra: &[&str], rustflags: Option<&str>) -> PathBuf {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .current_dir(workspace())
        .args(["build", "--release", "-p", package, "--bin", name])
        .arg("--message-format=json-render-diagnostics")
        .args(extra);
    if let Some(flags) = rustflags {
        command
            .env_remove("CARGO_ENCODED_RUSTFLAGS")
            .env("RUSTFLAGS", flags)
            // An emulated machine has to read it all.
            .env("CARGO_PROFILE_RELEASE_STRIP", "symbols");
    }
    let output = command.output().expect("cargo starts");
    assert!(
        output.status.success(),
        "{name} does not build:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    executable(&output.stdout, name)
}

fn executable(messages: &[u8], name: &str) -> PathBuf {
    String::from_utf8_lossy(messages)
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|message| message["target"]["name"] == name)
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
        .expect("cargo names the executable")
}
