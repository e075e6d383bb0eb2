//! `claims` with runs that are made up.

use super::*;
use crate::claims::experiments::PLANS;
use crate::claims::format::CLAIMS_SCHEMA;
use crate::experiment::Experiment;
use crate::names::Variant;
use crate::record::{Ending, RunRecord};
use crate::test_record::test_record;
use serde_json::Value;

/// A run as it might have been: the busted forms are caught if `caught`.
fn made_up(experiment: &Experiment, console: &Path, caught: bool) -> Result<RunRecord, Error> {
    std::fs::write(console, "hello\n").expect("room");
    let mut record = test_record();
    record.experiment = experiment.clone();
    if experiment.variant != Variant::None && caught {
        record.integrity.errors = 1;
        record.integrity.details = vec!["audit: 7 lost".into()];
    }
    Ok(record)
}

fn request(base: &Path, ids: &[&str]) -> ClaimsRequest {
    ClaimsRequest {
        ids: ids.iter().map(|id| (*id).to_owned()).collect(),
        out: Some(base.join("out")),
        json: Some(base.join("claims.json")),
        ..ClaimsRequest::default()
    }
}

fn read(path: &Path) -> Value {
    let text = std::fs::read_to_string(path).expect("a file");
    serde_json::from_str(&text).expect("JSON")
}

fn entries(directory: &Path) -> usize {
    directory.read_dir().expect("readable").count()
}

const Q1B_RUNS: usize = 6;

#[test]
fn every_run_has_a_directory_and_the_answers_go_where_they_were_asked_for() {
    let base = tempfile::tempdir().expect("a directory");
    let status = claims_command(&request(base.path(), &["q1b,Q1b", "Q1b"]), &mut |e, c| {
        made_up(e, c, true)
    });
    assert_eq!(status.expect("it ran"), ExitStatus::Sound);
    let json = read(&base.path().join("claims.json"));
    assert_eq!(json, read(&base.path().join("out/claims.json")));
    assert_eq!(json["schema"], CLAIMS_SCHEMA);
    assert_eq!(json["claims"].as_array().expect("a list").len(), 1);
    assert_eq!(json["claims"][0]["valid"], true);
    let run = json["claims"][0]["run"].as_str().expect("a place");
    assert_eq!(entries(Path::new(run)), Q1B_RUNS);
    assert!(Path::new(run).join("spin/run.json").is_file());
}

#[test]
fn a_busted_form_that_nobody_catches_is_tried_again_and_then_told() {
    let base = tempfile::tempdir().expect("a directory");
    let mut runs = 0;
    let status = claims_command(&request(base.path(), &["Q1b"]), &mut |e, c| {
        runs += 1;
        made_up(e, c, false)
    });
    assert_eq!(status.expect("it ran"), ExitStatus::Failed);
    assert_eq!(runs, Q1B_RUNS + 7);
    assert_eq!(entries(&base.path().join("out/Q1b")), runs);
    let json = read(&base.path().join("claims.json"));
    let claim = &json["claims"][0];
    assert_eq!(
        (&claim["valid"], &claim["answer"]),
        (&false.into(), &"inconclusive".into())
    );
    let check = claim["measured"]["checks"]["busted-no-unmap"].to_string();
    assert!(check.contains("8 attempts"), "{check}");
}

#[test]
fn a_signal_ends_everything() {
    let base = tempfile::tempdir().expect("a directory");
    let mut runs = 0;
    let status = claims_command(&request(base.path(), &["Q1b"]), &mut |e, c| {
        runs += 1;
        let mut record = made_up(e, c, true)?;
        record.outcome.ending = Ending::Interrupted { signal: 2 };
        Ok(record)
    });
    assert_eq!((status.expect("it ran"), runs), (ExitStatus::Failed, 1));
    let json = read(&base.path().join("claims.json"));
    let reason = &json["claims"][0]["measured"]["reason"];
    assert_eq!(reason, "interrupted by a signal");
}

#[test]
fn a_host_that_lacks_something_for_all_leaves_nothing() {
    let base = tempfile::tempdir().expect("a directory");
    let error = claims_command(&request(base.path(), &["Q1b"]), &mut |_, _| {
        Err(Error::Unsupported("no KVM".into()))
    });
    assert_eq!(error.expect_err("no run").status(), ExitStatus::Unsupported);
    assert_eq!(entries(base.path()), 0);
}

#[test]
fn a_run_that_fails_is_told_and_not_valid() {
    let base = tempfile::tempdir().expect("a directory");
    let status = claims_command(&request(base.path(), &["Q1b"]), &mut |_, _| {
        Err(Error::Run("no thread".into()))
    });
    assert_eq!(status.expect("it is told"), ExitStatus::Failed);
    let json = read(&base.path().join("claims.json"));
    let reason = json["claims"][0]["measured"]["reason"].to_string();
    assert!(reason.contains("no thread"), "{reason}");
}

#[test]
fn wrong_usage_never_runs() {
    let base = tempfile::tempdir().expect("a directory");
    let mut never = |_: &Experiment, _: &Path| -> Result<RunRecord, Error> { panic!("it ran") };
    let mut exists = request(base.path(), &["Q1b"]);
    exists.out = Some(base.path().to_owned());
    let mut seed = request(base.path(), &["Q1b"]);
    seed.seed = Some("x".into());
    for request in [request(base.path(), &["Q1b", "Q9z"]), exists, seed] {
        let error = claims_command(&request, &mut never).expect_err("wrong");
        assert_eq!(error.status(), ExitStatus::Usage, "{error:?}");
        assert_eq!(entries(base.path()), 0);
    }
}

#[test]
fn a_question_without_an_experiment_is_said_to_have_none() {
    let without = crate::claims::question::QUESTIONS
        .iter()
        .find(|question| PLANS.iter().all(|plan| plan.id != question.id));
    let Some(without) = without else { return };
    let base = tempfile::tempdir().expect("a directory");
    let mut never = |_: &Experiment, _: &Path| -> Result<RunRecord, Error> { panic!("it ran") };
    let status = claims_command(&request(base.path(), &[without.id]), &mut never);
    assert_eq!(status.expect("it is told"), ExitStatus::Failed);
    let json = read(&base.path().join("claims.json"));
    assert_eq!(json["claims"][0]["answer"], "unmeasurable");
    assert_eq!(entries(base.path()), 1, "the JSON alone");
}
