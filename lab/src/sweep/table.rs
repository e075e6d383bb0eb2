//! What a sweep came to, for people and spreadsheets.

use super::metric::Metric;
use super::{CellResults, SweepResults, VariedAxis};
use crate::human;

/// Cells that are shown on a screen.
const SHOWN: usize = 14;
/// Of the heading of [`csv`]: by these a file is known to be one.
pub const CSV_COUNTS: &str = "sound,not_sound,missing";
const GAP: &str = "  ";
/// Columns that the values of one key take at most.
const VALUE: usize = 16;

/// A screen about `results`: what kind of host, how far it is, a line for each of the first cells. `width` columns, if
/// there are so many only.
#[must_use]
pub fn summary(results: &SweepResults, width: Option<usize>) -> String {
    let mut lines = vec![host_line(results), progress_line(results)];
    let cells = &results.cells[..results.cells.len().min(SHOWN)];
    lines.extend(columns(results, cells));
    if results.cells.len() > SHOWN {
        let more = results.cells.len() - SHOWN;
        lines.push(format!(
            "{more} more cells: underfoot report --format csv {}",
            results.path.display()
        ));
    }
    for (name, fault) in results.cells.iter().flat_map(|cell| &cell.faults).take(3) {
        lines.push(format!("not sound: run {name}: {fault}"));
    }
    let mut text = String::new();
    for line in lines {
        let line = line.trim_end();
        match width {
            Some(width) => text.extend(line.chars().take(width)),
            None => text.push_str(line),
        }
        text.push('\n');
    }
    // A path that is cut can't be used.
    text + &format!("results  {}\n", results.path.display())
}

fn host_line(results: &SweepResults) -> String {
    match &results.host {
        None => "no run is done yet".to_owned(),
        Some((host, true)) => host.kind.clone(),
        Some((host, false)) => format!(
            "{}; OTHER RUNS HAD OTHER HOSTS: hold no cells against each other",
            host.kind
        ),
    }
}

fn progress_line(results: &SweepResults) -> String {
    let (sound, faults, missing) = results.counts();
    let mut parts = vec![
        format!(
            "{}: {} cells, {} runs each",
            results.name,
            results.cells.len(),
            results.repeat
        ),
        format!("{sound} sound"),
        format!("{faults} not sound"),
        format!("{missing} to be done"),
    ];
    if !results.skipped.is_empty() {
        parts.push(format!("{} cells left out", results.skipped.len()));
    }
    parts.join(", ")
}

/// A heading, and a line for each cell.
fn columns(results: &SweepResults, cells: &[CellResults]) -> Vec<String> {
    let mut rows = vec![heading(results)];
    rows.extend(cells.iter().map(|cell| row(results, cell)));
    let names = results.axes.len();
    let widths: Vec<_> = (0..rows[0].len())
        .map(|column| {
            rows.iter()
                .map(|row| row[column].chars().count())
                .max()
                .unwrap_or(0)
        })
        .collect();
    let line = |row: &Vec<String>| {
        let cells = row
            .iter()
            .zip(&widths)
            .enumerate()
            .map(|(column, (text, width))| {
                if column < names {
                    format!("{text:<width$}")
                } else {
                    format!("{text:>width$}")
                }
            });
        cells.collect::<Vec<_>>().join(GAP)
    };
    rows.iter().map(line).collect()
}

fn heading(results: &SweepResults) -> Vec<String> {
    let keys = results.axes.iter().map(VariedAxis::name);
    keys.chain(Metric::ALL.map(|it| it.heading().to_owned()))
        .collect()
}

fn row(results: &SweepResults, cell: &CellResults) -> Vec<String> {
    let value = |axis: &VariedAxis| axis.value(&cell.settings).chars().take(VALUE).collect();
    let figures = Metric::ALL.map(|it| it.text(it.of(cell)));
    results.axes.iter().map(value).chain(figures).collect()
}

