//! A comparison for people and programs.

use super::bootstrap::Change;
use super::command::{Compared, Comparison};
use super::comparable::{Difference, Differences};
use super::verdict::{ALARM, Judged, LEAST_VALUES, PERCENTILES, Phase};
use crate::human;
use crate::rundir::StoredRun;
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::path::Path;

/// The schema of a comparison as JSON.
pub const COMPARE_SCHEMA: &str = "underfoot.compare/1";

const LABEL: usize = 10;
const SCREEN: usize = 80;
const NAME: usize = 25;
const COLUMN: usize = 11;
const VERDICT: usize = 19;
const CHANGE: usize = 9;
/// Those of which the overview has room.
const OVERVIEW: [usize; 4] = [0, 1, 2, 3];

/// How a comparison is written to standard output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// For a terminal of 80 columns.
    #[default]
    Text,
    /// Markdown with tables.
    Markdown,
    /// Schema [`COMPARE_SCHEMA`].
    Json,
}

/// The comparison for a terminal; of histograms without a difference only a line each, unless `all`.
#[must_use]
pub fn text(comparison: &Comparison<'_>, all: bool) -> String {
    let mut lines = vec![
        comparison.base.host.kind.clone(),
        labelled("base", &identity(comparison.base)),
    ];
    for compared in &comparison.compared {
        lines.push(labelled("other", &identity(compared.other)));
        lines.extend(differences(&compared.differences));
        lines.extend(
            rates(comparison.base, compared.other)
                .iter()
                .map(|line| labelled("", line)),
        );
        for phase in [Phase::Moving, Phase::Control] {
            lines.push(String::new());
            lines.extend(overview(compared, phase, comparison.tolerance));
        }
        let is_told = |judged: &&Judged| all || judged.verdict.is_change();
        for judged in compared.judged.iter().filter(is_told) {
            lines.push(String::new());
            lines.extend(details(judged));
        }
        lines.push(String::new());
    }
    lines.extend(human::wrap(&method(comparison), SCREEN));
    lines.extend(breaches(comparison));
    lines
        .into_iter()
        .map(|line| line.trim_end().to_owned() + "\n")
        .collect()
}

fn labelled(label: &str, text: &str) -> String {
    format!("{label:<LABEL$}{text}")
}

fn identity(run: &StoredRun) -> String {
    let settings = ["workload", "mover", "strategy", "backend", "wait"].map(|key| run.setting(key));
    format!("{}: {}", run.path.display(), settings.join(", "))
}

fn differences(differences: &Differences) -> Vec<String> {
    let say = |label, list: &[Difference]| {
        let each = list
            .iter()
            .map(|Difference { key, base, other }| format!("{key} {base} -> {other}"));
        let text = each.collect::<Vec<_>>().join("; ");
        (!text.is_empty()).then(|| labelled(label, &text))
    };
    let differences = [
        say("differ", &differences.hindering),
        say("also", &differences.told),
    ];
    differences.into_iter().flatten().collect()
}

/// What is one number for a run: of one pair of runs nobody can say what chance does to it.
fn rates(base: &StoredRun, other: &StoredRun) -> Vec<String> {
    let moved = |run: &StoredRun| run.migration.pages_per_s.map(|rate| rate as f64);
    [
        ("pages/s moved", moved(base), moved(other)),
        (
            "operations/s moving",
            base.guest.operations_per_s.moving,
            other.guest.operations_per_s.moving,
        ),
        (
            "operations/s control",
            base.guest.operations_per_s.control,
            other.guest.operations_per_s.control,
        ),
    ]
    .into_iter()
    .filter_map(|(name, base, other)| {
        let (base, other) = (base?, other?);
        let change = (base > 0.0).then(|| percent(other / base - 1.0));
        let (one, two) = (
            human::short_count(base as u64),
            human::short_count(other as u64),
        );
        Some(format!(
            "{name} {one} -> {two} ({})",
            change.as_deref().unwrap_or("-")
        ))
    })
    .collect()
}

