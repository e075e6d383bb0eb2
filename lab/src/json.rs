//! The results of a run as JSON, schema `underfoot.run/1`.

mod backlog;

pub use backlog::{BacklogJson, SeriesJson};

use crate::attribution::Cause;
use crate::exit::ExitStatus;
use crate::guest_record::{GuestCounters, kind_name};
use crate::histogram::Histogram;
use crate::names::Named;
use crate::record::{
    AgreementRecord, AntagonistRecord, Attribution, AttributionRecord, ClockRecord, DmaRecord,
    Ending, EngineCost, FramesRecord, Histograms, Host, Integrity, KindCounts, KvmStats,
    MigrationCounts, PlugRecord, RunRecord, Stalls, Startup, TormentCounts, VcpuProgress, Waits,
    WatchdogRecord,
};
use crate::settings::Key;
use crate::tool;
use serde::Serialize;
use std::collections::BTreeMap;
use underfoot_abi::{Cpl, PageKind};

/// The schema that [`RunJson`] follows.
pub const RUN_SCHEMA: &str = "underfoot.run/1";

/// A histogram.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HistogramJson {
    /// What the values are: `ns`, but where something else is counted.
    pub unit: &'static str,
    /// Values recorded: the counts of `buckets` and `overflow`, added up.
    pub count: u64,
    /// Sum of the values.
    pub sum: u64,
    /// Least value, exactly; null while empty, like all that follow.
    pub min: Option<u64>,
    /// Half of the values are at most this. This and the other percentiles are upper bounds of the
    /// bucket in which the value lies, capped by `max`: at most 1/32 too high.
    pub p50: Option<u64>,
    /// 90 % of the values are at most this.
    pub p90: Option<u64>,
    /// 99 %.
    pub p99: Option<u64>,
    /// 99.9 %.
    pub p99_9: Option<u64>,
    /// 99.99 %.
    pub p99_99: Option<u64>,
    /// Greatest value, exactly.
    pub max: Option<u64>,
    /// Least value of each bucket that is not empty, and its count, ascending.
    pub buckets: Vec<(u64, u64)>,
    /// Values of 2^36 or more (about 69 s), which have no bucket.
    pub overflow: u64,
}

impl From<&Histogram> for HistogramJson {
    fn from(histogram: &Histogram) -> Self {
        Self::new(histogram, "ns")
    }
}

impl HistogramJson {
    /// A histogram of values in `unit`.
    #[must_use]
    pub fn new(histogram: &Histogram, unit: &'static str) -> Self {
        Self {
            unit,
            count: histogram.count(),
            sum: histogram.sum(),
            min: histogram.min(),
            p50: histogram.percentile(5_000),
            p90: histogram.percentile(9_000),
            p99: histogram.percentile(9_900),
            p99_9: histogram.percentile(9_990),
            p99_99: histogram.percentile(9_999),
            max: histogram.max(),
            buckets: histogram.buckets().collect(),
            overflow: histogram.overflow(),
        }
    }
}

/// The host, with its kind in words.
#[derive(Clone, Debug, Serialize)]
pub struct HostJson<'a> {
    /// The first line of the summary.
    pub kind: String,
    /// The rest.
    #[serde(flatten)]
    pub host: &'a Host,
}

/// How the run ended.
#[derive(Clone, Debug, Serialize)]
pub struct OutcomeJson<'a> {
    /// `done`, `interrupted`, `failed` or `watchdog`.
    pub status: &'static str,
    /// Whether every phase went its whole length.
    pub complete: bool,
    /// Whether it was complete and nothing was found wrong.
    pub sound: bool,
    /// The command's exit status.
    pub exit_status: u8,
    /// Why it ended early; null if it did not.
    pub message: Option<&'a str>,
}

