//! The runs of a sweep that are still to be done, one after the other.

use super::shard::Shard;
use super::{Plan, PlannedRun, SweepDir, SweepError};
use crate::atomic_file::WriteError;
use crate::claims::conduct::Runner;
use crate::error::{Error, chain};
use crate::exit::ExitStatus;
use crate::host_limits::HostLimits;
use crate::record::Ending;
use crate::rundir::{RunDir, StoredRun};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conducted {
    /// The names of all runs of this shard.
    pub mine: BTreeSet<String>,
    /// How many of them are still to be done.
    pub left: usize,
    /// Cells that this host cannot run, and why.
    pub lacking: Vec<(String, String)>,
    /// The signal that interrupted it.
    pub signal: Option<u8>,
}

/// Told before each run: how many of the shard's are done, of how many, and which it is.
pub type Told<'a> = &'a mut dyn FnMut(usize, usize, &str);

/// The runs of one shard of a plan, in one place.
pub(super) struct Conductor<'a> {
    pub(super) plan: &'a Plan,
    pub(super) shard: Shard,
    pub(super) directory: &'a SweepDir,
    /// Whether runs that did not end well are done again.
    pub(super) again: bool,
    pub(super) limits: &'a HostLimits,
}

/// How one run ended.
enum Once {
    /// Its results are there.
    Done,
    /// This host cannot run it.
    Lacking(String),
    /// By this signal, without results.
    Interrupted(u8),
}

impl Conductor<'_> {
    /// Does the runs that have no results yet. A cell that this host cannot run is left, and told.
    ///
    /// # Errors
    /// [`Error`] if results could not be written, or a run went wrong by more than what it is; what was done before stays.
    pub(super) fn conduct(&self, run: Runner<'_>, told: Told<'_>) -> Result<Conducted, Error> {
        let order = self.plan.order().into_iter().enumerate();
        let mine: Vec<_> = order
            .filter(|(place, _)| self.shard.has(*place))
            .map(|(_, run)| run)
            .collect();
        let mut conducted = Conducted {
            mine: mine.iter().map(|run| self.plan.name(*run)).collect(),
            left: mine.len(),
            ..Conducted::default()
        };
        let mut lacking = BTreeSet::new();
        for (done, planned) in mine.iter().enumerate() {
            let cell = &self.plan.cells[planned.cell];
            // Looked at now, as another process may have done it meanwhile.
            if !self.is_open(*planned) {
                conducted.left -= 1;
                continue;
            }
            if lacking.contains(&planned.cell) {
                continue;
            }
            told(done, mine.len(), &cell.text());
            match self.once(*planned, run)? {
                Once::Done => conducted.left -= 1,
                Once::Lacking(why) => {
                    lacking.insert(planned.cell);
                    conducted.lacking.push((cell.text(), why));
                }
                Once::Interrupted(signal) => {
                    conducted.signal = Some(signal);
                    conducted.left -= mine[done..]
                        .iter()
                        .filter(|run| !self.is_open(**run))
                        .count();
                    break;
                }
            }
        }
        Ok(conducted)
    }

    /// Whether a run has no results, or some that are to be had again.
    fn is_open(&self, run: PlannedRun) -> bool {
        let place = self.directory.of_run(self.plan, run);
        let is_well = || StoredRun::read(&place).is_ok_and(|run| run.fault().is_none());
        place.symlink_metadata().is_err() || (self.again && !is_well())
    }

    /// One run; an interrupted one leaves nothing, so that it is done when the sweep goes on.
    fn once(&self, planned: PlannedRun, run: Runner<'_>) -> Result<Once, Error> {
        let experiment = self.plan.experiment(planned, self.limits)?;
        let place = self.directory.of_run(self.plan, planned);
        let is_there = place.symlink_metadata().is_ok();
        // What did not end well stays until there is something better.
        let new = if is_there {
            beside(&place)
        } else {
            place.clone()
        };
        if is_there {
            remove(&new)?;
        }
        let out = |source| Error::Results {
            flag: "--out",
            source,
        };
        let now = SystemTime::now();
        let begun = RunDir::begin(Some(&new), Path::new(""), now, experiment.seed);
        let results = match begun {
            Err(WriteError::Exists { .. }) => return Ok(Once::Done),
            begun => begun.map_err(out)?,
        };
        let record = match run(&experiment, &results.console_path()) {
            Err(error) if error.status() == ExitStatus::Unsupported => {
                return Ok(Once::Lacking(chain(&error)));
            }
            record => record?,
        };
        if let Ending::Interrupted { signal } = record.outcome.ending {
            return Ok(Once::Interrupted(signal));
        }
        match results.commit(&record) {
            // Another process did the same run meanwhile: one of both is enough.
            Err(WriteError::Exists { .. }) => return Ok(Once::Done),
            committed => committed.map_err(out)?,
        };
        if is_there {
            remove(&place)?;
            std::fs::rename(&new, &place).map_err(|source| SweepError::Io {
                path: place,
                source,
            })?;
        }
        Ok(Once::Done)
    }
}

/// Where the results lie that are to replace those in `place`: hidden, so that nobody takes them for a run.
fn beside(place: &Path) -> PathBuf {
    let name = place.file_name().unwrap_or_default().to_string_lossy();
    place.with_file_name(format!(".again-{name}"))
}

/// Removes what is at `path`, if anything is.
fn remove(path: &Path) -> Result<(), SweepError> {
    let removed = match path.symlink_metadata() {
        Err(_) => Ok(()),
        Ok(found) if found.is_dir() => std::fs::remove_dir_all(path),
        Ok(_) => std::fs::remove_file(path),
    };
    removed.map_err(|source| SweepError::Io {
        path: path.to_owned(),
        source,
    })
}