fn overview(compared: &Compared<'_>, phase: Phase, tolerance: f64) -> Vec<String> {
    let heading = OVERVIEW
        .map(|index| format!("{:>CHANGE$}", PERCENTILES[index].0))
        .concat();
    let what = match phase {
        Phase::Moving => "moving",
        Phase::Control => "control (nothing moves)",
    };
    let judged = compared
        .judged
        .iter()
        .filter(|judged| judged.phase == phase);
    let lines = judged.map(|judged| {
        let cell = |index: usize| overview_cell(judged, judged.changes[index].as_ref(), tolerance);
        let columns = OVERVIEW.map(|index| format!("{:>CHANGE$}", cell(index)));
        format!(
            "{:<NAME$}{:<VERDICT$}{}",
            judged.name,
            judged.verdict.name(),
            columns.concat()
        )
    });
    let heading = format!("{what:<NAME$}{:<VERDICT$}{heading}", "verdict");
    std::iter::once(heading).chain(lines).collect()
}

/// What counts, plainly; what does not, in parentheses.
fn overview_cell(judged: &Judged, change: Option<&Change>, tolerance: f64) -> String {
    let Some(change) = change else {
        return "-".to_owned();
    };
    let counts =
        judged.verdict.is_change() && (change.is_higher(tolerance) || change.is_lower(tolerance));
    if counts {
        percent(change.change)
    } else {
        format!("({} %)", bare_percent(change.change))
    }
}

/// A share as a change in per cent: `+12 %`.
fn percent(share: f64) -> String {
    format!("{} %", bare_percent(share))
}

fn bare_percent(share: f64) -> String {
    let percent = share * 100.0;
    match percent.abs() {
        // Not `-0.0`.
        small if small < 0.05 => "0.0".to_owned(),
        small if small < 9.95 => format!("{percent:+.1}"),
        _ => format!("{percent:+.0}"),
    }
}

fn interval(change: &Change) -> String {
    format!(
        "{}..{}",
        bare_percent(change.interval.0),
        bare_percent(change.interval.1)
    )
}

/// A block for one histogram: both runs, the change, and the interval for it.
fn details(judged: &Judged) -> [String; 5] {
    let row = |label: &str, cell: &dyn Fn(&Change) -> String, last: &str| {
        let cells = judged.changes.iter().map(|change| {
            let cell = change.as_ref().map_or_else(|| "-".to_owned(), cell);
            format!("{cell:>COLUMN$}")
        });
        format!("  {label:<10}{}{last:>COLUMN$}", cells.collect::<String>())
    };
    let time = |ns: f64| human::time(ns as u64);
    let max = |ns: Option<u64>| ns.map_or_else(|| "-".to_owned(), human::time);
    let heading = PERCENTILES
        .map(|(name, _)| format!("{name:>COLUMN$}"))
        .concat();
    let name = format!(
        "{} ({}): {}",
        judged.name,
        judged.phase.name(),
        judged.verdict.name()
    );
    let name = match judged.chance {
        Some(chance) => format!("{name}, by chance {}", chance_text(chance)),
        None => name,
    };
    [
        format!("{name}\n  {:<10}{heading}{:>COLUMN$}", "", "max"),
        row(
            &format!("b {}", human::short_count(judged.counts.0)),
            &|change| time(change.base_ns),
            &max(judged.max_ns.0),
        ),
        row(
            &format!("o {}", human::short_count(judged.counts.1)),
            &|change| time(change.other_ns),
            &max(judged.max_ns.1),
        ),
        row("change", &|change| percent(change.change), ""),
        row("95 %", &interval, ""),
    ]
}

fn chance_text(chance: f64) -> String {
    match chance {
        small if small < 0.001 => "< 0.001".to_owned(),
        _ => format!("{chance:.3}"),
    }
}

