//! Each combination of strategy, backend, wait policy and page size in the program's own table, a second each:
//! the sound ones run, the others are refused with the table's reason.

use serde_json::Value;
use std::collections::HashSet;
use underfoot_abi::PageKind;
use underfoot_migrator::numa_nodes;
use underfoot_tests::{Command, Scratch, at_least, kvm, run};

/// Far fewer than any combination moves in a second, and enough to lose something on the way.
const LEAST: u64 = 500;

/// What a combination is made of, and the list of each.
const CHOICES: [(&str, &str); 4] = [
    ("strategy", "strategies"),
    ("backend", "backends"),
    ("wait", "wait_policies"),
    ("page_size", "page_sizes"),
];

/// What `list --json` says.
fn table() -> Value {
    let scratch = Scratch::new();
    let finished = Command::underfoot(&scratch).words("list --json").run();
    finished.assert_status(0);
    scratch.assert_untouched();
    let table: Value = serde_json::from_str(&finished.stdout).expect("JSON");
    assert_eq!(table["schema"], "underfoot.list/1");
    table
}

fn list<'a>(table: &'a Value, key: &str) -> &'a [Value] {
    let list = table[key].as_array().map_or(&[][..], Vec::as_slice);
    assert!(!list.is_empty(), "no {key} in {table}");
    list
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key]
        .as_str()
        .unwrap_or_else(|| panic!("{key} is no text in {value}"))
}

/// Runs those of the table that `wanted` picks.
fn each_combination(cpus: u32, wanted: impl Fn(&Value) -> bool) {
    if !kvm() {
        return;
    }
    for way in list(&table(), "combinations")
        .iter()
        .filter(|way| wanted(way))
    {
        let keys = ["strategy", "backend", "wait", "page_size"];
        let [strategy, backend, wait, page_size] = keys.map(|key| text(way, key));
        // The kernel builds huge pages from small ones.
        let huge = page_size == "2MiB" && backend != "kernel";
        let line = format!(
            "--strategy {strategy} --backend {backend} --wait {wait} --page-size {page_size} \
             --hugepages={huge} --cpus {cpus} --duration 1s --warmup 100ms"
        );
        let between_nodes = backend == "kernel" && page_size == "4KiB" && strategy != "none";
        if way["sound"] == true && between_nodes && numa_nodes() < 2 {
            assert_lacking("one node has memory here", &line);
        } else if way["sound"] == true {
            assert_sound(way, &line);
        } else {
            assert_refused(text(way, "reason"), &line);
        }
    }
}

fn assert_sound(way: &Value, line: &str) {
    let scratch = Scratch::new();
    let (summary, _) = run(&scratch, line);
    let moved = summary.migration();
    if way["strategy"] == "none" {
        assert_eq!(moved.attempted, 0, "{line}: {moved:?}");
    } else {
        assert!(moved.committed >= at_least(LEAST), "{line}: {moved:?}");
    }
    for key in ["strategy", "backend", "wait"] {
        assert_eq!(summary.at("/config")[key], way[key], "{line}");
    }
}

/// This host has nothing that the combination could use.
fn assert_lacking(what: &str, line: &str) {
    let scratch = Scratch::new();
    Command::underfoot(&scratch)
        .words("run")
        .words(line)
        .run()
        .assert_status(4)
        .assert_says(&[what]);
    scratch.assert_untouched();
}

fn assert_refused(reason: &str, line: &str) {
    let scratch = Scratch::new();
    Command::underfoot(&scratch)
        .words("run")
        .words(line)
        .run()
        .assert_status(2)
        .assert_says(&[reason]);
    scratch.assert_untouched();
}

#[test]
fn each_combination_on_two_vcpus() {
    each_combination(2, |_| true);
}

#[test]
fn each_combination_that_moves_on_four_vcpus() {
    each_combination(4, |way| {
        way["strategy"] != "none" && way["page_size"] == "4KiB"
    });
}

#[test]
fn the_table_covers_every_choice_once() {
    let table = table();
    let ways = list(&table, "combinations");
    let found: HashSet<Vec<&str>> = ways
        .iter()
        .map(|way| CHOICES.iter().map(|(key, _)| text(way, key)).collect())
        .collect();
    assert_eq!(found.len(), ways.len(), "one is there twice");
    let product: usize = CHOICES
        .iter()
        .map(|(key, all)| {
            let named = |way: &Vec<&str>, name| way.contains(&name);
            for choice in list(&table, all) {
                let name = text(choice, "name");
                assert!(found.iter().any(|way| named(way, name)), "{key} {name}");
            }
            list(&table, all).len()
        })
        .product();
    assert_eq!(ways.len(), product);
}

#[test]
fn list_tells_people_the_same_a_line_each() {
    let scratch = Scratch::new();
    let finished = Command::underfoot(&scratch).words("list").run();
    finished.assert_status(0);
    let table = table();
    for key in [
        "workloads",
        "strategies",
        "backends",
        "wait_policies",
        "page_sizes",
        "page_kinds",
        "variants",
    ] {
        for choice in list(&table, key) {
            let (name, about) = (text(choice, "name"), text(choice, "about"));
            let line = |line: &&str| {
                let line = line.trim();
                line.starts_with(name) && line.ends_with(about)
            };
            assert_eq!(finished.stdout.lines().filter(line).count(), 1, "{name}");
        }
    }
    let kinds: Vec<_> = list(&table, "page_kinds")
        .iter()
        .map(|kind| text(kind, "name"))
        .collect();
    assert_eq!(kinds, PageKind::TARGETS.map(PageKind::name));
}
