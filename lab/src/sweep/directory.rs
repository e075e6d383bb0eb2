//! The place in which the runs of a sweep lie: `OUT/plan.json`, and `OUT/runs/CELL-REPETITION` for each that is done.

use super::shard::Shard;
use super::{Plan, PlannedRun, SweepError};
use crate::atomic_file::{AtomicFile, WriteError};
use crate::error::Error;
use crate::names::Named;
use crate::rundir::RUNS;
use crate::{leftovers, tool};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

/// What is swept, beside its runs.
pub const PLAN_JSON: &str = "plan.json";
/// The schema of [`PLAN_JSON`].
pub const PLAN_SCHEMA: &str = "underfoot.sweep-plan/1";

/// How files begin that are locked by who runs a shard.
const LOCK: &str = ".lock-";

/// [`PLAN_JSON`]: what must be the same for everybody who adds runs to a place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PlanJson {
    pub(super) schema: String,
    /// The tool that began it: figures of two versions do not belong together.
    pub(super) tool: String,
    /// The sweep file, all of it.
    pub(super) file: String,
    /// What its file is called.
    pub(super) name: String,
    pub(super) repeat: u32,
    /// The keys of each axis, in order.
    pub(super) axes: Vec<Vec<String>>,
    pub(super) cells: Vec<CellJson>,
    pub(super) skipped: Vec<SkippedJson>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct CellJson {
    pub(super) cell: usize,
    pub(super) settings: BTreeMap<String, String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SkippedJson {
    pub(super) cell: usize,
    pub(super) settings: BTreeMap<String, String>,
    pub(super) reason: String,
}

impl From<&Plan> for PlanJson {
    fn from(plan: &Plan) -> Self {
        let settings = |cell: &super::Cell| {
            let values = cell.values.iter();
            values
                .map(|(key, value)| (key.name().to_owned(), value.clone()))
                .collect()
        };
        let name = plan
            .file
            .path
            .file_name()
            .unwrap_or(plan.file.path.as_os_str());
        Self {
            schema: PLAN_SCHEMA.to_owned(),
            tool: tool::VERSION.to_owned(),
            file: plan.file.text.clone(),
            name: name.to_string_lossy().into_owned(),
            repeat: plan.file.repeat,
            axes: plan
                .file
                .axes
                .iter()
                .map(|axis| axis.keys.iter().map(|key| key.name().to_owned()).collect())
                .collect(),
            cells: plan
                .cells
                .iter()
                .map(|cell| CellJson {
                    cell: cell.number,
                    settings: settings(cell),
                })
                .collect(),
            skipped: plan
                .skipped
                .iter()
                .map(|(cell, reason)| SkippedJson {
                    cell: cell.number,
                    settings: settings(cell),
                    reason: reason.clone(),
                })
                .collect(),
        }
    }
}

impl PlanJson {
    /// The plan in the directory `place`; `None` if there is none.
    pub(super) fn read(place: &Path) -> Result<Option<Self>, SweepError> {
        let path = place.join(PLAN_JSON);
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(SweepError::Io { path, source }),
        };
        let plan: Self =
            serde_json::from_slice(&text).map_err(|source| SweepError::Plan { path, source })?;
        if plan.schema != PLAN_SCHEMA {
            let path = place.to_owned();
            return Err(SweepError::OtherSweep {
                path,
                what: "its plan has another schema",
            });
        }
        Ok(Some(plan))
    }

    /// Whether runs of `other` may lie among those of this plan.
    pub(super) fn check_same(&self, place: &Path, other: &Self) -> Result<(), SweepError> {
        let what = match () {
            () if self.tool != other.tool => "begun by another version",
            () if self.file != other.file => "the text differs",
            // By what the hosts have: unsound cells are left out on one of them.
            () if self.cells != other.cells => "other cells were left out on its host",
            () => return Ok(()),
        };
        Err(SweepError::OtherSweep {
            path: place.to_owned(),
            what,
        })
    }
}

/// Whether a sweep lies in the directory `path`.
#[must_use]
pub fn is_sweep(path: &Path) -> bool {
    path.join(PLAN_JSON).is_file()
}

