//! `underfoot claims`: the list, wrong usage, and one experiment from its runs to its answer.

use serde_json::Value;
use std::fs;
use underfoot_tests::{Command, Scratch, Summary, emulated, kvm, turn};

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error} in:\n{text}"))
}

#[test]
fn every_question_is_listed() {
    let scratch = Scratch::new();
    let list = |line: &str| {
        let finished = Command::underfoot(&scratch).words(line).run();
        finished.assert_status(0);
        finished.stdout
    };
    let text = list("claims");
    let programs = json(&list("claims --format json"));
    assert_eq!(programs, json(&list("claims --json -")));
    let questions = programs["questions"].as_array().expect("a list");
    for question in questions {
        let id = question["id"].as_str().expect("an id");
        assert!(text.contains(&format!("\n{id} ")), "{id} not in {text}");
    }
    // The project's questions, Q1a to Q5f.
    assert_eq!(questions.len(), 26);
    scratch.assert_untouched();
}

#[test]
fn wrong_usage_is_refused() {
    for (line, says) in [
        ("claims Q2a.gest", &["`Q2a.gest`", "`Q2a.guest`"][..]),
        ("claims Q1b everything", &["everything", "Q1a, Q1b"]),
        ("claims --out x", &["ID"]),
        ("claims Q1b --format xml", &["xml", "ktap"]),
        ("claims Q1b --seed x", &["--seed", "`x`"]),
        ("claims Q1b --out .", &["--out", "exists"]),
        ("claims Q1b --out missing/x", &["--out", "make it first"]),
        ("claims Q1b --json /proc", &["--json", "is a directory"]),
    ] {
        let scratch = Scratch::new();
        let finished = Command::underfoot(&scratch).words(line).run();
        finished.assert_status(2).assert_says(says);
        scratch.assert_untouched();
    }
}

#[test]
#[cfg_attr(no_kvm, ignore = "this host has no /dev/kvm for us")]
fn an_experiment_answers_and_can_be_believed() {
    // Its runs are long, and what it measures is time.
    if !kvm() || emulated() {
        return;
    }
    let _turn = turn();
    let scratch = Scratch::new();
    let file = scratch.join("claims.json");
    let finished = Command::underfoot(&scratch)
        .words("claims Q1b --format ktap --out")
        .args([scratch.join("out")])
        .words("--json")
        .args([file.clone()])
        .run();
    finished.assert_status(0);
    scratch.assert_untouched();
    let said = &finished.stdout;
    assert!(said.starts_with("KTAP version 1\n1..1\n# Q1b: "), "{said}");
    assert!(said.ends_with("\nok 1 Q1b\n"), "{said}");

    let written = json(&fs::read_to_string(file).expect("the answers"));
    assert_eq!(written["schema"], "underfoot.claims/1");
    let claim = &written["claims"][0];
    assert_eq!(
        (&claim["id"], &claim["valid"]),
        (&"Q1b".into(), &true.into())
    );
    let answer = claim["answer"].as_str().expect("an answer");
    assert!(["yes", "no", "inconclusive"].contains(&answer), "{answer}");
    let checks = claim["measured"]["checks"].as_object().expect("checks");
    for (run, check) in checks {
        let text = fs::read_to_string(scratch.join("out/Q1b").join(run).join("run.json"));
        let summary = Summary::parse(&text.expect("a run directory"));
        let busted = summary.at("/config/variant") != "none";
        assert_eq!(
            check.to_string().contains("caught: "),
            busted,
            "{run}: {check}"
        );
    }
}
