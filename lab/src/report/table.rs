//! A run's histograms as CSV and as JSON.

use crate::histogram::Histogram;
use crate::human::csv_field;
use crate::rundir::{Histograms, StoredPlacebo, StoredRun};
use serde_json::{Map, Value, json};

/// The schema of a report as JSON.
pub const REPORT_SCHEMA: &str = "underfoot.report/1";
/// The first line of a report as CSV.
pub(super) const CSV_HEADING: &str = "run,phase,histogram,count,sum_ns,min_ns,p50_ns,p90_ns,p99_ns,p99_9_ns,p99_99_ns,max_ns,overflow";

const PERCENTILES: [(u16, &str); 5] = [
    (5_000, "p50"),
    (9_000, "p90"),
    (9_900, "p99"),
    (9_990, "p99_9"),
    (9_999, "p99_99"),
];

/// A line for each histogram of each phase of each run; what is absent is empty.
#[must_use]
pub fn csv(runs: &[StoredRun]) -> String {
    let mut text = format!("{CSV_HEADING}\n");
    for run in runs {
        for (phase, histograms) in phases(run) {
            for (name, histogram) in histograms {
                text.push_str(&csv_line(
                    &run.path.display().to_string(),
                    phase,
                    name,
                    histogram,
                ));
            }
        }
    }
    text
}

fn csv_line(run: &str, phase: &str, name: &str, histogram: &Histogram) -> String {
    let known = |ns: Option<u64>| ns.map_or_else(String::new, |ns| ns.to_string());
    let mut fields = vec![csv_field(run), phase.to_owned(), csv_field(name)];
    fields.extend([histogram.count(), histogram.sum()].map(|number| number.to_string()));
    fields.push(known(histogram.min()));
    fields.extend(PERCENTILES.map(|(parts, _)| known(histogram.percentile(parts))));
    fields.extend([known(histogram.max()), histogram.overflow().to_string()]);
    fields.join(",") + "\n"
}

fn phases(run: &StoredRun) -> [(&'static str, &Histograms); 2] {
    [("moving", &run.moving), ("control", &run.control)]
}

/// The figures of a report, schema [`REPORT_SCHEMA`]: percentiles, and for each histogram its curve as pairs of a share
/// (0 to 1) and the ns that so many of the values do not exceed.
#[must_use]
pub fn to_json(runs: &[StoredRun]) -> String {
    let runs: Vec<Value> = runs.iter().map(run_json).collect();
    // Maps with string keys and plain numbers: nothing that JSON cannot say.
    let json = json!({"schema": REPORT_SCHEMA, "runs": runs});
    let mut text = serde_json::to_string_pretty(&json).expect("plain data");
    text.push('\n');
    text
}

fn run_json(run: &StoredRun) -> Value {
    let mut json = json!({
        "run": run.path,
        "host": run.host.kind,
        "config": run.config,
        "fault": run.fault(),
        "committed": run.migration.counts.committed,
        "pages_per_s": run.migration.pages_per_s,
        "operations_per_s": {
            "control": run.guest.operations_per_s.control, "moving": run.guest.operations_per_s.moving,
        },
        "stalled": {
            "ns_per_page": run.stalls.stalled_ns_per_page,
            "vcpu_time_share": run.stalls.vcpu_time_share,
            "control_vcpu_time_share": run.stalls.control_vcpu_time_share,
        },
    });
    if let Some(attribution) = &run.attribution {
        json["attribution"] = json!({
            "stalled_ns": attribution.moving.stalled_ns,
            "causes": attribution.moving.causes,
            "placebo_share": attribution.placebo.map(StoredPlacebo::share),
            "tail": attribution.tail.as_ref().map(|tail| &tail.causes.causes),
        });
    }
    for (phase, histograms) in phases(run) {
        let histograms: Map<_, _> = histograms
            .iter()
            .map(|(name, histogram)| (name.clone(), histogram_json(histogram)))
            .collect();
        json[phase] = histograms.into();
    }
    json
}

fn histogram_json(histogram: &Histogram) -> Value {
    let mut json =
        json!({"count": histogram.count(), "min_ns": histogram.min(), "max_ns": histogram.max()});
    for (parts, name) in PERCENTILES {
        json[format!("{name}_ns")] = histogram.percentile(parts).into();
    }
    let mut below = 0.0;
    let curve = histogram.spans().map(|(_, high, count)| {
        below += count as f64;
        json!([below / histogram.count() as f64, high])
    });
    json["curve"] = curve.collect::<Vec<_>>().into();
    json
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::verdict::tests::stored;

    #[test]
    fn csv_has_as_many_fields_in_each_line() {
        let mut run = stored();
        run.moving.insert("empty".into(), Histogram::new());
        let text = csv(&[run]);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 1 + 4 + 6 + 1);
        for line in &lines {
            assert_eq!(line.split(',').count(), 13, "{line}");
        }
        let empty = lines
            .iter()
            .find(|line| line.contains(",empty,"))
            .expect("a line");
        assert!(empty.ends_with(",moving,empty,0,0,,,,,,,,0"), "{empty}");
        assert_eq!(csv_field("a,\"b\""), "\"a,\"\"b\"\"\"");
    }

    #[test]
    fn json_has_curves_that_end_at_the_greatest_value() {
        let run = stored();
        let json: Value = serde_json::from_str(&to_json(std::slice::from_ref(&run))).expect("JSON");
        assert_eq!(json["schema"], REPORT_SCHEMA);
        let access = &json["runs"][0]["moving"]["guest.access"];
        let curve = access["curve"].as_array().expect("a curve");
        assert_eq!(
            curve.last().expect("points"),
            &json!([1.0, run.moving["guest.access"].max()])
        );
        assert_eq!(
            access["p99_9_ns"],
            json!(run.moving["guest.access"].percentile(9_990))
        );
    }
}
