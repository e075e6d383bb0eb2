//! `torture` with visits that are made up.

use super::cell::{Backing, Cell, cells};
use super::command::torture_command;
use super::json::TORTURE_SCHEMA;
use super::visit::{Common, command_line};
use super::*;
use crate::error::Error;
use crate::exit::ExitStatus;
use crate::experiment::Experiment;
use crate::host_limits::HostLimits;
use crate::human;
use crate::names::Variant;
use crate::record::{Ending, RunRecord, TormentCounts};
use crate::settings::{Key, Settings};
use crate::test_record::test_record;
use crate::units::{CpuCount, Seed, Size, Span};
use serde_json::Value;
use std::collections::{BTreeSet, HashSet};
use std::path::Path;
use underfoot_migrator::{StrategyKind, WaitKind};

/// Pages that each made-up visit moves.
const COMMITTED: u64 = 312_340;

fn made_up(experiment: &Experiment) -> RunRecord {
    let mut record = test_record();
    record.experiment = experiment.clone();
    record.torment = Some(TormentCounts {
        aborts: 3,
        pauses: 4,
        holds: 5,
    });
    record
}

fn wrong(experiment: &Experiment) -> RunRecord {
    let mut record = made_up(experiment);
    record.integrity.errors = 2;
    record.integrity.details = vec!["audit: 2 lost".into()];
    record
}

fn request(base: &Path, flags: &[(Key, &str)]) -> TortureRequest {
    let mut settings = Settings::default();
    settings.set_flag(Key::Seed, "42");
    // Time for one round of visits that take none.
    settings.set_flag(Key::Duration, "60s");
    for (key, value) in flags {
        settings.set_flag(*key, *value);
    }
    TortureRequest {
        settings,
        out: Some(base.join("out")),
        json: Some(base.join("torture.json")),
    }
}

/// Walks with visits by `visit`, which is told their number; the status, the JSON and what was run.
fn walk(
    flags: &[(Key, &str)],
    mut visit: impl FnMut(usize, &Experiment) -> Result<RunRecord, Error>,
) -> (ExitStatus, Value, Vec<Experiment>) {
    let base = tempfile::tempdir().expect("a directory");
    let mut ran = Vec::new();
    let status = torture_command(&request(base.path(), flags), &mut |experiment, console| {
        std::fs::write(console, "hello\n").expect("room");
        ran.push(experiment.clone());
        visit(ran.len() - 1, experiment)
    });
    let text = std::fs::read_to_string(base.path().join("torture.json")).expect("the JSON");
    let json: Value = serde_json::from_str(&text).expect("JSON");
    let failed = !json["failure"]["results"].is_null();
    assert_eq!(base.path().join("out/run.json").is_file(), failed);
    assert_eq!(
        base.path().read_dir().expect("readable").count(),
        1 + usize::from(failed)
    );
    (status.expect("it ran"), json, ran)
}

fn common(seed: u64) -> Common {
    Common {
        seed: Seed(seed),
        cpus: CpuCount::clamped(2),
        memory: Size::from_mib(64),
        variant: Variant::None,
    }
}

fn limits() -> HostLimits {
    HostLimits {
        cpus: "0-1".parse().expect("a list"),
        memory: Size::from_mib(4096),
    }
}

#[test]
fn a_round_visits_each_cell_once_and_adds_up() {
    let (status, json, ran) = walk(&[], |_, experiment| Ok(made_up(experiment)));
    assert_eq!(status, ExitStatus::Sound, "{json}");
    let table = cells(Variant::None);
    let visited: HashSet<_> = ran
        .iter()
        .map(|run| (run.combination(), run.hugepages))
        .collect();
    assert_eq!((ran.len(), visited.len()), (table.len(), table.len()));
    assert!(
        ran.iter()
            .all(|run| run.torment && run.control_span() == Span::from_ns(0))
    );
    let all = ran.len() as u64;
    assert_eq!(json["schema"], TORTURE_SCHEMA);
    assert_eq!(json["migration"]["visits"], all);
    assert_eq!(json["migration"]["committed"], all * COMMITTED);
    assert_eq!(json["migration"]["holds"], all * 5);
    assert_eq!(json["integrity"]["errors"], 0);
    assert_eq!(json["config"]["seed"], 42);
    let listed = json["cells"].as_array().expect("a list");
    assert_eq!(listed.len(), table.len());
    for cell in listed {
        assert_eq!(
            (&cell["visits"], &cell["committed"]),
            (&1.into(), &COMMITTED.into())
        );
    }
    assert_eq!(json["outcome"]["sound"], true);
}