/// A sweep's place, ready for runs.
#[derive(Debug)]
pub struct SweepDir {
    place: PathBuf,
    /// Held while it lives; goes with the process, however that ends.
    lock: Option<(File, PathBuf)>,
}

impl SweepDir {
    /// The place `out`, made if it is not there, taken up if the same sweep lies in it; without `out`,
    /// `runs/NAME` under `base`, after the sweep file. Nobody else runs `shard` meanwhile.
    ///
    /// # Errors
    /// [`Error::Sweep`] if something else lies there, [`Error::Results`] if it cannot be made.
    pub fn begin(
        out: Option<&Path>,
        base: &Path,
        plan: &Plan,
        shard: Shard,
    ) -> Result<Self, Error> {
        let place = place_of(out, base, plan);
        if out.is_none() {
            make(&base.join(RUNS))?;
        }
        make(&place)?;
        if !check_place(&place, plan)? {
            write_json(&place.join(PLAN_JSON), &PlanJson::from(plan))?;
        }
        make(&place.join(RUNS))?;
        let lock = lock(&place, shard)?;
        Ok(Self { place, lock })
    }

    /// Where it lies.
    #[must_use]
    pub fn place(&self) -> &Path {
        &self.place
    }

    /// Where the results of `run` lie, or will.
    #[must_use]
    pub fn of_run(&self, plan: &Plan, run: PlannedRun) -> PathBuf {
        self.place.join(RUNS).join(plan.name(run))
    }
}

/// Where the sweep lies that `out`, or its file, names.
pub(super) fn place_of(out: Option<&Path>, base: &Path, plan: &Plan) -> PathBuf {
    let named = || {
        base.join(RUNS)
            .join(plan.file.path.file_stem().unwrap_or_default())
    };
    out.map_or_else(named, Path::to_owned)
}

/// Whether the plan lies in `place` already.
///
/// # Errors
/// [`SweepError`] if something else lies there.
pub(super) fn check_place(place: &Path, plan: &Plan) -> Result<bool, SweepError> {
    let is_there = || -> Result<bool, SweepError> {
        let found = PlanJson::read(place)?;
        found.as_ref().map_or(Ok(()), |found| {
            found.check_same(place, &PlanJson::from(plan))
        })?;
        Ok(found.is_some())
    };
    if is_there()? {
        return Ok(true);
    }
    // Another process may have written it between the two looks.
    if place.is_dir() && !is_empty(place)? && !is_there()? {
        let path = place.to_owned();
        return Err(SweepError::NoSweep { path });
    }
    is_there()
}

impl Drop for SweepDir {
    fn drop(&mut self) {
        if let Some((_file, path)) = self.lock.take() {
            // Before it is let go, so that nobody else can hold it; one that stays is taken up again.
            let _ = std::fs::remove_file(path);
        }
    }
}

fn lock(place: &Path, shard: Shard) -> Result<Option<(File, PathBuf)>, Error> {
    let path = place.join(format!("{LOCK}{}", shard.to_string().replace('/', "-of-")));
    let failed = |source| SweepError::Io {
        path: path.clone(),
        source,
    };
    loop {
        let options = File::options().create(true).append(true).clone();
        let file = options.open(&path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) if is_at(&file, &path) => return Ok(Some((file, path))),
            // Its last holder took it away between the two calls.
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => {
                let path = place.to_owned();
                let shard = shard.to_string();
                return Err(SweepError::Busy { path, shard }.into());
            }
            // A file system without locks: then nobody is kept out.
            Err(std::fs::TryLockError::Error(_)) => return Ok(None),
        }
    }
}

/// Whether `path` still names `file`.
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let number = |of: std::io::Result<std::fs::Metadata>| of.map(|it| (it.dev(), it.ino())).ok();
    number(file.metadata()) == number(path.metadata())
}

