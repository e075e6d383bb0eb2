//! The walk through the table, in rounds, until the time is over or something is found.

use super::cell::{Cell, cells};
use super::tally::{Sums, Tally};
use super::visit::{Common, command_line};
use crate::atomic_file::WriteError;
use crate::claims::conduct::Runner;
use crate::error::{Error, chain};
use crate::exit::ExitStatus;
use crate::host_limits::HostLimits;
use crate::record::{Ending, RunRecord};
use crate::rundir::RunDir;
use crate::units::Span;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

/// The most that a visit takes, where the host keeps up: most of it with pages moving.
const VISIT: Duration = Duration::from_secs(1);
/// The least time in which pages move.
const LEAST_MOVING: Duration = Duration::from_millis(100);
/// Visits more that a cell is given in which nothing moved, when the time is over.
const REPEATS: u64 = 3;
/// What is taken for the rest of a visit before the first has been seen.
const OVERHEAD: Duration = Duration::from_millis(200);

/// What is walked, and for how long.
pub struct Walk<'a> {
    /// What all visits share.
    pub common: Common,
    /// How long it is to take.
    pub duration: Span,
    /// What the host has.
    pub limits: &'a HostLimits,
    /// Where the results of a visit that failed go; without it, to a new directory under `runs/`.
    pub out: Option<&'a Path>,
    /// Told how long it has gone on.
    pub progress: &'a mut dyn FnMut(Duration),
}

/// A visit that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Which, from 0.
    pub visit: u64,
    /// What went wrong, in full.
    pub message: String,
    /// The command that repeats the visit.
    pub command: String,
    /// Its results; `None` if it had none.
    pub results: Option<PathBuf>,
    /// What its exit status would have been.
    pub status: ExitStatus,
}

/// How a walk ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The time is over.
    Done,
    /// A signal came.
    Interrupted {
        /// Its number.
        signal: u8,
    },
    /// A visit failed; none came after it.
    Failed(Box<Failure>),
}

/// What came of a walk.
#[derive(Debug)]
pub struct Walked {
    /// What came of the visits.
    pub tally: Tally,
    /// How it ended.
    pub ended: Ended,
    /// How long it took.
    pub took: Duration,
    /// A duration in which every cell can be visited on this host.
    pub enough: Duration,
}

/// Divides the time among visits.
struct Pace {
    began: Instant,
    length: Duration,
    cells: u64,
    visits: u64,
    /// What visits take beside the time in which pages move, as the last ones did.
    overhead: Duration,
}

impl Pace {
    fn new(length: Duration, cells: u64) -> Self {
        let round = VISIT.as_nanos() * u128::from(cells.max(1));
        let rounds = length.as_nanos().div_ceil(round);
        let rounds = u64::try_from(rounds).unwrap_or(u64::MAX);
        Self {
            began: Instant::now(),
            length,
            cells,
            visits: rounds.saturating_mul(cells),
            overhead: OVERHEAD,
        }
    }

    /// For how long pages are to move in visit `number`; `None` if there is no time for it. The first
    /// round may take as long again, on a host that does not keep up.
    fn moving(&self, number: u64) -> Option<Duration> {
        let Some(left) = self.length.checked_sub(self.began.elapsed()) else {
            return (number < self.cells && self.has_grace()).then_some(LEAST_MOVING);
        };
        let visits = self.visits.checked_sub(number).filter(|left| *left > 0)?;
        let share = left / u32::try_from(visits).unwrap_or(u32::MAX);
        Some(share.saturating_sub(self.overhead).max(LEAST_MOVING))
    }

    /// Visits of each cell that were planned.
    fn rounds(&self) -> u64 {
        self.visits / self.cells.max(1)
    }

    /// Whether what is missing may still be made up for.
    fn has_grace(&self) -> bool {
        self.began.elapsed() < self.length * 2
    }

    fn note(&mut self, moving: Duration, took: Duration) {
        // A mean in which the last visit counts for a quarter: hosts change.
        self.overhead = (self.overhead * 3 + took.saturating_sub(moving)) / 4;
    }
}

