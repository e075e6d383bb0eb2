//! What is made of a run directory afterwards: a page, a text for mail, and a comparison.

use std::fs;
use std::path::Path;

use serde_json::Value;
use underfoot_tests::{Command, Finished, Scratch, kvm, turn};

fn underfoot(scratch: &Scratch, line: &str) -> Finished {
    Command::underfoot(scratch).words(line).run()
}

/// A short run in the directory `name` of the working directory.
fn run(scratch: &Scratch, name: &str, flags: &str) {
    let line =
        format!("run --duration 1500ms --warmup 100ms --cpus 2 --seed 7 {flags} --out {name}");
    underfoot(scratch, &line).assert_status(0);
}

/// Each histogram of either phase of a run, by the names that it has there.
fn histograms(run: &Path) -> Vec<(String, u64)> {
    let text = fs::read_to_string(run.join("run.json")).expect("a run");
    let json: Value = serde_json::from_str(&text).expect("JSON");
    let section = json["histograms"].as_object().expect("histograms");
    let counts = section
        .iter()
        .map(|(name, histogram)| (name.clone(), histogram["count"].as_u64().expect("a count")));
    counts.collect()
}

#[test]
#[cfg_attr(no_kvm, ignore = "this host has no /dev/kvm for us")]
fn a_run_is_reported_and_compared() {
    if !kvm() {
        return;
    }
    let _turn = turn();
    let scratch = Scratch::new();
    run(&scratch, "a", "");
    run(&scratch, "b", "--batch 8");
    let place = scratch.work().join("a");
    report(&scratch, &place);
    compare(&scratch);
}

fn report(scratch: &Scratch, place: &Path) {
    underfoot(scratch, "report a").assert_status(0);
    let page = fs::read_to_string(place.join("report.html")).expect("a page");
    assert!(page.len() < 1 << 20, "{} bytes", page.len());
    for part in ["http://", "https://", "<script", "src="] {
        assert!(!page.contains(part), "{part} in the page");
    }
    for (name, count) in histograms(place) {
        assert!(page.contains(&name), "{name} is not in the page");
        let figure = format!("<figure><figcaption><b>{name}</b>");
        assert!(count == 0 || page.contains(&figure), "{name} has no figure");
    }
    let mail = underfoot(scratch, "report a --format md");
    let mail = &mail.assert_status(0).stdout;
    assert!(
        mail.lines().all(|line| line.chars().count() <= 72),
        "{mail}"
    );
    assert!(
        mail.contains("underfoot run --experiment a/experiment.toml"),
        "{mail}"
    );
    let csv = underfoot(scratch, "report a b --format csv");
    let csv = &csv.assert_status(0).stdout;
    assert!(csv.contains("\nb,control,guest.access,"), "{csv}");
}

fn compare(scratch: &Scratch) {
    let same = underfoot(scratch, "compare a a --fail-above 0 --json same.json");
    let said = &same.assert_status(0).stdout;
    assert!(
        said.contains("no difference seen") && said.contains("PASS"),
        "{said}"
    );
    let json = fs::read_to_string(scratch.work().join("same.json")).expect("JSON");
    let json: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json["schema"], "underfoot.compare/1");
    let access = &json["compared"][0]["histograms"]["moving"]["guest.access"];
    assert_eq!(access["verdict"], "no difference seen", "{access}");
    assert_eq!(access["chance"], 1.0, "{access}");

    let refused = underfoot(scratch, "compare a b");
    refused
        .assert_status(2)
        .assert_says(&["batch (1 and 8)", "--vary batch"]);
    // Eight pages in a window take longer than one, on whatever host.
    let worse = underfoot(scratch, "compare a b --vary batch --fail-above 1%");
    let said = &worse.assert_status(5).stdout;
    assert!(said.contains("FAIL: b, window "), "{said}");
}

#[test]
fn what_is_no_run_is_refused() {
    let scratch = Scratch::new();
    let work = scratch.work();
    let write = |name: &str, text: &str| {
        fs::create_dir(work.join(name)).expect("a directory");
        fs::write(work.join(name).join("run.json"), text).expect("a file");
    };
    write("cut", "{\"schema\": \"underfoot.run/1\", \"tool\":");
    write("newer", "{\"schema\": \"underfoot.run/9\"}");
    write("foreign", "{\"jobs\": []}");
    fs::create_dir(work.join("empty")).expect("a directory");
    for (name, parts) in [
        ("cut", &["cut/run.json", "cut off", "run it again"][..]),
        ("newer", &["underfoot.run/9", "the underfoot that wrote it"]),
        (
            "foreign",
            &[
                "foreign/run.json",
                "underfoot.run/1",
                "name a run directory",
            ],
        ),
        ("empty", &["empty/run.json", "name a run directory"]),
        ("nowhere", &["nowhere", "name a run directory"]),
    ] {
        for line in [format!("report {name}"), format!("compare {name} {name}")] {
            underfoot(&scratch, &line)
                .assert_status(2)
                .assert_says(parts);
        }
        assert!(!work.join(name).join("report.html").exists(), "{name}");
    }
}
