//! What a sweep came to as JSON, schema `underfoot.sweep/1`.

use super::metric::Metric;
use super::{CellResults, SweepResults, VariedAxis};
use crate::json::HistogramJson;
use crate::rundir::Histograms;
use serde::Serialize;
use std::collections::BTreeMap;

/// The results of a sweep, beside its runs.
pub const SWEEP_JSON: &str = "sweep.json";
/// The schema of a sweep's results, as `sweep.json` has them.
pub const SWEEP_SCHEMA: &str = "underfoot.sweep/1";

/// [`SWEEP_JSON`].
#[derive(Debug, Serialize)]
struct SweepJson<'a> {
    schema: &'static str,
    tool: &'static str,
    name: &'a str,
    /// Of the first run; null before there is one.
    host: Option<&'a str>,
    /// Whether all runs had a host of the same kind and CPU.
    hosts_alike: Option<bool>,
    repeat: u32,
    axes: Vec<AxisJson<'a>>,
    /// Whether no run is missing and all were sound.
    complete: bool,
    cells: Vec<CellJson<'a>>,
    skipped: Vec<SkippedJson<'a>>,
}

#[derive(Debug, Serialize)]
struct AxisJson<'a> {
    keys: &'a [String],
    values: &'a [String],
}

#[derive(Debug, Serialize)]
struct CellJson<'a> {
    cell: usize,
    settings: &'a BTreeMap<String, String>,
    sound: u32,
    missing: u32,
    faults: Vec<FaultJson<'a>>,
    /// By name, which has the unit in it; null where nothing was measured.
    figures: BTreeMap<&'static str, Option<f64>>,
    /// Of the moving phases of all sound runs, added up.
    histograms: BTreeMap<&'a str, HistogramJson>,
    /// Of their controls.
    control: BTreeMap<&'a str, HistogramJson>,
}

#[derive(Debug, Serialize)]
struct FaultJson<'a> {
    run: &'a str,
    fault: &'a str,
}

#[derive(Debug, Serialize)]
struct SkippedJson<'a> {
    settings: &'a BTreeMap<String, String>,
    reason: &'a str,
}

/// All of `results`, schema [`SWEEP_SCHEMA`].
#[must_use]
pub fn to_json(results: &SweepResults) -> String {
    let mut text = serde_json::to_string_pretty(&SweepJson::from(results))
        .expect("plain data has a JSON form");
    text.push('\n');
    text
}

impl<'a> From<&'a SweepResults> for SweepJson<'a> {
    fn from(results: &'a SweepResults) -> Self {
        let (_, faults, missing) = results.counts();
        let axis = |axis: &'a VariedAxis| AxisJson {
            keys: &axis.keys,
            values: &axis.values,
        };
        let skipped =
            |(settings, reason): &'a (BTreeMap<_, _>, String)| SkippedJson { settings, reason };
        Self {
            schema: SWEEP_SCHEMA,
            tool: crate::tool::VERSION,
            name: &results.name,
            host: results.host.as_ref().map(|(host, _)| host.kind.as_str()),
            hosts_alike: results.host.as_ref().map(|(_, alike)| *alike),
            repeat: results.repeat,
            axes: results.axes.iter().map(axis).collect(),
            complete: faults == 0 && missing == 0,
            cells: results.cells.iter().map(CellJson::from).collect(),
            skipped: results.skipped.iter().map(skipped).collect(),
        }
    }
}

impl<'a> From<&'a CellResults> for CellJson<'a> {
    fn from(cell: &'a CellResults) -> Self {
        let fault = |(run, fault): &'a (String, String)| FaultJson { run, fault };
        let all = |of: &'a Histograms| {
            let each = of.iter();
            each.map(|(name, histogram)| (name.as_str(), histogram.into()))
                .collect()
        };
        Self {
            cell: cell.cell,
            settings: &cell.settings,
            sound: cell.sound,
            missing: cell.missing,
            faults: cell.faults.iter().map(fault).collect(),
            figures: Metric::ALL
                .iter()
                .map(|it| (it.name(), it.of(cell)))
                .collect(),
            histograms: all(&cell.moving),
            control: all(&cell.control),
        }
    }
}
