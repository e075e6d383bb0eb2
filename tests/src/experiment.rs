//! What there is to run, and one sound run.

use serde_json::Value;

use crate::{Command, Finished, Scratch, Summary, turn};

/// Runs `underfoot run` with the words of `line`, into `run` and `run.json` of `scratch`, however it
/// ends.
///
/// # Panics
///
/// If it wrote no results, or anything beside them. Takes no turn: its caller has it.
#[must_use]
pub fn attempt(scratch: &Scratch, line: &str) -> (Summary, Finished) {
    let json = scratch.join("run.json");
    let finished = Command::underfoot(scratch)
        .words("run --out")
        .args([scratch.join("run")])
        .words("--json")
        .args([json.clone()])
        .words(line)
        .run();
    let summary = finished.summary(&json);
    scratch.assert_untouched();
    (summary, finished)
}

/// As [`attempt`], and checks what every run must satisfy.
///
/// # Panics
///
/// If it does not end with status 0, or its summary is not sound.
#[must_use]
pub fn run(scratch: &Scratch, line: &str) -> (Summary, Finished) {
    let _turn = turn();
    let (summary, finished) = attempt(scratch, line);
    finished.assert_status(0);
    summary.assert_sound();
    (summary, finished)
}

/// The names of all workloads, as `underfoot list` has them.
///
/// # Panics
///
/// If it does not say.
#[must_use]
pub fn workloads() -> Vec<String> {
    let finished = Command::underfoot(&Scratch::new())
        .words("list --json")
        .run();
    finished.assert_status(0);
    let table: Value = serde_json::from_str(&finished.stdout).expect("JSON");
    let listed = table["workloads"].as_array().expect("a list of workloads");
    let names = listed.iter().map(|workload| workload["name"].as_str());
    names.map(|name| name.expect("a name").to_owned()).collect()
}
