//! The runs of a plan that were done, and what a judge reads from them.

use super::plan::PlannedRun;
use crate::histogram::Histogram;
use crate::record::RunRecord;
use serde::Serialize;
use serde_json::{Map, Value};
use underfoot_abi::RecordedPhase;

/// One run of a plan, done.
#[derive(Clone, Debug)]
pub struct DoneRun {
    /// What was planned.
    pub planned: PlannedRun,
    /// What was measured: in the attempt in which the busted form was caught, or the last.
    pub record: RunRecord,
    /// Attempts made.
    pub attempts: u32,
}

/// Every run of a plan.
#[derive(Clone, Debug, Default)]
pub struct Runs(pub Vec<DoneRun>);

/// Something that a judge needs and that the runs do not have, so that they do not tell.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Missing(pub String);

impl Runs {
    /// What the run called `name` measured, sound or not.
    ///
    /// # Errors
    /// [`Missing`].
    pub fn record(&self, name: &str) -> Result<&RunRecord, Missing> {
        let done = self.0.iter().find(|run| run.planned.name == name);
        done.map(|run| &run.record)
            .ok_or_else(|| Missing(format!("there is no run `{name}`")))
    }

    /// What the run called `name` measured, if it went its whole length and nothing was found wrong.
    ///
    /// # Errors
    /// [`Missing`], with what was found wrong.
    pub fn sound(&self, name: &str) -> Result<&RunRecord, Missing> {
        let record = self.record(name)?;
        match unsound(record) {
            None => Ok(record),
            Some(why) => Err(Missing(format!("run {name} is not sound: {why}"))),
        }
    }

    /// A histogram of the sound run `name`, not empty.
    ///
    /// # Errors
    /// [`Missing`].
    pub fn histogram(
        &self,
        name: &str,
        phase: RecordedPhase,
        metric: &str,
    ) -> Result<&Histogram, Missing> {
        let record = self.sound(name)?;
        let histograms = match phase {
            RecordedPhase::Control => &record.control,
            RecordedPhase::Moving => &record.moving,
        };
        histograms
            .get(metric)
            .filter(|histogram| histogram.count() > 0)
            .ok_or_else(|| Missing(format!("run {name} has no {metric}")))
    }

    /// A percentile of a histogram of the sound run `name`, in parts of ten thousand (9,900 is
    /// p99), in ns.
    ///
    /// # Errors
    /// [`Missing`].
    pub fn percentile(
        &self,
        name: &str,
        phase: RecordedPhase,
        metric: &str,
        parts: u16,
    ) -> Result<u64, Missing> {
        let value = self.histogram(name, phase, metric)?.percentile(parts);
        value.ok_or_else(|| Missing(format!("{metric} of run {name} has no such percentile")))
    }

    /// A counter of the workload in the sound run `name`.
    ///
    /// # Errors
    /// [`Missing`].
    pub fn counter(&self, name: &str, phase: RecordedPhase, counter: &str) -> Result<u64, Missing> {
        let guest = &self.sound(name)?.guest;
        let counters = match phase {
            RecordedPhase::Control => &guest.control,
            RecordedPhase::Moving => &guest.moving,
        };
        let value = counters.get(counter).copied();
        value.ok_or_else(|| Missing(format!("the workload of run {name} counts no {counter}")))
    }

    /// Operations per second of the sound run `name`.
    ///
    /// # Errors
    /// [`Missing`].
    pub fn operations_per_s(&self, name: &str, phase: RecordedPhase) -> Result<f64, Missing> {
        let record = self.sound(name)?;
        let rate = match phase {
            RecordedPhase::Control => record.control_operations_per_s(),
            RecordedPhase::Moving => record.moving_operations_per_s(),
        };
        rate.ok_or_else(|| Missing(format!("run {name} spent no time in that phase")))
    }
}

/// Why `record` is not sound; `None` if it is.
#[must_use]
pub fn unsound(record: &RunRecord) -> Option<String> {
    if record.is_sound() {
        return None;
    }
    let message = record.outcome.message.as_deref();
    let first_line = message.and_then(|message| message.lines().next());
    let detail = record.integrity.details.first().map(String::as_str);
    let deadlock = record.deadlock();
    let why = first_line
        .or(detail)
        .or(deadlock.as_deref())
        .unwrap_or("no reason was given");
    Some(format!("{}: {why}", record.outcome.ending.name()))
}

