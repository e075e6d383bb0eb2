//! Answers for people and programs.

use super::answer::Claim;
use super::plan::Answer;
use super::runs::Figure;
use crate::human;
use serde::Serialize;
use serde_json::{Map, Value};
use std::path::Path;

/// The schema of the answers as JSON.
pub const CLAIMS_SCHEMA: &str = "underfoot.claims/1";

const LABEL: usize = 11;

/// How answers are written to standard output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// Schema [`CLAIMS_SCHEMA`].
    Json,
    /// The kernel's test anything protocol, version 1.
    Ktap,
}

#[derive(Serialize)]
struct ClaimsJson<'a> {
    schema: &'static str,
    claims: Vec<ClaimJson<'a>>,
}

#[derive(Serialize)]
struct ClaimJson<'a> {
    id: &'a str,
    question: &'a str,
    answer: &'a str,
    valid: bool,
    criterion: Option<&'a str>,
    measured: Map<String, Value>,
    run: Option<&'a Path>,
}

impl<'a> From<&'a Claim> for ClaimJson<'a> {
    fn from(claim: &'a Claim) -> Self {
        // Beside the figures, what they cannot be understood without.
        let mut measured = claim.measured.to_json();
        measured.insert("reason".into(), claim.verdict.reason.clone().into());
        if let Some(validity) = &claim.validity {
            let checks = validity.checks.iter();
            let checks: Map<_, _> = checks
                .map(|(name, check)| ((*name).to_owned(), check.clone().into()))
                .collect();
            measured.insert("checks".into(), checks.into());
        }
        Self {
            id: claim.question.id,
            question: claim.question.text,
            answer: claim.verdict.answer.name(),
            valid: claim.is_valid(),
            criterion: claim.criterion,
            measured,
            run: claim.directory.as_deref(),
        }
    }
}

/// The answers as JSON, indented, with a line feed at its end.
///
/// # Panics
/// Never: plain data has a JSON form.
#[must_use]
pub fn json(claims: &[Claim]) -> String {
    let json = ClaimsJson {
        schema: CLAIMS_SCHEMA,
        claims: claims.iter().map(ClaimJson::from).collect(),
    };
    let mut text = serde_json::to_string_pretty(&json).expect("plain data");
    text.push('\n');
    text
}

/// The answers for people: a block each.
#[must_use]
pub fn text(claims: &[Claim]) -> String {
    let blocks: Vec<String> = claims.iter().map(block).collect();
    blocks.join("\n")
}

fn block(claim: &Claim) -> String {
    let valid = if claim.is_valid() {
        "valid"
    } else {
        "NOT VALID"
    };
    let answer = claim.verdict.answer.name().to_uppercase();
    let mut lines = vec![format!("{}: {answer}, {valid}", claim.question.id)];
    let mut line = |label: &str, text: &str| lines.push(format!("  {label:<LABEL$}{text}"));
    line("question", claim.question.text);
    line("because", &claim.verdict.reason);
    if let Some(criterion) = claim.criterion {
        line("criterion", criterion);
    }
    let checks = claim.validity.iter().flat_map(|validity| &validity.checks);
    for (index, (name, check)) in checks.enumerate() {
        let label = if index == 0 { "runs" } else { "" };
        line(label, &format!("{name}: {check}"));
    }
    for (index, (name, figure)) in claim.measured.figures().iter().enumerate() {
        let label = if index == 0 { "measured" } else { "" };
        line(label, &format!("{name}: {}", shown(figure)));
    }
    if let Some(directory) = &claim.directory {
        line("results", &directory.display().to_string());
    }
    lines.into_iter().map(|line| line + "\n").collect()
}

fn shown(figure: &Figure) -> String {
    match figure {
        Figure::Value(Value::String(text)) => text.clone(),
        Figure::Value(value) => value.to_string(),
        Figure::Latencies(latencies) => {
            let ns = |value: Option<u64>| value.map_or_else(|| "-".to_owned(), human::time);
            format!(
                "{} seen, p50 {}, p90 {}, p99 {}, p99.9 {}, p99.99 {}, max {}",
                human::count(latencies.count),
                ns(latencies.p50_ns),
                ns(latencies.p90_ns),
                ns(latencies.p99_ns),
                ns(latencies.p99_9_ns),
                ns(latencies.p99_99_ns),
                ns(latencies.max_ns),
            )
        }
    }
}

