//! What the runs of each cell came to, added up.

use super::SweepError;
use super::directory::{PlanJson, SkippedJson};
use crate::error::{Error, chain};
use crate::names::Named;
use crate::rundir::{Histograms, RUNS, StoredHost, StoredRun};
use crate::settings::Key;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What a cell came to.
#[derive(Clone, Debug)]
pub struct CellResults {
    /// Its number.
    pub cell: usize,
    /// What it sets, by key, beside what all cells share.
    pub settings: BTreeMap<String, String>,
    /// How many of its runs were sound, and are in what follows.
    pub sound: u32,
    /// Its runs that were not, with what was wrong.
    pub faults: Vec<(String, String)>,
    /// How many of its runs are still to be done.
    pub missing: u32,
    /// Latencies while pages moved: the histograms of all sound runs, added up.
    pub moving: Histograms,
    /// Latencies of the control.
    pub control: Histograms,
    /// Pages that were moved per second: the mean of the runs.
    pub pages_per_s: Option<f64>,
    /// Operations of the workload per second while pages moved, over those of the control: the mean of the runs.
    pub operations_ratio: Option<f64>,
}

/// One direction in which cells differ: a key, or several that are zipped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VariedAxis {
    /// The keys.
    pub keys: Vec<String>,
    /// What they are set to, as [`VariedAxis::value`] says it.
    pub values: Vec<String>,
}

impl VariedAxis {
    /// What it is called: its keys.
    #[must_use]
    pub fn name(&self) -> String {
        self.keys.join(" ")
    }

    /// Where `settings` stand on it.
    #[must_use]
    pub fn value(&self, settings: &BTreeMap<String, String>) -> String {
        let values = self
            .keys
            .iter()
            .map(|key| settings.get(key).map_or("", String::as_str));
        values.collect::<Vec<_>>().join(" ")
    }
}

/// What a sweep came to, as far as it was run.
#[derive(Clone, Debug)]
pub struct SweepResults {
    /// Its directory.
    pub path: PathBuf,
    /// What its file was called.
    pub name: String,
    /// The file.
    pub file: String,
    /// What was varied.
    pub axes: Vec<VariedAxis>,
    /// How often each cell is to be run.
    pub repeat: u32,
    /// By number.
    pub cells: Vec<CellResults>,
    /// Cells that were left out: what they set, and why.
    pub skipped: Vec<(BTreeMap<String, String>, String)>,
    /// The host of the first run, and whether all others had one of the same kind.
    pub host: Option<(StoredHost, bool)>,
}

impl SweepResults {
    /// Reads the plan in the directory `path`, and every run that is there.
    ///
    /// # Errors
    /// [`Error::Sweep`] where there is no plan. A run that cannot be read is one that was not sound.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let plan = PlanJson::read(path)?.ok_or_else(|| SweepError::NoSweep {
            path: path.to_owned(),
        })?;
        let mut host: Option<(StoredHost, bool)> = None;
        let mut cells = Vec::new();
        for cell in &plan.cells {
            let mut pool = Pool::new(cell.cell, cell.settings.clone());
            for repetition in 1..=plan.repeat {
                let name = format!("{:04}-{repetition}", cell.cell);
                let place = path.join(RUNS).join(&name);
                if place.symlink_metadata().is_err() {
                    pool.results.missing += 1;
                    continue;
                }
                let run = match StoredRun::read(&place) {
                    Ok(run) => run,
                    Err(error) => {
                        pool.results.faults.push((name, chain(&error)));
                        continue;
                    }
                };
                host = Some(match host {
                    None => (run.host.clone(), true),
                    Some((first, alike)) => {
                        let alike = alike && is_alike(&first, &run.host);
                        (first, alike)
                    }
                });
                pool.add(name, &run);
            }
            cells.push(pool.results());
        }
        let skipped = |it: SkippedJson| (it.settings, it.reason);
        Ok(Self {
            path: path.to_owned(),
            axes: axes(&plan),
            name: plan.name,
            file: plan.file,
            repeat: plan.repeat,
            cells,
            skipped: plan.skipped.into_iter().map(skipped).collect(),
            host,
        })
    }

    /// Runs that are there, that did not end well, and that are missing.
    #[must_use]
    pub fn counts(&self) -> (u32, usize, u32) {
        let cells = self.cells.iter();
        cells.fold((0, 0, 0), |(sound, faults, missing), cell| {
            (
                sound + cell.sound,
                faults + cell.faults.len(),
                missing + cell.missing,
            )
        })
    }
}

/// Whether figures of both may be held against each other.
fn is_alike(one: &StoredHost, other: &StoredHost) -> bool {
    let what = |host: &StoredHost| {
        (
            host.kind.clone(),
            host.cpu.clone(),
            host.cpus,
            host.kernel.clone(),
        )
    };
    what(one) == what(other)
}

/// What is varied, with the values that occur, in the order of the file.
fn axes(plan: &PlanJson) -> Vec<VariedAxis> {
    let axis = |keys: &Vec<String>| {
        let mut axis = VariedAxis {
            keys: keys.clone(),
            values: Vec::new(),
        };
        for cell in &plan.cells {
            let value = axis.value(&cell.settings);
            if !axis.values.contains(&value) {
                axis.values.push(value);
            }
        }
        axis
    };
    plan.axes.iter().map(axis).collect()
}

/// The runs of a cell on the way to its results.
struct Pool {
    results: CellResults,
    /// What its first sound run was told.
    config: Option<Map<String, Value>>,
    pages_per_s: Vec<f64>,
    ratios: Vec<f64>,
}