/// Makes the directory `place`, if it is not there.
pub(super) fn make(place: &Path) -> Result<(), Error> {
    let out = |source| Error::Results {
        flag: "--out",
        source,
    };
    crate::atomic_file::parent_of(place).map_err(out)?;
    match std::fs::create_dir(place) {
        Ok(()) => Ok(()),
        Err(_) if place.is_dir() => Ok(()),
        Err(source) => Err(out(WriteError::not_writable(place, source))),
    }
}

/// Whether nothing is in it but what another process is about to put there.
pub(super) fn is_empty(place: &Path) -> Result<bool, SweepError> {
    let failed = |source| SweepError::Io {
        path: place.to_owned(),
        source,
    };
    for entry in std::fs::read_dir(place).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        let name = name.to_string_lossy();
        if !name.starts_with(leftovers::PREFIX) && !name.starts_with(LOCK) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Writes `value` as JSON to `path`, whole or not at all.
pub(super) fn write_json(path: &Path, value: &impl Serialize) -> Result<(), Error> {
    let mut text = serde_json::to_string_pretty(value).expect("plain data has a JSON form");
    text.push('\n');
    write_text(path, &text)
}

/// Writes `text` to `path`, whole or not at all.
pub(super) fn write_text(path: &Path, text: &str) -> Result<(), Error> {
    AtomicFile::prepare(path)
        .and_then(|file| file.commit(text.as_bytes()))
        .map_err(|source| Error::Results {
            flag: "--out",
            source,
        })
}

#[cfg(test)]
mod tests {
    use super::super::plan::plan_of;
    use super::*;
    use crate::error::chain;
    use crate::exit::ExitStatus;

    const TEXT: &str = "[matrix]\nbatch = [1, 2]\n";

    #[test]
    fn a_place_is_taken_up_by_the_same_sweep_alone() {
        let base = tempfile::tempdir().expect("a directory");
        let plan = plan_of(TEXT).expect("a plan");
        for _again in 0..2 {
            let place = SweepDir::begin(None, base.path(), &plan, Shard::WHOLE).expect("a place");
            assert_eq!(place.place(), base.path().join("runs/x"));
            assert!(is_sweep(place.place()));
        }
        let out = base.path().join("runs/x");
        let names = std::fs::read_dir(&out)
            .expect("readable")
            .map(|it| it.expect("one").file_name());
        let mut names: Vec<_> = names
            .map(|name| name.to_string_lossy().into_owned())
            .collect();
        names.sort_unstable();
        assert_eq!(names, [PLAN_JSON, RUNS], "no lock is left");

        let other = plan_of("[matrix]\nbatch = [1, 3]\n").expect("a plan");
        let strange = base.path().join("strange");
        std::fs::create_dir(&strange).expect("room");
        std::fs::write(strange.join("thesis.txt"), "mine").expect("room");
        let missing = base.path().join("missing/x");
        for (place, plan, part) in [
            (&out, &other, "the text differs"),
            (&strange, &plan, "holds no sweep"),
            (&missing, &plan, "missing"),
        ] {
            let error =
                SweepDir::begin(Some(place), base.path(), plan, Shard::WHOLE).expect_err(part);
            assert!(chain(&error).contains(part), "{}", chain(&error));
            assert_eq!(error.status(), ExitStatus::Usage, "{part}");
        }
        std::fs::write(out.join(PLAN_JSON), "{").expect("room");
        let error =
            SweepDir::begin(Some(&out), base.path(), &plan, Shard::WHOLE).expect_err("damaged");
        assert!(chain(&error).contains("is damaged"), "{}", chain(&error));
    }

    #[test]
    fn one_process_runs_a_shard() {
        let base = tempfile::tempdir().expect("a directory");
        let plan = plan_of(TEXT).expect("a plan");
        let shard = |text: &str| text.parse().expect("a shard");
        let begin = |part: &str| SweepDir::begin(None, base.path(), &plan, shard(part));
        let first = begin("1/2").expect("the first");
        let _second = begin("2/2").expect("another shard");
        let message = chain(&begin("1/2").expect_err("it is taken"));
        assert!(
            message.contains("shard 1/2") && message.contains("another process"),
            "{message}"
        );
        drop(first);
        begin("1/2").expect("free again");
    }
}