/// The answers in KTAP: a valid experiment is `ok`, whatever its answer; what cannot be measured is
/// skipped.
#[must_use]
pub fn ktap(claims: &[Claim]) -> String {
    let mut text = format!("KTAP version 1\n1..{}\n", claims.len());
    for (index, claim) in claims.iter().enumerate() {
        let (id, verdict) = (claim.question.id, &claim.verdict);
        let number = index + 1;
        let answer = verdict.answer.name();
        let reason = verdict.reason.replace(['\n', '#'], " ");
        text.push_str(&match verdict.answer {
            Answer::Unmeasurable => format!("ok {number} {id} # SKIP {reason}\n"),
            _ => {
                let ok = if claim.is_valid() { "ok" } else { "not ok" };
                format!("# {id}: {answer}, {reason}\n{ok} {number} {id}\n")
            }
        });
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::claims::plan::Verdict;
    use crate::claims::question::QUESTIONS;
    use crate::claims::runs::Measured;
    use crate::claims::validity::Validity;

    fn claims() -> Vec<Claim> {
        let mut measured = Measured::default();
        measured.set("moving.share", 0.5);
        measured.latencies(
            "moving.window",
            &crate::test_record::test_record().moving["window"],
        );
        let answered = |valid: bool, measured: Measured| {
            let mut validity = Validity::default();
            validity.checks.push(("control", "clean".into()));
            if !valid {
                validity.problems.push("busted not caught".into());
            }
            Claim {
                criterion: Some("yes if it is"),
                verdict: Verdict::yes_if(true, "it is #1"),
                validity: Some(validity),
                measured,
                directory: Some("runs/claims-x/Q1a".into()),
                ..Claim::without_experiment(&QUESTIONS[0])
            }
        };
        vec![
            answered(true, measured),
            answered(false, Measured::default()),
            Claim::without_experiment(&QUESTIONS[1]),
        ]
    }

    #[test]
    fn programs_find_the_keys_of_the_schema() {
        let json: Value = serde_json::from_str(&json(&claims())).expect("JSON");
        assert_eq!(json["schema"], CLAIMS_SCHEMA);
        let list = json["claims"].as_array().expect("a list");
        for claim in list {
            let keys: Vec<&String> = claim.as_object().expect("an object").keys().collect();
            let mut expected = [
                "id",
                "question",
                "answer",
                "valid",
                "criterion",
                "measured",
                "run",
            ];
            expected.sort_unstable();
            let mut keys: Vec<&str> = keys.into_iter().map(String::as_str).collect();
            keys.sort_unstable();
            assert_eq!(keys, expected);
        }
        assert_eq!(
            (&list[0]["answer"], &list[0]["valid"]),
            (&"yes".into(), &true.into())
        );
        assert_eq!(list[0]["measured"]["moving.window"]["count"], 9_000);
        assert_eq!(list[0]["measured"]["checks"]["control"], "clean");
        assert_eq!(list[0]["run"], "runs/claims-x/Q1a");
        assert_eq!(list[1]["valid"], false);
        assert_eq!(list[2]["answer"], "unmeasurable");
        assert!(list[2]["run"].is_null() && list[2]["criterion"].is_null());
        assert!(list[2]["measured"]["reason"].is_string());
    }

    #[test]
    fn people_read_the_same() {
        let text = text(&claims());
        for part in [
            "Q1a: YES, valid\n",
            "Q1a: YES, NOT VALID\n",
            "Q1b: UNMEASURABLE, NOT VALID\n",
            "  criterion  yes if it is\n",
            "  runs       control: clean\n",
            "moving.window: 9,000 seen, p50 15.1 µs",
            "moving.share: 0.5\n",
            "  results    runs/claims-x/Q1a\n",
        ] {
            assert!(text.contains(part), "{part} not in\n{text}");
        }
    }

    #[test]
    fn kernel_people_read_ktap() {
        let expected = "KTAP version 1\n1..3\n# Q1a: yes, it is  1\nok 1 Q1a\n\
                        # Q1a: yes, it is  1\nnot ok 2 Q1a\n\
                        ok 3 Q1b # SKIP there is no experiment for this question yet\n";
        assert_eq!(ktap(&claims()), expected);
    }
}
