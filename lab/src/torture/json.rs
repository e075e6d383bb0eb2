//! What came of a walk as JSON, schema `underfoot.torture/1`.

use super::cell::{Backing, Cell};
use super::command::shortcoming;
use super::tally::{Place, Sums};
use super::visit::Common;
use super::walk::{Ended, Walked};
use crate::exit::ExitStatus;
use crate::json::{HostJson, OutcomeJson, ToolJson};
use crate::names::Named;
use crate::record::Integrity;
use crate::tool;
use crate::units::Span;
use serde::Serialize;
use std::path::Path;

/// The schema that [`TortureJson`] follows.
pub const TORTURE_SCHEMA: &str = "underfoot.torture/1";

/// What was asked for.
#[derive(Clone, Debug, Serialize)]
pub struct ConfigJson {
    /// The seed of all choices.
    pub seed: u64,
    /// vCPUs.
    pub cpus: u16,
    /// Guest memory, with its unit.
    pub memory: String,
    /// How long it was to take, with its unit.
    pub duration: String,
    /// The form of the engine.
    pub variant: &'static str,
}

/// One cell.
#[derive(Clone, Debug, Serialize)]
pub struct CellJson {
    /// When what is copied.
    pub strategy: &'static str,
    /// How the new frame arrives.
    pub backend: &'static str,
    /// What a vCPU does that meets a window.
    pub wait: &'static str,
    /// How large the pages are that move.
    pub page_size: &'static str,
    /// What backs guest memory.
    pub backing: Backing,
    /// What came of its visits.
    #[serde(flatten)]
    pub sums: Sums,
}

impl From<&(Cell, Sums)> for CellJson {
    fn from((cell, sums): &(Cell, Sums)) -> Self {
        Self {
            strategy: cell.way.strategy.name(),
            backend: cell.way.backend.name(),
            wait: cell.way.wait.name(),
            page_size: cell.way.page_size.name(),
            backing: cell.backing,
            sums: *sums,
        }
    }
}

/// The visit that failed.
#[derive(Clone, Debug, Serialize)]
pub struct FailureJson<'a> {
    /// Which, from 0.
    pub visit: u64,
    /// What went wrong.
    pub message: &'a str,
    /// What repeats it.
    pub command: &'a str,
    /// Its run directory.
    pub results: Option<&'a Path>,
}

/// The JSON of one walk.
#[derive(Clone, Debug, Serialize)]
pub struct TortureJson<'a> {
    /// [`TORTURE_SCHEMA`].
    pub schema: &'static str,
    /// What ran.
    pub tool: ToolJson,
    /// Where; null before the first visit.
    pub host: Option<HostJson<'a>>,
    /// What was asked for.
    pub config: ConfigJson,
    /// How it ended; `sound` if every cell had hits and nothing was found wrong.
    pub outcome: OutcomeJson<'a>,
    /// How long it took.
    pub elapsed_ns: u64,
    /// All visits, pages by outcome and what was done at random.
    pub migration: Sums,
    /// What was checked and found wrong.
    pub integrity: &'a Integrity,
    /// By cell, in the order of the table.
    pub cells: Vec<CellJson>,
    /// The visit that failed, if one did.
    pub failure: Option<FailureJson<'a>>,
    /// Why the walk is not sound though none did.
    pub shortcoming: Option<String>,
}

impl<'a> TortureJson<'a> {
    /// Of `walked`.
    #[must_use]
    pub fn new(common: &Common, duration: Span, walked: &'a Walked, status: ExitStatus) -> Self {
        let tally = &walked.tally;
        let failure = match &walked.ended {
            Ended::Failed(failure) => Some(FailureJson {
                visit: failure.visit,
                message: &failure.message,
                command: &failure.command,
                results: failure.results.as_deref(),
            }),
            Ended::Done | Ended::Interrupted { .. } => None,
        };
        Self {
            schema: TORTURE_SCHEMA,
            tool: ToolJson {
                name: tool::NAME,
                version: tool::VERSION,
                commit: tool::COMMIT,
            },
            host: tally.place.as_ref().map(Place::json),
            config: ConfigJson {
                seed: common.seed.0,
                cpus: common.cpus.get(),
                memory: common.memory.to_string(),
                duration: duration.to_string(),
                variant: common.variant.name(),
            },
            outcome: OutcomeJson {
                status: match &walked.ended {
                    Ended::Done => "done",
                    Ended::Interrupted { .. } => "interrupted",
                    Ended::Failed(failure) if failure.status == ExitStatus::Watchdog => "watchdog",
                    Ended::Failed(_) => "failed",
                },
                complete: walked.ended == Ended::Done,
                sound: status == ExitStatus::Sound,
                exit_status: status.code(),
                message: failure.as_ref().map(|failure| failure.message),
            },
            elapsed_ns: u64::try_from(walked.took.as_nanos()).unwrap_or(u64::MAX),
            migration: tally.total,
            integrity: &tally.integrity,
            cells: tally.cells.iter().map(CellJson::from).collect(),
            failure,
            shortcoming: shortcoming(walked, common.variant),
        }
    }

    /// The JSON text, indented, with a line feed at its end.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).expect("plain data");
        text.push('\n');
        text
    }
}