/// How the verdicts came about, and what they are not.
fn method(comparison: &Comparison<'_>) -> String {
    format!(
        "Verdicts: permutation test over the buckets (weighted Kolmogorov-Smirnov), {} tests, corrected by Holm to {ALARM} in all; a \
         percentile counts where its 95 % bootstrap interval excludes no change and it moved by {} or more (others stand \
         in parentheses); fewer than {LEAST_VALUES} values are too few. Seed {}. Values of one run are not independent: \
         how much runs of the same differ among themselves shows in control, and in a second run of each.",
        comparison.tests,
        percent(comparison.tolerance).trim_start_matches('+'),
        comparison.seed,
    )
}

fn breaches(comparison: &Comparison<'_>) -> Vec<String> {
    let Some(allowed) = comparison.fail_above else {
        return Vec::new();
    };
    let allowed = percent(allowed);
    let allowed = allowed.trim_start_matches('+');
    let breaches = comparison.breaches();
    if breaches.is_empty() {
        return vec![format!("PASS: nothing got worse by more than {allowed}.")];
    }
    let lines = breaches.iter().map(|breach| {
        let (run, change) = (breach.run.display(), percent(breach.change));
        format!(
            "FAIL: {run}, {} {} by {change}, and {allowed} are allowed",
            breach.histogram, breach.percentile
        )
    });
    lines.collect()
}

/// The comparison in Markdown, with a table of all percentiles for each pair.
#[must_use]
pub fn markdown(comparison: &Comparison<'_>) -> String {
    let mut lines = vec![escape_markdown(&comparison.base.host.kind), String::new()];
    lines.push(format!("- base `{}`", code(&identity(comparison.base))));
    for compared in &comparison.compared {
        lines.push(format!("- other `{}`", code(&identity(compared.other))));
        let told = differences(&compared.differences);
        lines.extend(
            told.iter()
                .map(|line| format!("- {}", escape_markdown(line))),
        );
        let rates = rates(comparison.base, compared.other);
        lines.extend(
            rates
                .iter()
                .map(|line| format!("- {}", escape_markdown(line))),
        );
        lines.push(String::new());
        lines.push("| phase | histogram | verdict | p50 | p90 | p99 | p99.9 | p99.99 |".to_owned());
        lines.push("| --- | --- | --- | --- | --- | --- | --- | --- |".to_owned());
        lines.extend(compared.judged.iter().map(markdown_row));
        lines.push(String::new());
    }
    lines.push(method(comparison));
    for breach in breaches(comparison) {
        lines.extend([String::new(), format!("**{}**", escape_markdown(&breach))]);
    }
    lines.into_iter().map(|line| line + "\n").collect()
}

fn markdown_row(judged: &Judged) -> String {
    let cells = judged.changes.iter().map(|change| {
        change.as_ref().map_or_else(
            || "-".to_owned(),
            |change| {
                let times = [change.base_ns, change.other_ns].map(|ns| human::time(ns as u64));
                format!(
                    "{} → {}, {} ({})",
                    times[0],
                    times[1],
                    percent(change.change),
                    interval(change)
                )
            },
        )
    });
    let cells: Vec<_> = cells.collect();
    let name = escape_markdown(&judged.name);
    format!(
        "| {} | {name} | {} | {} |",
        judged.phase.name(),
        judged.verdict.name(),
        cells.join(" | ")
    )
}

/// What comes from files stays text: neither a table's border nor a tag.
fn escape_markdown(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '\n' | '\r' => escaped.push(' '),
            '\\' | '|' | '<' | '>' | '*' | '_' | '`' | '[' | ']' => escaped.extend(['\\', letter]),
            _ => escaped.push(letter),
        }
    }
    escaped
}

fn code(text: &str) -> String {
    text.replace(['`', '\n', '\r'], "'")
}

#[derive(Serialize)]
struct ComparisonJson<'a> {
    schema: &'static str,
    base: &'a Path,
    seed: u64,
    tests: usize,
    tolerance: f64,
    fail_above: Option<f64>,
    compared: Vec<Value>,
    breaches: Vec<Value>,
}

