//! The directory in which a run's results lie: there as a whole, or not at all.

mod attribution;
mod outlier;
mod read;
mod stored;

pub use attribution::{StoredAttribution, StoredCauses, StoredPlacebo, StoredTail, UNEXPLAINED};
pub use outlier::StoredStall;
pub use read::ReadError;
pub use stored::{Histograms, StoredCounts, StoredHost, StoredRun, plain};

use crate::atomic_file::{WriteError, parent_of, write_synced};
use crate::hlog::interval_log;
use crate::human::utc_stamp;
use crate::json::{RunJson, stall_lines};
use crate::leftovers;
use crate::record::RunRecord;
use crate::units::Seed;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Where run directories go that were not named.
pub const RUNS: &str = "runs";

/// The results as JSON.
pub const RUN_JSON: &str = "run.json";
/// What repeats the run.
pub const EXPERIMENT_TOML: &str = "experiment.toml";
/// The histograms as an HdrHistogram interval log.
pub const HISTOGRAMS_HLOG: &str = "histograms.hlog";
/// The longest stalls with what they were made of, a JSON object a line.
pub const STALLS_JSONL: &str = "stalls.jsonl";
/// What the guest wrote to its console.
pub const CONSOLE_LOG: &str = "console.log";

/// A run directory in the making: hidden beside its final place, renamed when it is complete,
/// removed when it is dropped before.
#[derive(Debug)]
pub struct RunDir {
    temporary: tempfile::TempDir,
    /// Says that the directory is in use.
    _lock: Option<File>,
    place: PathBuf,
    /// Kept until everything else is gone: the field order is the drop order.
    made_parent: Option<MadeParent>,
}

/// `runs/`, made for this run: goes again if nothing came into it.
#[derive(Debug)]
pub(crate) struct MadeParent(PathBuf);

impl Drop for MadeParent {
    fn drop(&mut self) {
        // Refused where something lies in it, which is what is wanted.
        let _ = std::fs::remove_dir(&self.0);
    }
}

impl RunDir {
    /// Makes sure, before the run, that the results can go to `out`, which must not exist; without
    /// it to a new directory `runs/TIME-SEED` under `base`.
    ///
    /// # Errors
    /// [`WriteError`] with [`WriteError::is_usage`] where the place cannot be used.
    pub fn begin(
        out: Option<&Path>,
        base: &Path,
        now: SystemTime,
        seed: Seed,
    ) -> Result<Self, WriteError> {
        match out {
            Some(out) => Self::beside(out.to_owned(), None),
            None => {
                let (runs, made_parent) = make_runs(base)?;
                let place = free_name(&runs, &format!("{}-{seed}", utc_stamp(now)));
                Self::beside(place, made_parent)
            }
        }
    }

    fn beside(place: PathBuf, made_parent: Option<MadeParent>) -> Result<Self, WriteError> {
        // A dangling link counts as something that is there.
        if place.symlink_metadata().is_ok() {
            return Err(WriteError::Exists { path: place });
        }
        let parent = parent_of(&place)?;
        leftovers::sweep(parent);
        let temporary = tempfile::Builder::new()
            .prefix(leftovers::PREFIX)
            .rand_bytes(leftovers::RANDOM)
            .permissions(default_permissions())
            .tempdir_in(parent)
            .map_err(|source| WriteError::not_writable(&place, source))?;
        Ok(Self {
            _lock: leftovers::hold(temporary.path()),
            temporary,
            place,
            made_parent,
        })
    }

    /// Where the directory will be.
    #[must_use]
    pub fn place(&self) -> &Path {
        &self.place
    }

    /// Where the console's output is to be written while the run lasts.
    #[must_use]
    pub fn console_path(&self) -> PathBuf {
        self.temporary.path().join(CONSOLE_LOG)
    }

    /// Writes the results beside the console's output and puts the directory in its place.
    ///
    /// # Errors
    /// [`WriteError`]; then nothing is left of the directory.
    pub fn commit(self, record: &RunRecord) -> Result<PathBuf, WriteError> {
        self.write(RUN_JSON, RunJson::from(record).to_text().as_bytes())?;
        self.write(EXPERIMENT_TOML, record.experiment.to_toml().as_bytes())?;
        self.write(HISTOGRAMS_HLOG, &interval_log(record))?;
        if let Some(attribution) = &record.attribution {
            self.write(STALLS_JSONL, stall_lines(attribution).as_bytes())?;
        }
        self.sync_console()?;
        self.rename()
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), WriteError> {
        let path = self.temporary.path().join(name);
        File::create_new(&path)
            .and_then(|mut file| write_synced(&mut file, bytes))
            .map_err(|source| WriteError::new(&self.place.join(name), source))
    }

    /// Whoever wrote the console's output did so without waiting for the disk.
    fn sync_console(&self) -> Result<(), WriteError> {
        File::options()
            .create(true)
            .append(true)
            .open(self.console_path())
            .and_then(|file| file.sync_all())
            .map_err(|source| WriteError::new(&self.place.join(CONSOLE_LOG), source))
    }

