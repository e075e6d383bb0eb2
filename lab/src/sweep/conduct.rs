//! The runs of a sweep that are still to be done, one after the other.

use super::shard::Shard;
use super::{Plan, PlannedRun, SweepDir};
use crate::claims::conduct::Runner;
use crate::error::Error;
use crate::host_limits::HostLimits;
use crate::record::{Ending, RunRecord};
use crate::rundir::{RunDir, StoredRun};
use std::path::Path;
use std::time::SystemTime;

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conducted {
    /// Runs of this shard that were done before.
    pub before: usize,
    /// Runs that were done now.
    pub now: usize,
    /// Runs of it that are still to be done.
    pub left: usize,
    /// The signal that interrupted it.
    pub signal: Option<u8>,
}

/// Told before each run: how many of the shard's are done, of how many, and which it is.
pub type Told<'a> = &'a mut dyn FnMut(usize, usize, &str);

/// Does the runs of `shard` that have no results in `directory` yet; with `again`, those too that did not end well.
///
/// # Errors
/// [`Error`] if a run could not be made, or its results not be written; what was done before stays.
pub fn conduct(
    plan: &Plan,
    shard: Shard,
    directory: &SweepDir,
    again: bool,
    limits: &HostLimits,
    run: Runner<'_>,
    told: Told<'_>,
) -> Result<Conducted, Error> {
    let order = plan.order().into_iter().enumerate();
    let mine: Vec<_> = order
        .filter(|(place, _)| shard.has(*place))
        .map(|(_, run)| run)
        .collect();
    let mut open = Vec::new();
    for run in &mine {
        if is_open(&directory.of_run(plan, *run), again)? {
            open.push(*run);
        }
    }
    let mut conducted = Conducted {
        before: mine.len() - open.len(),
        left: open.len(),
        ..Conducted::default()
    };
    for planned in open {
        let done = conducted.before + conducted.now;
        told(done, mine.len(), &plan.cells[planned.cell].text());
        match once(plan, planned, directory, limits, run)?.outcome.ending {
            Ending::Interrupted { signal } => {
                conducted.signal = Some(signal);
                return Ok(conducted);
            }
            Ending::Done | Ending::Failed | Ending::Watchdog => {
                conducted.now += 1;
                conducted.left -= 1;
            }
        }
    }
    Ok(conducted)
}

/// Whether the run whose results belong to `place` is to be done. One that did not end well makes room where it is to
/// be done again.
fn is_open(place: &Path, again: bool) -> Result<bool, Error> {
    if place.symlink_metadata().is_err() {
        return Ok(true);
    }
    if !again || StoredRun::read(place)?.fault().is_none() {
        return Ok(false);
    }
    std::fs::remove_dir_all(place).map_err(|source| super::SweepError::Io {
        path: place.to_owned(),
        source,
    })?;
    Ok(true)
}

/// One run; an interrupted one leaves nothing, so that it is done when the sweep goes on.
fn once(
    plan: &Plan,
    planned: PlannedRun,
    directory: &SweepDir,
    limits: &HostLimits,
    run: Runner<'_>,
) -> Result<RunRecord, Error> {
    let experiment = plan.experiment(planned, limits)?;
    let place = directory.of_run(plan, planned);
    let out = |source| Error::Results {
        flag: "--out",
        source,
    };
    let now = SystemTime::now();
    let results = RunDir::begin(Some(&place), Path::new(""), now, experiment.seed).map_err(out)?;
    let record = run(&experiment, &results.console_path())?;
    if !matches!(record.outcome.ending, Ending::Interrupted { .. }) {
        results.commit(&record).map_err(out)?;
    }
    Ok(record)
}
