//! `underfoot sweep`: a matrix of experiments, run by parts, interrupted and gone on with, and put together.
//!
//! `file` (what the user wrote) → `plan` (cells, and the order of their runs) → `conduct` (those of one shard that
//! are not done) → `directory` (a run directory for each) → `pooled` (the runs of each cell, added up) →
//! `results` and `table`. A run is done when its directory is there, so that nothing else has to be kept right.

mod axis;
pub mod command;
mod conduct;
mod directory;
mod error;
mod file;
mod merge;
pub mod metric;
mod plan;
mod pooled;
mod results;
mod shard;
mod table;
#[cfg(test)]
pub(crate) mod tests;

pub use command::{SweepRequest, sweep_command};
pub use directory::{SweepDir, is_sweep};
pub use error::SweepError;
pub use metric::Metric;
pub use plan::{Cell, Plan, PlannedRun};
pub use pooled::{CellResults, SweepResults, VariedAxis};
pub use results::{SWEEP_SCHEMA, to_json};
pub use table::{CSV_COUNTS, csv, markdown};