    fn rename(self) -> Result<PathBuf, WriteError> {
        let failed = |source| WriteError::new(&self.place, source);
        if self.place.symlink_metadata().is_ok() {
            return Err(WriteError::Exists { path: self.place });
        }
        let sync = |path: &Path| File::open(path).and_then(|directory| directory.sync_all());
        sync(self.temporary.path()).map_err(failed)?;
        std::fs::rename(self.temporary.path(), &self.place).map_err(failed)?;
        // From here on it is no temporary directory any more.
        let _ = self.temporary.keep();
        if let Some(made) = self.made_parent {
            std::mem::forget(made);
        }
        if let Ok(parent) = parent_of(&self.place) {
            // The results are in place; that their name survives a crash is asked for, not needed.
            let _ = sync(parent);
        }
        Ok(self.place)
    }
}

/// `base/runs`, made if it was not there.
pub(crate) fn make_runs(base: &Path) -> Result<(PathBuf, Option<MadeParent>), WriteError> {
    let runs = base.join(RUNS);
    match std::fs::create_dir(&runs) {
        Ok(()) => Ok((runs.clone(), Some(MadeParent(runs)))),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok((runs, None)),
        Err(source) => Err(WriteError::not_writable(&runs, source)),
    }
}

/// `name` in `directory`, or with a number behind it where that is taken.
pub(crate) fn free_name(directory: &Path, name: &str) -> PathBuf {
    let plain = directory.join(name);
    std::iter::once(plain)
        .chain((2u64..).map(|number| directory.join(format!("{name}-{number}"))))
        .find(|path| path.symlink_metadata().is_err())
        .expect("fewer than 2^64 names are taken")
}

/// What an ordinary directory gets before the umask is applied; temporary ones are private
/// otherwise.
fn default_permissions() -> std::fs::Permissions {
    use std::os::unix::fs::PermissionsExt;
    std::fs::Permissions::from_mode(0o777)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_record::test_record;
    use std::time::UNIX_EPOCH;

    fn entries(directory: &Path) -> Vec<String> {
        let mut names: Vec<String> = directory
            .read_dir()
            .expect("readable")
            .map(|entry| {
                entry
                    .expect("an entry")
                    .file_name()
                    .to_string_lossy()
                    .into_owned()
            })
            .collect();
        names.sort_unstable();
        names
    }

    fn begin(out: Option<&Path>, base: &Path) -> Result<RunDir, WriteError> {
        RunDir::begin(out, base, UNIX_EPOCH, Seed(7))
    }

    #[test]
    fn a_complete_run_holds_everything() {
        let base = tempfile::tempdir().expect("a directory");
        let run = begin(None, base.path()).expect("a place");
        std::fs::write(run.console_path(), "hello\n").expect("room");
        let place = run.commit(&test_record()).expect("room");
        assert_eq!(place, base.path().join("runs/19700101T000000Z-7"));
        assert_eq!(
            entries(&place),
            [
                CONSOLE_LOG,
                EXPERIMENT_TOML,
                HISTOGRAMS_HLOG,
                RUN_JSON,
                STALLS_JSONL
            ]
        );
        assert_eq!(entries(&base.path().join(RUNS)).len(), 1);
        let json = std::fs::read(place.join(RUN_JSON)).expect("the JSON");
        let json: serde_json::Value = serde_json::from_slice(&json).expect("JSON");
        assert_eq!(json["schema"], "underfoot.run/1");
        let second = begin(None, base.path()).expect("a second place");
        assert!(second.place().ends_with("19700101T000000Z-7-2"));
    }

    #[test]
    fn an_abandoned_run_leaves_nothing() {
        let base = tempfile::tempdir().expect("a directory");
        let run = begin(None, base.path()).expect("a place");
        std::fs::write(run.console_path(), "hello\n").expect("room");
        drop(run);
        assert!(entries(base.path()).is_empty());
        drop(begin(Some(&base.path().join("x")), base.path()).expect("a place"));
        assert!(entries(base.path()).is_empty());
    }

    #[test]
    fn a_place_that_cannot_be_used_is_refused_at_once() {
        let base = tempfile::tempdir().expect("a directory");
        let error = begin(Some(base.path()), base.path()).expect_err("it exists");
        assert!(matches!(error, WriteError::Exists { .. }) && error.is_usage());
        let deep = base.path().join("missing/x");
        let error = begin(Some(&deep), base.path()).expect_err("no parent");
        assert!(matches!(error, WriteError::NoParent { .. }) && error.is_usage());
        // /proc lets nobody make files, not even root.
        let error = begin(Some(Path::new("/proc/x")), base.path()).expect_err("read-only");
        assert!(matches!(error, WriteError::NotWritable { .. }) && error.is_usage());
        assert!(entries(base.path()).is_empty());
    }

    #[test]
    fn a_place_taken_meanwhile_is_not_replaced() {
        let base = tempfile::tempdir().expect("a directory");
        let place = base.path().join("x");
        let run = begin(Some(&place), base.path()).expect("a place");
        std::fs::create_dir(&place).expect("room");
        let error = run.commit(&test_record()).expect_err("it is taken");
        assert!(matches!(error, WriteError::Exists { .. }), "{error:?}");
        assert_eq!(entries(base.path()), ["x"]);
        assert!(entries(&place).is_empty());
    }
}
