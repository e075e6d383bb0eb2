//! A matrix of runs: interrupted, gone on with, run by shards, put together and drawn.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::Value;
use underfoot_tests::{Command, Finished, Scratch, kvm, turn};

/// Two cells, twice each.
const SWEEP: &str = "repeat = 2\n[base]\nduration = '600ms'\nwarmup = '50ms'\ncpus = 2\n\
                     [matrix]\nbatch = [1, 32]\n";

fn underfoot(scratch: &Scratch, line: &str) -> Finished {
    Command::underfoot(scratch).words(line).run()
}

fn written(scratch: &Scratch) {
    fs::write(scratch.work().join("x.toml"), SWEEP).expect("room");
}

fn json(path: &Path) -> Value {
    let text =
        fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).expect("JSON")
}

/// The names of the runs in `place`, whole ones only.
fn runs(place: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(place.join("runs")).into_iter().flatten();
    let names = entries.map(|entry| {
        entry
            .expect("an entry")
            .file_name()
            .to_string_lossy()
            .into_owned()
    });
    names.filter(|name| !name.starts_with('.')).collect()
}

/// The windows of each cell are those of its runs, no more and no fewer, and so are the buckets.
fn assert_adds_up(place: &Path) {
    let sweep = json(&place.join("sweep.json"));
    assert_eq!(sweep["complete"], true, "{sweep}");
    for (number, cell) in (0..).zip(sweep["cells"].as_array().expect("cells")) {
        let runs = (1..=2).map(|run| json(&place.join(format!("runs/{number:04}-{run}/run.json"))));
        let windows: Vec<_> = runs
            .map(|run| run["histograms"]["window"].clone())
            .collect();
        let sum = |key: &str| {
            windows
                .iter()
                .map(|it| it[key].as_u64().expect("a number"))
                .sum::<u64>()
        };
        let pooled = &cell["histograms"]["window"];
        for key in ["count", "sum", "overflow"] {
            assert_eq!(pooled[key], sum(key), "{key} of cell {number}");
        }
        let buckets = pooled["buckets"].as_array().expect("buckets");
        let all: u64 = buckets
            .iter()
            .map(|bucket| bucket[1].as_u64().expect("a count"))
            .sum();
        assert_eq!(all + sum("overflow"), sum("count"), "cell {number}");
    }
}

#[test]
#[cfg_attr(no_kvm, ignore = "this host has no /dev/kvm for us")]
fn an_interrupted_sweep_goes_on_without_repeating_or_losing_a_run() {
    if !kvm() {
        return;
    }
    let _turn = turn();
    let scratch = Scratch::new();
    written(&scratch);
    let place = scratch.work().join("runs/x");
    let mut running = Command::underfoot(&scratch).words("sweep x.toml").start();
    running.wait_until("a run", |_| !runs(&place).is_empty());
    running.signal(libc::SIGINT);
    let interrupted = running.wait();
    interrupted.assert_status(1);
    interrupted.assert_says(&[
        "interrupted by signal 2",
        "the same command goes on with them",
    ]);
    let first = runs(&place);
    assert!((1..4).contains(&first.len()), "{first:?}");
    let before: Vec<_> = first
        .iter()
        .map(|run| json(&place.join("runs").join(run).join("run.json")))
        .collect();

    underfoot(&scratch, "sweep x.toml").assert_status(0);
    assert_eq!(runs(&place).len(), 4);
    let after = first
        .iter()
        .map(|run| json(&place.join("runs").join(run).join("run.json")));
    assert!(after.eq(before), "what was done is done");
    assert_adds_up(&place);

    underfoot(&scratch, "report runs/x").assert_status(0);
    let page = fs::read_to_string(place.join("report.html")).expect("a page");
    for part in ["class=\"heat\"", "<svg", "window p99.9", "Run it again"] {
        assert!(page.contains(part), "{part}");
    }
}

#[test]
#[cfg_attr(no_kvm, ignore = "this host has no /dev/kvm for us")]
fn shards_of_several_places_are_put_together() {
    if !kvm() {
        return;
    }
    let _turn = turn();
    let scratch = Scratch::new();
    written(&scratch);
    for part in 1..=2 {
        let line = format!("sweep x.toml --shard {part}/2 --out part{part}");
        underfoot(&scratch, &line).assert_status(0);
    }
    let parts = ["part1", "part2"].map(|part| runs(&scratch.work().join(part)));
    assert!(
        parts[0].is_disjoint(&parts[1]) && parts[0].len() == 2,
        "{parts:?}"
    );
    underfoot(&scratch, "sweep --merge part1 part2 --out all").assert_status(0);
    let all = scratch.work().join("all");
    assert_eq!(runs(&all), &parts[0] | &parts[1]);
    assert_adds_up(&all);
    underfoot(&scratch, "sweep x.toml --out all").assert_status(0);
}

#[test]
fn what_is_no_sweep_is_refused_before_anything_is_written() {
    let scratch = Scratch::new();
    let work = scratch.work();
    for (text, flags, says) in [
        ("[matrix]\ncpus = []\n", "", "it has no values"),
        ("[matrix]\nbatch = [1, 513]\n", "", "cell batch=513"),
        ("[matrix]\nbatch = [1, 2]\n", "--shard 3/2", "--shard"),
        ("cpus = [1]\n", "", "put it under [base]"),
    ] {
        fs::write(work.join("x.toml"), text).expect("room");
        let finished = underfoot(&scratch, &format!("sweep x.toml {flags}"));
        finished.assert_status(2);
        finished.assert_says(&[says]);
        assert!(!work.join("runs").exists(), "{text}");
    }
    let values: Vec<_> = (1..=220).map(|value| value.to_string()).collect();
    let axis = values.join(",");
    let many = format!("[matrix]\nseed = [{axis}]\nbatch = [{axis}]\nrate = [{axis}]\n");
    fs::write(work.join("x.toml"), many).expect("room");
    let finished = underfoot(&scratch, "sweep x.toml");
    finished.assert_status(2);
    finished.assert_says(&["10648000 runs, 100000 at most"]);
}
