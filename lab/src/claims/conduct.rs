//! Doing the runs of a plan, one after the other.

use super::plan::{Plan, PlannedRun, Role};
use super::runs::{DoneRun, Runs};
use super::validity::caught;
use crate::error::Error;
use crate::exit::ExitStatus;
use crate::experiment::Experiment;
use crate::host_limits::HostLimits;
use crate::record::{Ending, RunRecord};
use crate::rundir::RunDir;
use crate::units::Seed;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Does a run: given the experiment and the file for the guest's console.
pub type Runner<'a> = &'a mut dyn FnMut(&Experiment, &Path) -> Result<RunRecord, Error>;

/// What all runs of all plans share.
pub struct Conductor<'a> {
    /// What the host has.
    pub limits: &'a HostLimits,
    /// The seed of every run; drawn for each where there is none.
    pub seed: Option<Seed>,
    /// Does a run.
    pub run: Runner<'a>,
    /// Told which run of how many comes next.
    pub progress: &'a mut dyn FnMut(&Plan, &PlannedRun, usize),
}

/// Why the runs of a plan were not all done.
#[derive(Debug)]
pub enum Stop {
    /// The host lacks something that this plan needs.
    Lacking(Error),
    /// A run could not be made.
    Failed(Error),
    /// A signal came: nothing else is to be run either.
    Interrupted,
}

impl Conductor<'_> {
    /// Does every run of `plan`, each into a directory of its own under `directory`.
    ///
    /// # Errors
    /// [`Stop`]; the results so far stay where they are.
    pub fn conduct(&mut self, plan: &Plan, directory: &Path) -> Result<Runs, Stop> {
        let mut runs = Runs::default();
        for (index, planned) in plan.runs.iter().enumerate() {
            (self.progress)(plan, planned, index);
            runs.0.push(self.done(plan, planned, directory)?);
        }
        Ok(runs)
    }

    /// Does `planned`; a busted form again until it is caught or its attempts are used up.
    fn done(
        &mut self,
        plan: &Plan,
        planned: &PlannedRun,
        directory: &Path,
    ) -> Result<DoneRun, Stop> {
        let most = match planned.role {
            Role::Busted(_, attempts) => attempts.max(1),
            Role::Control | Role::Good => 1,
        };
        let mut attempts = 0;
        loop {
            attempts += 1;
            let place = match attempts {
                1 => directory.join(planned.name),
                number => directory.join(format!("{}-{number}", planned.name)),
            };
            let record = self.once(plan, planned, place)?;
            let done = DoneRun {
                planned: *planned,
                record,
                attempts,
            };
            if attempts == most || caught(&done).is_some() {
                return Ok(done);
            }
        }
    }

    fn once(
        &mut self,
        plan: &Plan,
        planned: &PlannedRun,
        place: PathBuf,
    ) -> Result<RunRecord, Stop> {
        // What a plan sets is tested to be right, so that only the host can be too small for it.
        let experiment = plan
            .experiment(planned, self.seed, self.limits)
            .map_err(|error| Stop::Lacking(error.into()))?;
        let out = |source| {
            Stop::Failed(Error::Results {
                flag: "--out",
                source,
            })
        };
        let now = SystemTime::now();
        let directory =
            RunDir::begin(Some(&place), Path::new(""), now, experiment.seed).map_err(out)?;
        let record =
            (self.run)(&experiment, &directory.console_path()).map_err(|error| {
                match error.status() {
                    ExitStatus::Unsupported => Stop::Lacking(error),
                    _ => Stop::Failed(error),
                }
            })?;
        directory.commit(&record).map_err(out)?;
        match record.outcome.ending {
            Ending::Interrupted { .. } => Err(Stop::Interrupted),
            Ending::Done | Ending::Failed | Ending::Watchdog => Ok(record),
        }
    }
}