/// How often something was seen and how long it took.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Latencies {
    /// How often.
    pub count: u64,
    /// Half of them took at most this; this and the others are null while `count` is 0.
    pub p50_ns: Option<u64>,
    /// 90 %.
    pub p90_ns: Option<u64>,
    /// 99 %.
    pub p99_ns: Option<u64>,
    /// 99.9 %.
    pub p99_9_ns: Option<u64>,
    /// 99.99 %.
    pub p99_99_ns: Option<u64>,
    /// The longest.
    pub max_ns: Option<u64>,
}

impl From<&Histogram> for Latencies {
    fn from(histogram: &Histogram) -> Self {
        Self {
            count: histogram.count(),
            p50_ns: histogram.percentile(5_000),
            p90_ns: histogram.percentile(9_000),
            p99_ns: histogram.percentile(9_900),
            p99_9_ns: histogram.percentile(9_990),
            p99_99_ns: histogram.percentile(9_999),
            max_ns: histogram.max(),
        }
    }
}

/// One thing that was measured.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Figure {
    /// A number, a word, or what else JSON has.
    Value(Value),
    /// A distribution.
    Latencies(Latencies),
}

/// What was measured, by name: `RUN.WHAT`, with the unit at its end.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Measured(Vec<(String, Figure)>);

impl Measured {
    /// Notes one value.
    pub fn set(&mut self, name: impl Into<String>, value: impl Into<Value>) {
        self.0.push((name.into(), Figure::Value(value.into())));
    }

    /// Notes how often something was seen and how long it took, from the median to the last.
    pub fn latencies(&mut self, name: impl Into<String>, histogram: &Histogram) {
        let latencies = Figure::Latencies(histogram.into());
        self.0.push((name.into(), latencies));
    }

    /// What was noted, in this order.
    #[must_use]
    pub fn figures(&self) -> &[(String, Figure)] {
        &self.0
    }

    /// The same as JSON.
    ///
    /// # Panics
    /// Never: plain data has a JSON form.
    #[must_use]
    pub fn to_json(&self) -> Map<String, Value> {
        let json = |figure: &Figure| serde_json::to_value(figure).expect("plain data");
        let figures = self.0.iter();
        figures
            .map(|(name, figure)| (name.clone(), json(figure)))
            .collect()
    }
}

#[cfg(test)]
pub use for_tests::test_runs;

#[cfg(test)]
mod for_tests {
    use super::{DoneRun, PlannedRun, RunRecord, Runs};
    use crate::test_record::test_record;

    /// All of `planned`, done, each record changed by `change`, which is told the run's name.
    pub fn test_runs(planned: &[PlannedRun], change: impl Fn(&str, &mut RunRecord)) -> Runs {
        let done = planned.iter().map(|planned| {
            let mut record = test_record();
            change(planned.name, &mut record);
            DoneRun {
                planned: *planned,
                record,
                attempts: 1,
            }
        });
        Runs(done.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Ending;
    use crate::test_record::test_record;

    fn runs(record: RunRecord) -> Runs {
        Runs(vec![DoneRun {
            planned: PlannedRun::good("walk", &[]),
            record,
            attempts: 1,
        }])
    }

    #[test]
    fn what_is_there_is_read() {
        let runs = runs(test_record());
        let moving = RecordedPhase::Moving;
        assert_eq!(runs.counter("walk", moving, "operations"), Ok(9_872_000));
        assert_eq!(runs.operations_per_s("walk", moving), Ok(1_234_000.0));
        let p99 = runs.percentile("walk", moving, "window", 9_900);
        assert!(p99.is_ok_and(|ns| ns > 5_000));
    }

    #[test]
    fn what_is_missing_is_named() {
        let whole = runs(test_record());
        let control = RecordedPhase::Control;
        let mut broken = test_record();
        broken.outcome.ending = Ending::Failed;
        broken.outcome.message = Some("vCPU 1 panicked\nrax 0".into());
        for (missing, part) in [
            (
                whole.counter("walk", control, "naps").err(),
                "counts no naps",
            ),
            (whole.sound("run").err(), "no run `run`"),
            (
                whole.percentile("walk", control, "window", 1).err(),
                "has no window",
            ),
            (
                runs(broken.clone()).sound("walk").err(),
                "failed: vCPU 1 panicked",
            ),
        ] {
            let said = missing.expect(part).to_string();
            assert!(said.ends_with(part), "{said}");
        }
        assert!(runs(broken).record("walk").is_ok());
    }

    #[test]
    fn latencies_go_to_the_last_percentile() {
        let record = test_record();
        let mut measured = Measured::default();
        measured.latencies("walk.window", &record.moving["window"]);
        let window = &measured.to_json()["walk.window"];
        assert_eq!(window["count"], 9_000);
        assert!(window["p99_99_ns"].as_u64() <= window["max_ns"].as_u64());
    }
}
