//! Reading a run back, and saying what is wrong where that is no run.

use super::attribution::StoredAttribution;
use super::stored::{
    Histograms, StoredGuest, StoredHost, StoredIntegrity, StoredMigration, StoredOutcome,
    StoredRun, StoredStalls, StoredTool,
};
use super::{EXPERIMENT_TOML, RUN_JSON};
use crate::histogram::{Histogram, Parts, RebuildError};
use crate::json::RUN_SCHEMA;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// A thousand times what a run writes.
const MOST_BYTES: u64 = 256 << 20;

/// Why a run could not be read. Each is a wrong name of the user's, or a file that is no use.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// There is no such file, or it may not be read.
    #[error("cannot read {}: name a run directory (`underfoot run` prints the one that it writes)", .path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// More than any run.
    #[error("{} is larger than {} MiB, which no run is: name a run directory", .path.display(), MOST_BYTES >> 20)]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// It ends in the middle.
    #[error("{} is cut off after line {line}: it was not written whole, so run it again", .path.display())]
    Truncated {
        /// The file.
        path: PathBuf,
        /// Its last line.
        line: usize,
    },
    /// Not JSON.
    #[error("{} is no JSON: name a run directory", .path.display())]
    NotJson {
        /// The file.
        path: PathBuf,
        /// Where it stops being one.
        #[source]
        source: serde_json::Error,
    },
    /// JSON, but not of a run of this version.
    #[error("{} has the schema {found}, not `{RUN_SCHEMA}`: {remedy}", .path.display())]
    OtherSchema {
        /// The file.
        path: PathBuf,
        /// What it says.
        found: String,
        /// What to do.
        remedy: &'static str,
    },
    /// The schema is right and what it promises is not there.
    #[error("{} is not what `{RUN_SCHEMA}` promises: it was changed or damaged, so run it again", .path.display())]
    Broken {
        /// The file.
        path: PathBuf,
        /// What is missing.
        #[source]
        source: serde_json::Error,
    },
    /// A histogram that is none.
    #[error("{}, histogram `{name}` under `{section}`", .path.display())]
    Histogram {
        /// The file.
        path: PathBuf,
        /// `histograms` or `control`.
        section: &'static str,
        /// Which.
        name: String,
        /// Why.
        #[source]
        source: RebuildError,
    },
}

/// The part of `run.json` that is read. What else is there is of no concern here, so that a run with more in it than
/// this version knows can be read.
#[derive(Debug, Deserialize)]
pub(super) struct Document {
    pub(super) tool: StoredTool,
    pub(super) host: StoredHost,
    pub(super) config: Map<String, Value>,
    pub(super) outcome: StoredOutcome,
    pub(super) migration: StoredMigration,
    pub(super) integrity: StoredIntegrity,
    histograms: BTreeMap<String, StoredHistogram>,
    control: BTreeMap<String, StoredHistogram>,
    #[serde(default)]
    pub(super) guest: StoredGuest,
    #[serde(default)]
    pub(super) stalls: StoredStalls,
    pub(super) attribution: Option<StoredAttribution>,
}

#[derive(Debug, Deserialize)]
struct StoredHistogram {
    count: u64,
    sum: u64,
    min: Option<u64>,
    max: Option<u64>,
    overflow: u64,
    buckets: Vec<(u64, u64)>,
}

pub(super) fn read(path: &Path) -> Result<StoredRun, ReadError> {
    if !path.is_dir() {
        return read_json(path, path);
    }
    let mut run = read_json(path, &path.join(RUN_JSON))?;
    // Whoever copied only the JSON still has a report, without the file that repeats the run.
    run.experiment = std::fs::read_to_string(path.join(EXPERIMENT_TOML)).ok();
    Ok(run)
}

fn read_json(path: &Path, file: &Path) -> Result<StoredRun, ReadError> {
    let value = parse(file, &read_text(file)?)?;
    check_schema(file, &value)?;
    let mut document: Document =
        serde_json::from_value(value).map_err(|source| ReadError::Broken {
            path: file.to_owned(),
            source,
        })?;
    let moving = rebuild(file, "histograms", std::mem::take(&mut document.histograms))?;
    let control = rebuild(file, "control", std::mem::take(&mut document.control))?;
    Ok(StoredRun::new(path, document, moving, control))
}