/// What moved.
#[derive(Clone, Debug, Serialize)]
pub struct MigrationJson {
    /// Who moved: `host` or `guest`.
    pub mover: &'static str,
    /// Over all kinds.
    #[serde(flatten)]
    pub counts: MigrationCounts,
    /// Pages committed per second of the moving phase; null before it took any time.
    pub pages_per_s: Option<u64>,
    /// By page kind.
    pub by_kind: BTreeMap<&'static str, KindCounts>,
    /// Of the pages aborted, how many for which reason.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub aborted_by: BTreeMap<&'static str, u64>,
    /// Target kinds that were left alone, and why.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub refused: BTreeMap<&'static str, &'static str>,
}

/// The guest's stalls.
#[derive(Clone, Debug, Serialize)]
pub struct StallsJson {
    /// Counts.
    #[serde(flatten)]
    pub counts: Stalls,
    /// Stalled time per page committed; null where nothing moved.
    pub stalled_ns_per_page: Option<f64>,
    /// Stalled time as a share (0 to 1) of vCPU time.
    pub vcpu_time_share: Option<f64>,
    /// The same of the control phase.
    pub control_vcpu_time_share: Option<f64>,
}

/// Who stole the time.
#[derive(Clone, Debug, Serialize)]
pub struct AttributionJson<'a> {
    /// The moving phase.
    #[serde(flatten)]
    pub moving: &'a AttributionRecord,
    /// The control phase.
    pub control: &'a AttributionRecord,
    /// Causes, the one first to which time goes that several explain.
    pub precedence: [&'static str; Cause::ALL.len()],
    /// Records that came too fast, by source.
    pub lost: &'a BTreeMap<&'static str, u64>,
    /// Stalls that are told one by one in `stalls.jsonl`: the longest of each phase.
    pub told: usize,
    /// The others.
    pub left_out: u64,
}

/// The longest stalls of both phases as JSON, one a line.
#[must_use]
pub fn stall_lines(attribution: &Attribution) -> String {
    let lines = attribution.longest.iter();
    // Maps with string keys and plain numbers: nothing that JSON cannot say.
    let lines = lines.map(|line| serde_json::to_string(line).expect("plain data") + "\n");
    lines.collect()
}

impl<'a> From<&'a Attribution> for AttributionJson<'a> {
    fn from(attribution: &'a Attribution) -> Self {
        Self {
            moving: &attribution.moving,
            control: &attribution.control,
            precedence: Cause::ALL.map(Cause::name),
            lost: &attribution.lost,
            told: attribution.longest.len(),
            left_out: attribution.left_out,
        }
    }
}

/// One value for each recorded phase.
#[derive(Clone, Debug, Serialize)]
pub struct PhasesJson<T> {
    /// The control phase.
    pub control: T,
    /// The moving phase.
    pub moving: T,
}

/// A finding of one of the guest's checkers, as the guest tells it.
#[derive(Clone, Debug, Serialize)]
pub struct ReportJson<'a> {
    /// Which checker.
    pub kind: String,
    /// The CPU that found it.
    pub cpu: u32,
    /// Numbers by kind of report.
    pub words: [u64; 4],
    /// What was found.
    pub text: &'a str,
}

/// What the guest told of its workload.
#[derive(Clone, Debug, Serialize)]
pub struct GuestJson<'a> {
    /// What it counted, over all vCPUs.
    pub counters: PhasesJson<&'a GuestCounters>,
    /// Its operations per second; null for a phase that took no time.
    pub operations_per_s: PhasesJson<Option<f64>>,
    /// TLB shootdowns for which each vCPU's answer was the last: whom the others waited for.
    pub last_answers: PhasesJson<Vec<u64>>,
    /// Reports made, those for which there was no room included.
    pub reports_made: u32,
    /// How many of each kind of which there are any.
    pub reports_by_kind: &'a BTreeMap<&'static str, u32>,
    /// The first of each kind, in the order in which they were made.
    pub reports: Vec<ReportJson<'a>>,
    /// What waited for grace periods; left out if it never queued a callback.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backlog: Option<BacklogJson>,
}

