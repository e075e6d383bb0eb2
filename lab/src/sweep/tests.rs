//! Sweeps that never ran, for tests.

use super::{CellResults, SweepResults, VariedAxis};
use crate::compare::verdict::tests::stored;
use std::collections::BTreeMap;

/// The results of a sweep over all combinations of the values of `axes`, each run once, each by itself.
pub(crate) fn results_of(axes: &[(&str, &[&str])]) -> SweepResults {
    let run = stored();
    let mut settings = vec![BTreeMap::new()];
    for (key, values) in axes {
        let with = |before: &BTreeMap<String, String>, value: &str| {
            let mut after = before.clone();
            after.insert((*key).to_owned(), value.to_owned());
            after
        };
        settings = settings
            .iter()
            .flat_map(|before| values.iter().map(move |value| with(before, value)))
            .collect();
    }
    let cell = |(cell, settings)| CellResults {
        cell,
        settings,
        sound: 1,
        faults: Vec::new(),
        missing: 0,
        moving: run.moving.clone(),
        control: run.control.clone(),
        pages_per_s: Some(1_000.0 * (cell as f64 + 1.0)),
        operations_ratio: Some(0.5),
    };
    let axis = |(key, values): &(&str, &[&str])| VariedAxis {
        keys: vec![(*key).to_owned()],
        values: values.iter().map(|value| (*value).to_owned()).collect(),
    };
    SweepResults {
        path: "runs/x".into(),
        name: "x.toml".to_owned(),
        file: "[matrix]\n".to_owned(),
        axes: axes.iter().map(axis).collect(),
        repeat: 1,
        cells: settings.into_iter().enumerate().map(cell).collect(),
        skipped: Vec::new(),
        host: Some((run.host.clone(), true)),
    }
}
