//! Which questions there are, and which of them can be answered today.

use super::experiments::plan;
use super::plan::{Plan, Role};
use super::question::{QUESTIONS, Question};
use crate::settings::Key;
use crate::units::Span;
use serde::Serialize;

/// The schema of the list as JSON.
pub const QUESTIONS_SCHEMA: &str = "underfoot.questions/1";

#[derive(Serialize)]
struct ListJson {
    schema: &'static str,
    questions: Vec<QuestionJson>,
}

#[derive(Serialize)]
struct QuestionJson {
    id: &'static str,
    question: &'static str,
    criterion: Option<&'static str>,
    runs: Vec<RunJson>,
}

#[derive(Serialize)]
struct RunJson {
    name: &'static str,
    role: &'static str,
}

impl From<&'static Question> for QuestionJson {
    fn from(question: &'static Question) -> Self {
        let plan = plan(question.id);
        let runs = plan.iter().flat_map(|plan| plan.runs);
        Self {
            id: question.id,
            question: question.text,
            criterion: plan.map(|plan| plan.criterion),
            runs: runs
                .map(|run| RunJson {
                    name: run.name,
                    role: match run.role {
                        Role::Control => "control",
                        Role::Good => "good",
                        Role::Busted(..) => "busted",
                    },
                })
                .collect(),
        }
    }
}

/// For programs.
///
/// # Panics
/// Never: plain data has a JSON form.
#[must_use]
pub fn json() -> String {
    let list = ListJson {
        schema: QUESTIONS_SCHEMA,
        questions: QUESTIONS.iter().map(QuestionJson::from).collect(),
    };
    let mut text = serde_json::to_string_pretty(&list).expect("plain data");
    text.push('\n');
    text
}

/// For people: a line each.
#[must_use]
pub fn text() -> String {
    let mut text = String::from("question   can be run     what it asks\n");
    for question in QUESTIONS {
        let when = plan(question.id).map_or_else(
            || "not yet".to_owned(),
            |plan| format!("{} runs, {} s", plan.runs.len(), seconds(plan)),
        );
        text.push_str(&format!(
            "{:<10} {when:<14} {}\n",
            question.id, question.text
        ));
    }
    text
}

/// For a kernel's test runner: nothing was asked for, so that nothing was tested.
#[must_use]
pub fn ktap() -> String {
    let mut text = format!("KTAP version 1\n1..{}\n", QUESTIONS.len());
    for (number, question) in (1..).zip(QUESTIONS) {
        let why = match plan(question.id) {
            Some(_) => "not asked for: name it",
            None => "there is no experiment for this question yet",
        };
        text.push_str(&format!("ok {number} {} # SKIP {why}\n", question.id));
    }
    text
}

/// About how long the runs take, if no busted form needs a second attempt.
fn seconds(plan: &Plan) -> u64 {
    let set = |run: &super::plan::PlannedRun, key: Key, default: Span| {
        let flags = plan.common.iter().chain(run.flags);
        // What a run sets comes behind what all have in common, and wins.
        let value = flags.rev().find(|(flag, _)| *flag == key);
        value
            .and_then(|(_, value)| value.parse().ok())
            .unwrap_or(default)
            .ns()
    };
    let length = |run: &super::plan::PlannedRun| {
        set(run, Key::Duration, Span::from_ms(10_000)) + set(run, Key::Warmup, Span::from_ms(500))
    };
    let total: u64 = plan.runs.iter().map(length).sum();
    total.div_ceil(1_000_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn every_question_is_listed_and_marked() {
        let (text, ktap) = (text(), ktap());
        let json: Value = serde_json::from_str(&json()).expect("JSON");
        assert_eq!(json["schema"], QUESTIONS_SCHEMA);
        for (index, question) in QUESTIONS.iter().enumerate() {
            let shown = text.lines().nth(index + 1).expect("a line");
            assert!(shown.starts_with(question.id) && shown.ends_with(question.text));
            let listed = &json["questions"][index];
            assert_eq!(listed["id"], question.id);
            let runs = listed["runs"].as_array().expect("a list").len();
            assert_eq!(listed["criterion"].is_null(), runs == 0);
            assert_eq!(shown.contains("not yet"), runs == 0, "{shown}");
            let skipped = ktap.lines().nth(index + 2).expect("a line");
            assert!(skipped.starts_with(&format!("ok {} {} # SKIP ", index + 1, question.id)));
            assert_eq!(skipped.contains("no experiment"), runs == 0, "{skipped}");
        }
        assert_eq!(
            ktap.lines().nth(1),
            Some(&*format!("1..{}", QUESTIONS.len()))
        );
        assert_eq!(ktap.lines().count(), QUESTIONS.len() + 2);
    }
}
