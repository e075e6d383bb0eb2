//! Runs in the boxes, which have nested paging where this machine may have none.

use std::fs;
use std::path::Path;
use std::time::Duration;

use underfoot_abi::PageKind;

use crate::{Command, Scratch, Summary, build_static, workspace};

/// The boxes have limits of their own, which are shorter and say more.
const BOX_LIMIT: Duration = Duration::from_secs(3600);

/// Runs `underfoot run` with the words of `line` at CPL 0 and at CPL 3 in the box `name` (a script
/// under `tests/box`), with more `options` for the box, and checks that its stage 2 was `stage2`,
/// that nothing was lost and that every kind of page moved.
///
/// # Panics
///
/// If the box does not run, a run in it fails, or a summary is not sound.
pub fn assert_runs_in_box(name: &str, options: &str, stage2: &str, line: &str) {
    let scratch = Scratch::new();
    let packed = scratch.join("packed");
    fs::create_dir(&packed).expect("a directory");
    fs::copy(build_static(), packed.join("underfoot")).expect("a copy of the program");
    let results = scratch.join("results");
    let command = format!(
        "for cpl in 0 3; do /underfoot run --cpl $cpl --out /tmp/run$cpl --json /out/cpl$cpl.json \
         {line} || exit $?; done"
    );
    let script = workspace().join("tests/box").join(name);
    let finished = Command::new(script, &scratch)
        .words(options)
        .words("-o")
        .args([&results, &packed])
        .args([command])
        .limit(BOX_LIMIT)
        .run();
    println!("{}", finished.stdout);
    finished.assert_status(0);
    for cpl in [0, 3] {
        let path = results.join(format!("cpl{cpl}.json"));
        assert_moved(&finished.summary(&path), stage2, cpl, &path);
    }
}

fn assert_moved(summary: &Summary, stage2: &str, cpl: u64, path: &Path) {
    let path = path.display();
    summary.assert_sound();
    assert_eq!(summary.at("/host/stage2"), stage2, "{path}");
    assert_eq!(summary.number("/config/cpl"), cpl, "{path}");
    let by_kind = summary.by_kind();
    for kind in PageKind::TARGETS.map(PageKind::name) {
        assert!(by_kind[kind].committed > 0, "{path}: no {kind} page moved");
        assert!(summary.verified(kind) > 0, "{path}: no {kind} frame seen");
    }
}
