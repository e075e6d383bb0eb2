//! What came of the visits, cell by cell and in all.

use super::cell::Cell;
use crate::json::HostJson;
use crate::record::{Ending, Host, Integrity, MigrationCounts, RunRecord, TormentCounts};
use serde::Serialize;

/// What came of the visits of one cell, or of all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Sums {
    /// Visits, also those that ended early.
    pub visits: u64,
    /// Pages by outcome.
    #[serde(flatten)]
    pub migration: MigrationCounts,
    /// What was done at random.
    #[serde(flatten)]
    pub torment: TormentCounts,
    /// Integrity errors.
    pub errors: u64,
    /// Visits that the watchdog ended.
    pub watchdog: u64,
}

impl Sums {
    fn add(&mut self, record: &RunRecord) {
        let (mine, theirs) = (&mut self.migration, &record.migration.counts);
        mine.attempted += theirs.attempted;
        mine.committed += theirs.committed;
        mine.aborted += theirs.aborted;
        mine.skipped += theirs.skipped;
        mine.retried += theirs.retried;
        if let Some(torment) = record.torment {
            self.torment.aborts += torment.aborts;
            self.torment.pauses += torment.pauses;
            self.torment.holds += torment.holds;
        }
        self.visits += 1;
        self.errors += record.integrity.errors;
        self.watchdog += u64::from(record.outcome.ending == Ending::Watchdog);
    }
}

/// Where the visits were.
#[derive(Clone, Debug)]
pub struct Place {
    /// The first line of a summary.
    pub kind: String,
    /// The rest.
    pub host: Host,
}

impl Place {
    /// For the results.
    #[must_use]
    pub fn json(&self) -> HostJson<'_> {
        HostJson {
            kind: self.kind.clone(),
            host: &self.host,
        }
    }
}

/// What came of all visits.
#[derive(Clone, Debug)]
pub struct Tally {
    /// The cells, in the order of the table, and what came of each.
    pub cells: Vec<(Cell, Sums)>,
    /// All of them.
    pub total: Sums,
    /// What was checked and found wrong.
    pub integrity: Integrity,
    /// Where; `None` before the first visit.
    pub place: Option<Place>,
}

impl Tally {
    /// No visits yet.
    #[must_use]
    pub fn new(cells: Vec<Cell>) -> Self {
        Self {
            cells: cells
                .into_iter()
                .map(|cell| (cell, Sums::default()))
                .collect(),
            total: Sums::default(),
            integrity: Integrity::default(),
            place: None,
        }
    }

    /// Adds a visit of the cell at `index`.
    pub fn add(&mut self, index: usize, record: &RunRecord) {
        self.cells[index].1.add(record);
        self.total.add(record);
        self.integrity.checked += record.integrity.checked;
        self.integrity.errors += record.integrity.errors;
        let details = record.integrity.details.iter().cloned();
        self.integrity.details.extend(details);
        self.place.get_or_insert_with(|| Place {
            kind: record.host_kind(),
            host: record.host.clone(),
        });
    }

    /// Cells in which no page was moved.
    pub fn without_hits(&self) -> impl Iterator<Item = &Cell> {
        let cells = self.cells.iter();
        cells.filter_map(|(cell, sums)| (sums.migration.committed == 0).then_some(cell))
    }
}
