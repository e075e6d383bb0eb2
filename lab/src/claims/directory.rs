//! The directory in which the runs of `claims` lie: `OUT/ID/RUN`.

use crate::atomic_file::{AtomicFile, WriteError};
use crate::human::utc_stamp;
use crate::rundir::{MadeParent, free_name, make_runs};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// The answers as JSON, beside the runs that gave them.
pub const CLAIMS_JSON: &str = "claims.json";

/// The directory of all; goes again if nothing came into it.
#[derive(Debug)]
pub struct ClaimsDir {
    place: PathBuf,
    /// After the directory itself, as drop order: it may lie in there.
    _made_parent: Option<MadeParent>,
}

impl ClaimsDir {
    /// Makes `out`, which must not exist; without it a new directory `runs/claims-TIME` under
    /// `base`.
    ///
    /// # Errors
    /// [`WriteError`] with [`WriteError::is_usage`].
    pub fn begin(out: Option<&Path>, base: &Path, now: SystemTime) -> Result<Self, WriteError> {
        let (place, made_parent) = match out {
            Some(out) => (out.to_owned(), None),
            None => {
                let (runs, made_parent) = make_runs(base)?;
                let name = format!("claims-{}", utc_stamp(now));
                (free_name(&runs, &name), made_parent)
            }
        };
        if place.symlink_metadata().is_ok() {
            return Err(WriteError::Exists { path: place });
        }
        make(&place)?;
        Ok(Self {
            place,
            _made_parent: made_parent,
        })
    }

    /// Makes the directory for the runs of the question `id`.
    ///
    /// # Errors
    /// [`WriteError`].
    pub fn question(&self, id: &str) -> Result<PathBuf, WriteError> {
        let place = self.place.join(id);
        make(&place)?;
        Ok(place)
    }

    /// Puts the answers beside the runs.
    ///
    /// # Errors
    /// [`WriteError`].
    pub fn write_answers(&self, json: &str) -> Result<(), WriteError> {
        AtomicFile::prepare(&self.place.join(CLAIMS_JSON))?.commit(json.as_bytes())
    }
}

fn make(place: &Path) -> Result<(), WriteError> {
    crate::atomic_file::parent_of(place)?;
    std::fs::create_dir(place).map_err(|source| WriteError::not_writable(place, source))
}

impl Drop for ClaimsDir {
    fn drop(&mut self) {
        let entries = std::fs::read_dir(&self.place).into_iter().flatten();
        // Each is refused where something lies in it, which is what is wanted.
        for entry in entries.flatten() {
            let _ = std::fs::remove_dir(entry.path());
        }
        let _ = std::fs::remove_dir(&self.place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::UNIX_EPOCH;

    fn begin(out: Option<&Path>, base: &Path) -> Result<ClaimsDir, WriteError> {
        ClaimsDir::begin(out, base, UNIX_EPOCH)
    }

    fn count(directory: &Path) -> usize {
        directory.read_dir().expect("readable").count()
    }

    #[test]
    fn what_stays_empty_goes_again() {
        let base = tempfile::tempdir().expect("a directory");
        let claims = begin(None, base.path()).expect("a place");
        let question = claims.question("Q1b").expect("room");
        assert!(question.ends_with("runs/claims-19700101T000000Z/Q1b"));
        drop(claims);
        assert_eq!(count(base.path()), 0);
    }

    #[test]
    fn what_was_written_stays() {
        let base = tempfile::tempdir().expect("a directory");
        let out = base.path().join("x");
        let claims = begin(Some(&out), base.path()).expect("a place");
        claims.question("Q1a").expect("room");
        let question = claims.question("Q1b").expect("room");
        std::fs::write(question.join("run.json"), "{}").expect("room");
        claims.write_answers("{}").expect("room");
        drop(claims);
        assert_eq!((count(&out), count(&question)), (2, 1));
        let error = begin(Some(&out), base.path()).expect_err("it exists");
        assert!(error.is_usage(), "{error}");
    }
}