#[test]
fn the_table_has_every_sound_way_that_moves_pages() {
    let table = cells(Variant::None);
    for cell in &table {
        assert!(cell.way.check().is_ok() && cell.way.strategy != StrategyKind::None);
        assert_eq!(table.iter().filter(|other| *other == cell).count(), 1);
    }
    // Of a busted form those that it makes wrong.
    let busted = cells(Variant::NoUnmap);
    let strategies = |cell: &cell::Cell| cell.way.strategy == StrategyKind::UnmapCopy;
    assert!(busted.iter().all(strategies));
    for wait in WaitKind::ALL {
        for backing in Backing::ALL {
            let here = |cell: &cell::Cell| cell.way.wait == wait && cell.backing == backing;
            assert!(busted.iter().any(here), "{wait} {}", backing.name());
        }
    }
}

#[test]
fn the_seed_chooses_everything_and_every_choice_is_an_experiment() {
    let (table, moving) = (cells(Variant::None), Span::from_ms(100));
    let chosen = |seed, number: u64| {
        let cell = &table[number as usize % table.len()];
        let experiment = common(seed).experiment(number, cell, moving, &limits());
        experiment.expect("valid")
    };
    let mut workloads = BTreeSet::new();
    for number in 0..500 {
        let experiment = chosen(1, number);
        assert_eq!(experiment, chosen(1, number));
        assert_ne!(experiment.seed, chosen(2, number).seed);
        assert!((1..=512).contains(&experiment.batch.get()));
        workloads.insert(experiment.workload.name());
    }
    assert_eq!(workloads.len(), underfoot_abi::WorkloadId::ALL.len());
    let indices: Vec<_> = (0..table.len()).collect();
    let order = |seed, round| common(seed).order(round, indices.clone());
    assert_eq!(order(1, 0), order(1, 0));
    assert_ne!(order(1, 0), order(1, 1));
    assert_ne!(order(1, 0), order(2, 0));
}

/// What a shell would make of the flags in `line`.
fn parsed(line: &str) -> Experiment {
    let mut settings = Settings::default();
    let words = line.strip_prefix("underfoot run --").expect("the command");
    for flag in words.split(" --") {
        let (name, value) = flag.split_once([' ', '=']).expect("a value");
        let mut keys = <Key as crate::names::Named>::ALL.iter();
        let key = keys.find(|key| crate::names::Named::name(**key) == name);
        settings.set_flag(*key.expect("a flag"), value);
    }
    Experiment::resolve(&settings, &limits()).expect("valid")
}

#[test]
fn the_command_of_a_visit_repeats_it() {
    for (number, cell) in cells(Variant::None).iter().enumerate() {
        let moving = Span::from_ms(1234);
        let experiment = common(9).experiment(number as u64, cell, moving, &limits());
        let experiment = experiment.expect("valid");
        assert_eq!(parsed(&command_line(&experiment)), experiment);
    }
}

#[test]
fn the_first_error_ends_the_walk_with_what_repeats_it() {
    let (status, json, ran) = walk(&[], |number, experiment| {
        Ok(if number == 7 {
            wrong(experiment)
        } else {
            made_up(experiment)
        })
    });
    assert_eq!((status, ran.len()), (ExitStatus::Failed, 8));
    assert_eq!(json["integrity"]["errors"], 2);
    assert_eq!(json["outcome"]["status"], "failed");
    assert_eq!(json["failure"]["visit"], 7);
    assert_eq!(json["failure"]["message"], "audit: 2 lost");
    let command = json["failure"]["command"].as_str().expect("a command");
    assert_eq!(parsed(command), ran[7]);
}

#[test]
fn a_watchdog_a_crash_and_a_signal_end_the_walk_too() {
    for (ending, status, word) in [
        (Ending::Watchdog, ExitStatus::Watchdog, "watchdog"),
        (Ending::Failed, ExitStatus::Failed, "failed"),
        (
            Ending::Interrupted { signal: 2 },
            ExitStatus::Failed,
            "interrupted",
        ),
    ] {
        let (ended, json, ran) = walk(&[], |number, experiment| {
            let mut record = made_up(experiment);
            if number == 2 {
                record.outcome.ending = ending;
                record.outcome.message = Some("the guest\ndied".into());
            }
            Ok(record)
        });
        assert_eq!((ended, ran.len()), (status, 3), "{word}");
        assert_eq!(json["outcome"]["status"], word);
        assert_eq!(json["outcome"]["complete"], false);
        assert_eq!(json["migration"]["visits"], 3);
        let signal = matches!(ending, Ending::Interrupted { .. });
        assert_eq!(json["failure"].is_null(), signal, "{word}");
    }
}