pub(super) fn read_text(file: &Path) -> Result<Vec<u8>, ReadError> {
    let failed = |source| ReadError::Open {
        path: file.to_owned(),
        source,
    };
    let mut text = Vec::new();
    let opened = File::open(file).map_err(failed)?;
    opened
        .take(MOST_BYTES + 1)
        .read_to_end(&mut text)
        .map_err(failed)?;
    if text.len() as u64 > MOST_BYTES {
        return Err(ReadError::TooLarge {
            path: file.to_owned(),
        });
    }
    Ok(text)
}

pub(super) fn parse(file: &Path, text: &[u8]) -> Result<Value, ReadError> {
    let path = file.to_owned();
    serde_json::from_slice(text).map_err(|source| match source.is_eof() {
        true => ReadError::Truncated {
            path,
            line: source.line(),
        },
        false => ReadError::NotJson { path, source },
    })
}

fn check_schema(file: &Path, value: &Value) -> Result<(), ReadError> {
    let family = |schema: &str| schema.rsplit_once('/').map(|(family, _)| family.to_owned());
    let (found, remedy) = match value.get("schema") {
        Some(Value::String(schema)) if schema == RUN_SCHEMA => return Ok(()),
        Some(Value::String(schema)) if family(schema) == family(RUN_SCHEMA) => {
            (format!("`{schema}`"), "use the underfoot that wrote it")
        }
        Some(Value::String(schema)) if schema.starts_with("underfoot.") => (
            format!("`{schema}`"),
            "name one of the run directories in it",
        ),
        Some(Value::String(schema)) => (format!("`{schema}`"), "name a run directory"),
        _ => ("of nobody".to_owned(), "name a run directory"),
    };
    let path = file.to_owned();
    Err(ReadError::OtherSchema {
        path,
        found,
        remedy,
    })
}