impl<'a> From<&'a RunRecord> for GuestJson<'a> {
    fn from(record: &'a RunRecord) -> Self {
        let guest = &record.guest;
        let reports = guest.reports.iter().map(|report| ReportJson {
            kind: kind_name(report),
            cpu: report.cpu,
            words: report.words,
            text: &report.text,
        });
        Self {
            counters: PhasesJson {
                control: &guest.control,
                moving: &guest.moving,
            },
            operations_per_s: PhasesJson {
                control: record.control_operations_per_s(),
                moving: record.moving_operations_per_s(),
            },
            last_answers: PhasesJson {
                control: guest.last_answers.iter().map(|phases| phases[0]).collect(),
                moving: guest.last_answers.iter().map(|phases| phases[1]).collect(),
            },
            reports_made: guest.reports_made,
            reports_by_kind: &guest.reports_by_kind,
            reports: reports.collect(),
            backlog: guest.backlog.as_ref().map(BacklogJson::from),
        }
    }
}

/// The tool that ran.
#[derive(Clone, Debug, Serialize)]
pub struct ToolJson {
    /// Its name.
    pub name: &'static str,
    /// Its version.
    pub version: &'static str,
    /// The commit it was built from; null where that is not known.
    pub commit: Option<&'static str>,
}

/// The JSON of one run.
#[derive(Clone, Debug, Serialize)]
pub struct RunJson<'a> {
    /// [`RUN_SCHEMA`].
    pub schema: &'static str,
    /// What ran.
    pub tool: ToolJson,
    /// Where.
    pub host: HostJson<'a>,
    /// The settings in effect, by the names of experiment files; `cpl` is the level in force.
    pub config: toml::Table,
    /// How it ended.
    pub outcome: OutcomeJson<'a>,
    /// What moved.
    pub migration: MigrationJson,
    /// What was checked.
    pub integrity: &'a Integrity,
    /// Histograms of the moving phase.
    pub histograms: BTreeMap<&'a str, HistogramJson>,
    /// Histograms of the control phase.
    pub control: BTreeMap<&'a str, HistogramJson>,
    /// What the guest told of its workload.
    pub guest: GuestJson<'a>,
    /// By vCPU.
    pub progress: &'a [VcpuProgress],
    /// KVM's counters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kvm_stats: Option<&'a KvmStats>,
    /// How long it took to get going.
    pub startup_ns: Startup,
    /// The guest's stalls.
    pub stalls: StallsJson,
    /// Who stole the time; absent where guest and host have no clock in common.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attribution: Option<AttributionJson<'a>>,
    /// How the kernel's clock was brought to the TSC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clock: Option<ClockRecord>,
    /// What the kernel's records and its schedstat say of the time in which vCPUs wanted a CPU.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub agreement: &'a [AgreementRecord],
    /// How vCPUs waited for pages in flight.
    pub waits: &'a Waits,
    /// What the engine itself takes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub engine: Option<EngineCost>,
    /// What the watchdog found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub watchdog: Option<&'a WatchdogRecord>,
    /// What the pool of frames did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frames: Option<&'a FramesRecord>,
    /// What plugging and unplugging did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plug: Option<&'a PlugRecord>,
    /// What the DMA device did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dma: Option<&'a DmaRecord>,
    /// What each antagonist took.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub antagonists: &'a [AntagonistRecord],
    /// What was done at random.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub torment: Option<TormentCounts>,
}

