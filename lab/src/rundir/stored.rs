//! A run as its directory tells it: what `report` and `compare` work on.

use super::attribution::StoredAttribution;
use super::outlier::StoredStall;
use super::read::{Document, ReadError};
use crate::histogram::Histogram;
use crate::record::Answers;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Histograms by name.
pub type Histograms = BTreeMap<String, Histogram>;

/// One run that was written before.
#[derive(Clone, Debug)]
pub struct StoredRun {
    /// What the user named: its directory or its JSON.
    pub path: PathBuf,
    /// The tool that ran.
    pub tool: StoredTool,
    /// Where.
    pub host: StoredHost,
    /// The settings in effect, by name.
    pub config: Map<String, Value>,
    /// How it ended.
    pub outcome: StoredOutcome,
    /// What moved.
    pub migration: StoredMigration,
    /// What was checked.
    pub integrity: StoredIntegrity,
    /// Of the moving phase.
    pub moving: Histograms,
    /// Of the control phase.
    pub control: Histograms,
    /// What the guest told.
    pub guest: StoredGuest,
    /// Its stalls.
    pub stalls: StoredStalls,
    /// What the stalls were made of, where that was found out.
    pub attribution: Option<StoredAttribution>,
    /// The longest stalls, each whole, where they are told.
    pub longest_stalls: Vec<StoredStall>,
    /// What repeats the run; `None` beside a lone JSON.
    pub experiment: Option<String>,
}

/// The tool that ran.
#[derive(Clone, Debug, Deserialize)]
pub struct StoredTool {
    /// Its version.
    pub version: String,
    /// Its commit, where that is known.
    pub commit: Option<String>,
}

/// The host of a run.
#[derive(Clone, Debug, Deserialize)]
pub struct StoredHost {
    /// The first line of a summary.
    pub kind: String,
    /// `ept`, `npt` or `shadow`.
    pub stage2: String,
    /// The KVM module.
    pub kvm_module: String,
    /// Whether it is itself a guest.
    pub nested: bool,
    /// The CPU's model.
    pub cpu: String,
    /// CPUs online.
    pub cpus: u64,
    /// The kernel's release.
    pub kernel: String,
    /// What could not be measured, and why.
    #[serde(default)]
    pub unsupported: BTreeMap<String, String>,
}

/// How a run ended.
#[derive(Clone, Debug, Deserialize)]
pub struct StoredOutcome {
    /// `done`, `interrupted`, `failed` or `watchdog`.
    pub status: String,
    /// Whether every phase went its whole length.
    pub complete: bool,
    /// Whether it was complete and nothing was found wrong.
    pub sound: bool,
    /// Why it ended early.
    pub message: Option<String>,
}

/// Counts of migrations.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct StoredCounts {
    /// Begun.
    pub attempted: u64,
    /// In a new frame.
    pub committed: u64,
    /// Back in the old one.
    pub aborted: u64,
    /// Left alone.
    pub skipped: u64,
    /// Tried again.
    pub retried: u64,
    /// Frames seen to have changed; `None` where the host does not tell.
    pub verified: Option<u64>,
}

/// What moved.
#[derive(Clone, Debug, Deserialize)]
pub struct StoredMigration {
    /// Over all kinds.
    #[serde(flatten)]
    pub counts: StoredCounts,
    /// Committed pages per second.
    pub pages_per_s: Option<u64>,
    /// By page kind.
    #[serde(default)]
    pub by_kind: BTreeMap<String, StoredCounts>,
    /// Kinds that were left alone, and why.
    #[serde(default)]
    pub refused: BTreeMap<String, String>,
}

/// What was checked.
#[derive(Clone, Debug, Deserialize)]
pub struct StoredIntegrity {
    /// Words, objects and frames.
    pub checked: u64,
    /// Found wrong.
    pub errors: u64,
    /// One line each.
    #[serde(default)]
    pub details: Vec<String>,
}

/// One value for each phase.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub struct StoredPhases {
    /// The control phase.
    pub control: Option<f64>,
    /// The moving phase.
    pub moving: Option<f64>,
}

/// What the guest told.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct StoredGuest {
    /// Operations per second.
    #[serde(default)]
    pub operations_per_s: StoredPhases,
}

/// A run's stalls.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct StoredStalls {
    /// Stalled time per page moved.
    pub stalled_ns_per_page: Option<f64>,
    /// Stalled share (0 to 1) of vCPU time.
    pub vcpu_time_share: Option<f64>,
    /// The same of the control phase.
    pub control_vcpu_time_share: Option<f64>,
    /// Whether vCPUs took interrupts while they waited for a page: by wait policy and by its kind, where it is told.
    #[serde(default)]
    pub own_window_interrupts: BTreeMap<String, BTreeMap<String, Answers>>,
}

impl StoredRun {
    /// Reads the run in the directory `path`, or the JSON of one.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn read(path: &Path) -> Result<Self, ReadError> {
        super::read::read(path)
    }

    /// With the longest stalls that its directory tells, which only reports show.
    ///
    /// # Errors
    /// [`ReadError`] where that file is damaged.
    pub fn with_longest_stalls(mut self) -> Result<Self, ReadError> {
        self.longest_stalls = super::outlier::read(&self.path)?;
        Ok(self)
    }

    pub(super) fn new(
        path: &Path,
        document: Document,
        moving: Histograms,
        control: Histograms,
    ) -> Self {
        Self {
            path: path.to_owned(),
            tool: document.tool,
            host: document.host,
            config: document.config,
            outcome: document.outcome,
            migration: document.migration,
            integrity: document.integrity,
            moving,
            control,
            guest: document.guest,
            stalls: document.stalls,
            attribution: document.attribution,
            longest_stalls: Vec::new(),
            experiment: None,
        }
    }

    /// What it is called where several runs stand side by side: the last part of its path.
    #[must_use]
    pub fn name(&self) -> String {
        let full = self
            .path
            .canonicalize()
            .unwrap_or_else(|_| self.path.clone());
        let name = full.file_name().unwrap_or(full.as_os_str());
        name.to_string_lossy().into_owned()
    }

    /// The setting called `key` as text; empty where there is none.
    #[must_use]
    pub fn setting(&self, key: &str) -> String {
        self.config.get(key).map_or_else(String::new, plain)
    }

    /// What is wrong with the run itself, in words; `None` where it is sound.
    #[must_use]
    pub fn fault(&self) -> Option<String> {
        let outcome = &self.outcome;
        if !outcome.complete {
            let why = outcome
                .message
                .as_deref()
                .and_then(|text| text.lines().next());
            let why = why.map_or_else(String::new, |why| format!(": {why}"));
            return Some(format!("ended in the middle ({}){why}", outcome.status));
        }
        if self.integrity.errors > 0 {
            return Some(format!("{} integrity errors", self.integrity.errors));
        }
        (!outcome.sound).then(|| "not sound".to_owned())
    }
}

/// A value of the configuration as a person would write it.
#[must_use]
pub fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Object(fields) => {
            let fields = fields
                .iter()
                .map(|(name, value)| format!("{name}={}", plain(value)));
            fields.collect::<Vec<_>>().join(",")
        }
        other => other.to_string(),
    }
}