fn rebuild(
    file: &Path,
    section: &'static str,
    stored: BTreeMap<String, StoredHistogram>,
) -> Result<Histograms, ReadError> {
    let rebuilt = stored.into_iter().map(|(name, stored)| {
        let parts = Parts {
            count: stored.count,
            sum: stored.sum,
            min: stored.min,
            max: stored.max,
            overflow: stored.overflow,
            buckets: stored.buckets,
        };
        match Histogram::rebuild(&parts) {
            Ok(histogram) => Ok((name, histogram)),
            Err(source) => Err(ReadError::Histogram {
                path: file.to_owned(),
                section,
                name,
                source,
            }),
        }
    });
    rebuilt.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::chain;
    use crate::json::RunJson;
    use crate::rundir::StoredPlacebo;
    use crate::test_record::test_record;

    fn written(text: &str) -> (tempfile::TempDir, Result<StoredRun, ReadError>) {
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::write(directory.path().join(RUN_JSON), text).expect("room");
        let run = StoredRun::read(directory.path());
        (directory, run)
    }

    #[test]
    fn what_was_recorded_is_read_back() {
        let record = test_record();
        let (directory, run) = written(&RunJson::from(&record).to_text());
        let run = run.expect("a run");
        assert_eq!(run.moving, record.moving);
        assert_eq!(run.control, record.control);
        assert_eq!(run.host.kind, record.host_kind());
        assert_eq!(
            run.migration.counts.committed,
            record.migration.counts.committed
        );
        assert_eq!(run.migration.by_kind["slab"].verified, Some(31));
        assert_eq!(run.setting("workload"), "walk");
        assert_eq!(run.fault(), None);
        let told = run.attribution.expect("attributed");
        let causes: u64 = told.moving.causes.values().sum();
        assert_eq!((told.moving.stalled_ns, causes), (10_100_000, 10_100_000));
        let json = StoredRun::read(&directory.path().join(RUN_JSON)).expect("the JSON alone");
        assert_eq!(json.moving, record.moving);
    }

    #[test]
    fn an_attribution_is_read_with_whatever_is_told_of_it() {
        let mut json = serde_json::to_value(RunJson::from(&test_record())).expect("plain data");
        let causes = serde_json::json!({"window": 80, "unexplained": 5, "preempted": 15});
        for (placebo, share, real) in [
            (serde_json::json!(0.04), Some(0.04), None),
            (
                serde_json::json!({"share": 0.5, "real_share": 0.75, "more": 1}),
                Some(0.5),
                Some(0.75),
            ),
            (Value::Null, None, None),
        ] {
            json["attribution"] =
                serde_json::json!({"stalled_ns": 100, "causes": causes, "placebo": placebo});
            let (_directory, run) = written(&json.to_string());
            let attribution = run.expect("a run").attribution.expect("one");
            let read = attribution.placebo;
            assert_eq!(read.map(StoredPlacebo::share), share, "{placebo}");
            assert_eq!(read.and_then(StoredPlacebo::real_share), real, "{placebo}");
            let names: Vec<_> = attribution
                .moving
                .shares()
                .iter()
                .map(|cause| cause.0)
                .collect();
            assert_eq!(names, ["unexplained", "window", "preempted"]);
            assert_eq!((attribution.tail, attribution.control), (None, None));
        }
        let tail = serde_json::json!({"from_ns": 9, "stalls": 2, "stalled_ns": 20, "causes": {"window": 20}});
        json["attribution"]["tail"] = tail;
        let (_directory, run) = written(&json.to_string());
        let tail = run
            .expect("a run")
            .attribution
            .and_then(|attribution| attribution.tail)
            .expect("a tail");
        assert_eq!(
            (tail.from_ns, tail.stalls, tail.causes.shares()),
            (9, 2, vec![("window", 20, 1.0)])
        );
    }

    #[test]
    fn what_is_no_run_is_refused_with_a_remedy() {
        let good = RunJson::from(&test_record()).to_text();
        let changed = |from: &str, to: &str| good.replacen(from, to, 1);
        for (text, parts) in [
            (
                good[..good.len() / 2].to_owned(),
                &["is cut off after line", "run it again"][..],
            ),
            (String::new(), &["is cut off after line"]),
            ("PK\u{3}\u{4}".to_owned(), &["no JSON", "line 1"]),
            ("{}".to_owned(), &["schema of nobody", "`underfoot.run/1`"]),
            (
                changed("underfoot.run/1", "underfoot.run/2"),
                &["underfoot.run/2", "the underfoot that wrote it"],
            ),
            (
                changed("underfoot.run/1", "underfoot.claims/1"),
                &["claims/1", "one of the run directories in it"],
            ),
            (
                changed("underfoot.run/1", "fio"),
                &["`fio`", "name a run directory"],
            ),
            (
                changed("\"stage2\"", "\"stage3\""),
                &["changed or damaged", "`stage2`"],
            ),
            (
                changed("\"overflow\": 0", "\"overflow\": 5"),
                &["histogram `", "add up to", "run it again"],
            ),
        ] {
            let (_directory, run) = written(&text);
            let message = chain(&run.expect_err(parts[0]));
            for part in parts {
                assert!(
                    message.contains(part) && message.contains(RUN_JSON),
                    "{message}"
                );
            }
        }
        let empty = tempfile::tempdir().expect("a directory");
        let message = chain(&StoredRun::read(empty.path()).expect_err("nothing there"));
        assert!(
            message.contains("name a run directory") && message.contains("No such file"),
            "{message}"
        );
    }

    #[test]
    fn a_run_that_ended_early_says_so() {
        let mut record = test_record();
        record.outcome.ending = crate::record::Ending::Failed;
        record.outcome.message = Some("the guest\ndied".into());
        let (_directory, run) = written(&RunJson::from(&record).to_text());
        let fault = run.expect("it can be read").fault().expect("a fault");
        assert_eq!(fault, "ended in the middle (failed): the guest");
    }
}
