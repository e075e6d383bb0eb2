//! One sound run.

use crate::{Command, Finished, Scratch, Summary, turn};

/// Runs `underfoot run` with the words of `line`, into `run` and `run.json` of `scratch`, and
/// checks what every run must satisfy.
///
/// # Panics
///
/// If it does not end with status 0, or its summary is not sound.
#[must_use]
pub fn run(scratch: &Scratch, line: &str) -> (Summary, Finished) {
    let _turn = turn();
    let json = scratch.join("run.json");
    let finished = Command::underfoot(scratch)
        .words("run --out")
        .args([scratch.join("run")])
        .words("--json")
        .args([json.clone()])
        .words(line)
        .run();
    finished.assert_status(0);
    let summary = finished.summary(&json);
    summary.assert_sound();
    scratch.assert_untouched();
    (summary, finished)
}