/// The comparison as JSON, schema [`COMPARE_SCHEMA`]; shares, not per cent.
#[must_use]
pub fn to_json(comparison: &Comparison<'_>) -> String {
    let breaches = comparison.breaches();
    let breaches = breaches.iter().map(|breach| {
        json!({
            "run": breach.run, "histogram": breach.histogram, "percentile": breach.percentile, "change": breach.change,
        })
    });
    let json = ComparisonJson {
        schema: COMPARE_SCHEMA,
        base: &comparison.base.path,
        seed: comparison.seed.0,
        tests: comparison.tests,
        tolerance: comparison.tolerance,
        fail_above: comparison.fail_above,
        compared: comparison.compared.iter().map(compared_json).collect(),
        breaches: breaches.collect(),
    };
    // Maps with string keys and plain numbers: nothing that JSON cannot say.
    let mut text = serde_json::to_string_pretty(&json).expect("plain data");
    text.push('\n');
    text
}

fn compared_json(compared: &Compared<'_>) -> Value {
    let mut phases = Map::new();
    for phase in [Phase::Moving, Phase::Control] {
        let judged = compared
            .judged
            .iter()
            .filter(|judged| judged.phase == phase);
        let judged: Map<_, _> = judged
            .map(|judged| (judged.name.clone(), judged_json(judged)))
            .collect();
        phases.insert(phase.name().to_owned(), judged.into());
    }
    json!({"run": compared.other.path, "differences": compared.differences, "histograms": phases})
}

fn judged_json(judged: &Judged) -> Value {
    let named = PERCENTILES.iter().zip(&judged.changes);
    let percentiles = named.map(|((name, _), change)| {
        let change = change.as_ref().map(|change| {
            json!({
                "base_ns": change.base_ns, "other_ns": change.other_ns, "change": change.change,
                "interval": change.interval,
            })
        });
        ((*name).replace('.', "_"), change.into())
    });
    let percentiles: Map<_, Value> = percentiles.collect();
    json!({
        "verdict": judged.verdict.name(), "chance": judged.chance, "count": judged.counts, "max_ns": judged.max_ns,
        "percentiles": percentiles,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::verdict::tests::stored;
    use crate::units::Seed;

    #[test]
    fn the_text_fits_a_terminal_and_says_how() {
        let (base, other) = (stored(), stored());
        let others = [other];
        let mut comparison = Comparison::new(&base, &others, Seed(7), 0.05);
        comparison.fail_above = Some(0.1);
        let text = text(&comparison, true);
        for part in [
            "not EPT figures",
            "Holm",
            "Seed 7",
            "no difference seen",
            "PASS",
            "control (nothing moves)",
        ] {
            assert!(text.contains(part), "{part} in:\n{text}");
        }
        let table = text
            .lines()
            .filter(|line| !line.contains(":") || line.contains("by chance"));
        for line in table {
            assert!(line.chars().count() <= 80, "{line}");
        }
    }

    #[test]
    fn markdown_keeps_its_tables_whatever_files_hold() {
        let (mut base, mut other) = (stored(), stored());
        base.host.kind = "a|b <script>".into();
        let histogram = other.moving["window"].clone();
        base.moving.insert("x|y\nz".into(), histogram.clone());
        other.moving.insert("x|y\nz".into(), histogram);
        let others = [other];
        let text = markdown(&Comparison::new(&base, &others, Seed(7), 0.05));
        assert!(text.starts_with("a\\|b \\<script\\>\n"), "{text}");
        assert!(
            text.contains("| moving | x\\|y z | no difference seen |"),
            "{text}"
        );
    }

    #[test]
    fn changes_have_a_sign_and_no_needless_digit() {
        for (share, text) in [
            (0.0, "0.0 %"),
            (-0.000_1, "0.0 %"),
            (0.012, "+1.2 %"),
            (-0.25, "-25 %"),
            (3.0, "+300 %"),
        ] {
            assert_eq!(percent(share), text);
        }
    }
}