impl Walk<'_> {
    /// Walks.
    ///
    /// # Errors
    /// The first visit could not be made, or results cannot be written.
    pub fn walk(&mut self, run: Runner<'_>) -> Result<Walked, Error> {
        let table = cells(self.common.variant);
        let count = table.len();
        let mut tally = Tally::new(table.clone());
        let mut pace = Pace::new(self.duration.duration(), count as u64);
        let mut order = Vec::new();
        let mut ended = Ended::Done;
        let mut number = 0;
        while ended == Ended::Done {
            let next = match pace.moving(number) {
                Some(moving) => {
                    if order.is_empty() {
                        let round = number / count as u64;
                        order = self.common.order(round, (0..count).collect());
                    }
                    order.pop().map(|cell| (cell, moving))
                }
                None if pace.has_grace() => barren(&tally, number, pace.rounds() + REPEATS),
                None => None,
            };
            let Some((cell, moving)) = next else { break };
            (self.progress)(pace.began.elapsed());
            let begun = Instant::now();
            let (record, failure) = self.visit(number, &table[cell], moving, &mut *run)?;
            pace.note(moving, begun.elapsed());
            if let Some(record) = &record {
                tally.add(cell, record);
            }
            number += 1;
            ended = match (failure, record.map(|record| record.outcome.ending)) {
                (Some(failure), _) => Ended::Failed(Box::new(failure)),
                (None, Some(Ending::Interrupted { signal })) => Ended::Interrupted { signal },
                (None, _) => Ended::Done,
            };
        }
        let each = (pace.overhead + LEAST_MOVING) * 3 / 2;
        Ok(Walked {
            tally,
            ended,
            took: pace.began.elapsed(),
            enough: each * u32::try_from(count).unwrap_or(u32::MAX),
        })
    }

    /// Makes a visit; if it fails its results are kept.
    fn visit(
        &self,
        number: u64,
        cell: &Cell,
        moving: Duration,
        run: Runner<'_>,
    ) -> Result<(Option<RunRecord>, Option<Failure>), Error> {
        let moving = Span::from_ms(u64::try_from(moving.as_millis()).unwrap_or(u64::MAX));
        let experiment = self.common.experiment(number, cell, moving, self.limits)?;
        let directory = RunDir::begin(self.out, Path::new(""), SystemTime::now(), experiment.seed)
            .map_err(out_error)?;
        let failed = |message, status, results| Failure {
            visit: number,
            message,
            command: command_line(&experiment),
            results,
            status,
        };
        match run(&experiment, &directory.console_path()) {
            Ok(record) => {
                let failure = match complaint(&record) {
                    Some(message) => {
                        let place = directory.commit(&record).map_err(out_error)?;
                        let status = ExitStatus::of_run(&record);
                        Some(failed(message, status, Some(place)))
                    }
                    None => None,
                };
                Ok((Some(record), failure))
            }
            // What has been found so far is worth more than the error alone.
            Err(error) if number > 0 => {
                Ok((None, Some(failed(chain(&error), error.status(), None))))
            }
            Err(error) => Err(error),
        }
    }
}

/// A cell that was visited in vain, less than `most` times, another one for each visit; and how long to
/// stay there.
fn barren(tally: &Tally, number: u64, most: u64) -> Option<(usize, Duration)> {
    let in_vain = |(cell, (_, sums)): (usize, &(Cell, Sums))| {
        let visited = (1..most).contains(&sums.visits);
        (visited && sums.migration.committed == 0).then_some(cell)
    };
    let barren: Vec<usize> = tally.cells.iter().enumerate().filter_map(in_vain).collect();
    let nth = number as usize % barren.len().max(1);
    barren.get(nth).map(|&cell| (cell, VISIT))
}

/// What is wrong with a visit, if anything is. That a wrong form was not caught in one is nothing.
fn complaint(record: &RunRecord) -> Option<String> {
    let ended = match record.outcome.ending {
        Ending::Failed | Ending::Watchdog => record.outcome.message.as_deref(),
        Ending::Done | Ending::Interrupted { .. } => None,
    };
    let details = record.integrity.details.iter().map(String::as_str);
    let said: Vec<&str> = ended.into_iter().chain(details).collect();
    (!said.is_empty()).then(|| said.join("\n"))
}

fn out_error(source: WriteError) -> Error {
    Error::Results {
        flag: "--out",
        source,
    }
}