impl<'a> From<&'a RunRecord> for RunJson<'a> {
    fn from(record: &'a RunRecord) -> Self {
        let attribution = record.attribution.as_ref();
        Self {
            schema: RUN_SCHEMA,
            tool: ToolJson {
                name: tool::NAME,
                version: tool::VERSION,
                commit: tool::COMMIT,
            },
            host: HostJson {
                kind: record.host_kind(),
                host: &record.host,
            },
            config: config(record),
            outcome: OutcomeJson {
                status: record.outcome.ending.name(),
                complete: record.outcome.ending == Ending::Done,
                sound: record.is_sound(),
                exit_status: ExitStatus::of_run(record).code(),
                message: record.outcome.message.as_deref(),
            },
            migration: MigrationJson {
                mover: record.experiment.mover.name(),
                counts: record.migration.counts,
                pages_per_s: record.migration.pages_per_s(),
                by_kind: by_kind(&record.migration.by_kind),
                aborted_by: record.migration.aborted_by.clone(),
                refused: refused(&record.migration.refused),
            },
            integrity: &record.integrity,
            histograms: histograms(&record.moving),
            control: histograms(&record.control),
            guest: record.into(),
            progress: &record.progress,
            kvm_stats: record.kvm_stats.as_ref(),
            startup_ns: record.startup_ns,
            stalls: StallsJson {
                counts: record.stalls.clone(),
                stalled_ns_per_page: record.stalled_ns_per_page(),
                vcpu_time_share: record.moving_stall_share(),
                control_vcpu_time_share: record.control_stall_share(),
            },
            attribution: attribution.map(AttributionJson::from),
            clock: attribution.and_then(|attribution| attribution.clock),
            agreement: attribution.map_or(&[], |attribution| &attribution.agreement),
            waits: &record.waits,
            engine: record.engine,
            watchdog: record.watchdog.as_ref(),
            frames: record.frames.as_ref(),
            plug: record.plug.as_ref(),
            dma: record.dma.as_ref(),
            antagonists: &record.antagonists,
            torment: record.torment,
        }
    }
}

impl RunJson<'_> {
    /// The JSON text, indented, with a line feed at its end.
    #[must_use]
    pub fn to_text(&self) -> String {
        // Maps with string keys and plain numbers: nothing that JSON cannot say.
        let mut text = serde_json::to_string_pretty(self).expect("plain data");
        text.push('\n');
        text
    }
}

fn config(record: &RunRecord) -> toml::Table {
    let mut config = record.experiment.to_table();
    if let Some(level @ (Cpl::Zero | Cpl::Three)) = record.cpl {
        let level = toml::Value::Integer(i64::from(level as u32));
        config.insert(Key::Cpl.name().to_owned(), level);
    }
    config
}

fn by_kind(kinds: &BTreeMap<PageKind, KindCounts>) -> BTreeMap<&'static str, KindCounts> {
    kinds
        .iter()
        .map(|(kind, counts)| (Named::name(*kind), *counts))
        .collect()
}

fn refused(kinds: &BTreeMap<PageKind, &'static str>) -> BTreeMap<&'static str, &'static str> {
    kinds
        .iter()
        .map(|(kind, reason)| (Named::name(*kind), *reason))
        .collect()
}

fn histograms(histograms: &Histograms) -> BTreeMap<&str, HistogramJson> {
    histograms
        .iter()
        .map(|(name, histogram)| (name.as_str(), histogram.into()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_record::{test_record, test_report};
    use underfoot_abi::ReportKind;

    #[test]
    fn the_guest_tells_counters_rates_and_reports() {
        let mut record = test_record();
        record.guest.reports_made = 9;
        record.guest.reports_by_kind = BTreeMap::from([("lock-cycle", 9)]);
        record.guest.reports = vec![test_report(0, ReportKind::LockCycle)];
        record.guest.last_answers = vec![[1, 2], [3, 4]];
        record.control_ns = 0;
        let json = serde_json::to_value(RunJson::from(&record)).expect("plain data");
        let guest = &json["guest"];
        assert_eq!(guest["counters"]["moving"]["operations"], 9_872_000);
        assert_eq!(guest["operations_per_s"]["moving"], 1_234_000.0);
        assert!(guest["operations_per_s"]["control"].is_null());
        assert_eq!(guest["last_answers"]["moving"], serde_json::json!([2, 4]));
        assert_eq!(guest["reports_made"], 9);
        assert_eq!(
            guest["reports_by_kind"],
            serde_json::json!({"lock-cycle": 9})
        );
        let report = serde_json::json!({
            "kind": "lock-cycle", "cpu": 1, "words": [1, 2, 3, 4], "text": "tree -> list -> tree",
        });
        assert_eq!(guest["reports"], serde_json::json!([report]));
    }
}