#[test]
fn what_was_found_is_told_where_a_later_visit_cannot_be_made() {
    let lacking = || Error::Unsupported("no KVM".into());
    let (status, json, _) = walk(&[], |number, experiment| match number {
        2 => Err(lacking()),
        _ => Ok(made_up(experiment)),
    });
    assert_eq!(status, ExitStatus::Unsupported);
    assert_eq!(json["migration"]["visits"], 2);
    assert!(json["failure"]["message"].to_string().contains("no KVM"));
    assert!(json["failure"]["results"].is_null());

    let base = tempfile::tempdir().expect("a directory");
    let never = torture_command(&request(base.path(), &[]), &mut |_, _| Err(lacking()));
    assert_eq!(
        never.expect_err("no visit").status(),
        ExitStatus::Unsupported
    );
    assert_eq!(base.path().read_dir().expect("readable").count(), 0);
}

#[test]
fn cells_without_hits_are_a_failure() {
    let (status, json, ran) = walk(&[], |_, experiment| {
        let mut record = made_up(experiment);
        if experiment.strategy == StrategyKind::Lazy {
            record.migration.counts.committed = 0;
        }
        Ok(record)
    });
    assert_eq!(status, ExitStatus::Failed);
    let said = json["shortcoming"].as_str().expect("said");
    let table = cells(Variant::None);
    let count = table.len();
    let lazy = |cell: &&Cell| cell.way.strategy == StrategyKind::Lazy;
    let without = table.iter().filter(lazy).count();
    // One round, and a few visits more of each of those.
    assert_eq!(ran.len(), count + 3 * without);
    let expected = format!("{without} of {count} cells without hits: give it --duration");
    assert!(said.starts_with(&expected), "{said}");
    assert_eq!(json["outcome"]["sound"], false);
}

#[test]
fn a_cell_without_hits_is_given_another_chance() {
    let (status, json, ran) = walk(&[], |number, experiment| {
        let mut record = made_up(experiment);
        if number == 5 {
            record.migration.counts.committed = 0;
        }
        Ok(record)
    });
    assert_eq!(status, ExitStatus::Sound, "{json}");
    assert_eq!(ran.len(), cells(Variant::None).len() + 1);
}

#[test]
fn a_busted_form_must_be_caught_and_must_be_of_the_engine() {
    let busted = [(Key::Variant, "busted-no-unmap")];
    let (status, json, ran) = walk(&busted, |_, experiment| Ok(made_up(experiment)));
    assert_eq!(status, ExitStatus::Failed);
    assert!(
        json["shortcoming"].to_string().contains("not caught"),
        "{json}"
    );
    assert!(ran.iter().all(|run| run.variant == Variant::NoUnmap));
    let (status, json, _) = walk(&busted, |_, experiment| Ok(wrong(experiment)));
    assert_eq!(
        (status, &json["shortcoming"]),
        (ExitStatus::Failed, &Value::Null)
    );

    let base = tempfile::tempdir().expect("a directory");
    let guest = request(base.path(), &[(Key::Variant, "busted-no-lock")]);
    let error = torture_command(&guest, &mut |_, _| panic!("it ran")).expect_err("refused");
    assert_eq!(error.status(), ExitStatus::Usage);
    assert!(error.to_string().contains("busted-no-lock"), "{error}");
}

#[test]
fn the_text_fits_a_screen_and_its_last_line_is_the_verdict() {
    let experiment = test_record().experiment;
    let mut tally = tally::Tally::new(cells(Variant::None));
    for index in 0..tally.cells.len() {
        tally.add(index, &made_up(&experiment));
    }
    let mut walked = walk::Walked {
        tally,
        ended: walk::Ended::Done,
        took: std::time::Duration::from_secs(600),
        enough: std::time::Duration::from_secs(17),
    };
    let text = format::text(&common(u32::MAX.into()), &walked);
    // The table and what follows; what stands above it may scroll away.
    let table = text
        .lines()
        .skip_while(|line| !line.starts_with("pages moved"));
    assert!(table.count() <= 32, "{text}");
    assert!(
        text.lines().all(|line| line.chars().count() <= 80),
        "{text}"
    );
    let last = text.lines().last().expect("a line");
    let moved = human::count(walked.tally.cells.len() as u64 * COMMITTED);
    let expected = format!("sound     {moved} pages moved, ");
    assert!(last.starts_with(&expected), "{last}");
    assert!(last.ends_with(" 0 errors, no cell without hits"), "{last}");
    walked.ended = walk::Ended::Interrupted { signal: 2 };
    let text = format::text(&common(1), &walked);
    assert!(
        text.lines()
            .last()
            .expect("a line")
            .starts_with("INCOMPLETE"),
        "{text}"
    );
}