/// What the command says at its end, for a mailing list: plain text that Markdown leaves alone, host first, every cell.
#[must_use]
pub fn markdown(results: &SweepResults) -> String {
    let mut lines = vec![
        host_line(results),
        String::new(),
        progress_line(results),
        String::new(),
    ];
    lines.extend(
        columns(results, &results.cells)
            .into_iter()
            .map(|line| format!("    {}", line.trim_end())),
    );
    lines.push(String::new());
    for (name, fault) in results.cells.iter().flat_map(|cell| &cell.faults) {
        lines.push(format!(
            "- not sound, and in no figure: run {name}: {fault}"
        ));
    }
    for (settings, reason) in &results.skipped {
        let values: Vec<_> = settings
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        lines.push(format!("- left out: {}: {reason}", values.join(" ")));
    }
    lines.extend(["The sweep file:".to_owned(), String::new()]);
    lines.extend(results.file.lines().map(|line| format!("    {line}")));
    lines.push(format!(
        "\nWritten by underfoot report {}.",
        crate::tool::VERSION
    ));
    lines.iter().map(|line| format!("{line}\n")).collect()
}

/// A line for each cell: what it sets, how many runs it has, its figures; what was not measured is empty.
#[must_use]
pub fn csv(results: &SweepResults) -> String {
    let keys: Vec<_> = results
        .axes
        .iter()
        .flat_map(|axis| axis.keys.iter().map(String::as_str))
        .collect();
    let names = Metric::ALL.iter().map(|it| it.name());
    let heading: Vec<_> = ["cell"]
        .into_iter()
        .chain(keys.iter().copied())
        .chain([CSV_COUNTS])
        .chain(names)
        .collect();
    let mut text = heading.join(",") + "\n";
    for cell in &results.cells {
        let value =
            |key: &&str| human::csv_field(cell.settings.get(*key).map_or("", String::as_str));
        let mut fields = vec![cell.cell.to_string()];
        fields.extend(keys.iter().map(value));
        fields.extend([
            cell.sound.to_string(),
            cell.faults.len().to_string(),
            cell.missing.to_string(),
        ]);
        let figure = |it: &Metric| {
            it.of(cell)
                .map_or_else(String::new, |value| value.to_string())
        };
        fields.extend(Metric::ALL.iter().map(figure));
        text.push_str(&(fields.join(",") + "\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::pooled::tests::written;
    use super::*;

    fn results() -> (tempfile::TempDir, SweepResults) {
        let base = tempfile::tempdir().expect("a directory");
        let place = written(
            base.path(),
            |run| run.cell != 3,
            |run, record| {
                record.integrity.errors = u64::from(run.cell == 2);
            },
        );
        let results = SweepResults::read(&place).expect("results");
        (base, results)
    }

    #[test]
    fn a_screen_holds_what_matters() {
        let (_base, mut results) = results();
        let text = summary(&results, Some(80));
        for part in [
            "batch",
            "x.toml: 4 cells, 2 runs each, 4 sound, 2 not sound, 2 to be done",
            "not sound: run 0002-1",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let lines: Vec<_> = text.lines().collect();
        assert!(
            lines[..lines.len() - 1]
                .iter()
                .all(|line| line.chars().count() <= 80)
        );
        assert!(
            lines
                .iter()
                .any(|line| line.starts_with("32     2 ") && line.ends_with('-')),
            "{text}"
        );
        let cell = results.cells[0].clone();
        results.cells.extend((0..100).map(|_| cell.clone()));
        assert!(summary(&results, None).lines().count() <= 24);
    }

    #[test]
    fn a_spreadsheet_has_a_line_for_each_cell() {
        let (_base, mut results) = results();
        results.cells[0]
            .settings
            .insert("batch".to_owned(), "a,\"b\"".to_owned());
        let text = csv(&results);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 5);
        assert!(lines[0].starts_with("cell,batch,cpus,sound,not_sound,missing,window_p50_ns,"));
        assert!(lines[1].starts_with("0,\"a,\"\"b\"\"\",1,2,0,0,"), "{text}");
        assert!(lines[4].starts_with("3,32,2,0,0,2,,,,"), "{text}");
    }
}