impl Pool {
    fn new(cell: usize, settings: BTreeMap<String, String>) -> Self {
        Self {
            results: CellResults {
                cell,
                settings,
                sound: 0,
                faults: Vec::new(),
                missing: 0,
                moving: Histograms::new(),
                control: Histograms::new(),
                pages_per_s: None,
                operations_ratio: None,
            },
            config: None,
            pages_per_s: Vec::new(),
            ratios: Vec::new(),
        }
    }

    fn add(&mut self, name: String, run: &StoredRun) {
        let config = without_seed(run);
        let is_of_cell = self.config.as_ref().is_none_or(|known| *known == config);
        let other = || "its settings are not those of the cell's other runs".to_owned();
        if let Some(fault) = run.fault().or_else(|| (!is_of_cell).then(other)) {
            self.results.faults.push((name, fault));
            return;
        }
        self.config = Some(config);
        self.results.sound += 1;
        merge(&mut self.results.moving, &run.moving);
        merge(&mut self.results.control, &run.control);
        self.pages_per_s
            .extend(run.migration.pages_per_s.map(|rate| rate as f64));
        let rates = run.guest.operations_per_s;
        if let (Some(control), Some(moving)) =
            (rates.control.filter(|rate| *rate > 0.0), rates.moving)
        {
            self.ratios.push(moving / control);
        }
    }

    fn results(self) -> CellResults {
        CellResults {
            pages_per_s: mean(&self.pages_per_s),
            operations_ratio: mean(&self.ratios),
            ..self.results
        }
    }
}

/// What a run was told that its repetitions are told too.
fn without_seed(run: &StoredRun) -> Map<String, Value> {
    let config = run
        .config
        .iter()
        .filter(|(key, _)| *key != Key::Seed.name());
    config
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

fn merge(into: &mut Histograms, from: &Histograms) {
    for (name, histogram) in from {
        into.entry(name.clone()).or_default().merge(histogram);
    }
}

fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::super::plan::plan_of;
    use super::super::shard::Shard;
    use super::super::{PlannedRun, SweepDir};
    use super::*;
    use crate::json::RunJson;
    use crate::record::RunRecord;
    use crate::rundir::RUN_JSON;
    use crate::test_record::test_record;

    /// A sweep of two batches, twice each, with the runs that `keep` lets be, each changed by `change`.
    pub(crate) fn written(
        base: &Path,
        keep: impl Fn(PlannedRun) -> bool,
        change: impl Fn(PlannedRun, &mut RunRecord),
    ) -> PathBuf {
        let plan =
            plan_of("repeat = 2\n[matrix]\nbatch = [1, 32]\ncpus = [1, 2]\n").expect("a plan");
        let directory = SweepDir::begin(None, base, &plan, Shard::WHOLE).expect("a place");
        for run in plan.order().into_iter().filter(|run| keep(*run)) {
            let place = directory.of_run(&plan, run);
            let mut record = test_record();
            change(run, &mut record);
            std::fs::create_dir(&place).expect("room");
            std::fs::write(place.join(RUN_JSON), RunJson::from(&record).to_text()).expect("room");
        }
        directory.place().to_owned()
    }

    #[test]
    fn histograms_of_a_cells_runs_add_up_and_what_is_wrong_stays_out() {
        let base = tempfile::tempdir().expect("a directory");
        let keep = |run: PlannedRun| run.cell != 2 || run.repetition == 0;
        let place = written(base.path(), keep, |run, record| {
            if run.cell == 1 && run.repetition == 1 {
                record.integrity.errors = 1;
            }
            let window = record.moving.entry("window".into()).or_default();
            window.record(1_000 + run.cell as u64);
        });
        let results = SweepResults::read(&place).expect("results");
        assert_eq!(
            (results.axes[0].name().as_str(), results.axes.len()),
            ("batch", 2)
        );
        assert_eq!(results.axes[0].values, ["1", "32"]);
        assert_eq!(results.counts(), (6, 1, 1));
        let one = test_record().moving["window"].count() + 1;
        let counts: Vec<_> = results
            .cells
            .iter()
            .map(|cell| {
                (
                    cell.sound,
                    cell.missing,
                    cell.moving["window"].count() / one,
                )
            })
            .collect();
        assert_eq!(counts, [(2, 0, 2), (1, 0, 1), (1, 1, 1), (2, 0, 2)]);
        assert_eq!(results.cells[1].faults[0].0, "0001-2");
        assert!(results.host.expect("a host").1);
    }

    #[test]
    fn a_run_that_is_cut_off_or_another_cells_is_not_sound() {
        let base = tempfile::tempdir().expect("a directory");
        let place = written(
            base.path(),
            |_| true,
            |run, record| {
                if run.cell == 2 && run.repetition == 1 {
                    record.experiment.hugepages = true;
                }
            },
        );
        let json = place.join(RUNS).join("0001-1").join(RUN_JSON);
        let text = std::fs::read_to_string(&json).expect("a run");
        std::fs::write(&json, &text[..text.len() / 2]).expect("room");
        let results = SweepResults::read(&place).expect("the others");
        assert_eq!(results.counts(), (6, 2, 0));
        for (cell, name, part) in [
            (1, "0001-1", "cut off"),
            (2, "0002-2", "not those of the cell's"),
        ] {
            let (run, fault) = &results.cells[cell].faults[0];
            assert!(run == name && fault.contains(part), "{run}: {fault}");
        }
    }
}
