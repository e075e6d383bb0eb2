//! The page about a sweep.

use super::super::markup::Markup;
use super::super::page::whole;
use super::facet::Layout;
use super::heat::heat_map;
use super::lines::curves;
use crate::sweep::{CellResults, Metric, SweepResults};

/// Cells in the table at most; the CSV has all.
const MOST_ROWS: usize = 500;

/// The page about `results`.
#[must_use]
pub(crate) fn sweep_page(results: &SweepResults) -> String {
    let mut body = Markup::new();
    body.raw("<header><p class=\"kind\">");
    body.text(
        results
            .host
            .as_ref()
            .map_or("no run is done yet", |(host, _)| host.kind.as_str()),
    );
    body.raw("</p>")
        .element("h1", &results.name)
        .raw("</header>\n");
    body.push(&state(results));
    if let Some(layout) = Layout::of(results) {
        for metric in Metric::ALL {
            body.push(&measure(results, &layout, metric));
        }
    }
    body.push(&table(results)).push(&left_out(results));
    body.raw("<section><h2>Run it again</h2><pre>")
        .text(&results.file)
        .raw("</pre></section>\n");
    whole(&results.name, &body)
}

/// How far it is, and what hinders holding cells against each other.
fn state(results: &SweepResults) -> Markup {
    let (sound, faults, missing) = results.counts();
    let mut section = Markup::new();
    section.raw("<section><p>").text(format!(
        "{} cells, {} runs each: {sound} sound, {faults} not sound, {missing} to be done. Figures of a cell are of its \
         sound runs, whose histograms are added up.",
        results.cells.len(), results.repeat
    ));
    section.raw("</p>");
    if matches!(results.host, Some((_, false))) {
        section.raw("<p class=\"warn\">Runs had hosts of different kinds: cells cannot be held against each other.</p>");
    }
    for (name, fault) in results.cells.iter().flat_map(|cell| &cell.faults).take(8) {
        section
            .raw("<p class=\"warn\">")
            .text(format!("Not sound, and in no figure: run {name}: {fault}"))
            .raw("</p>");
    }
    section.raw("</section>\n");
    section
}

/// A measure, a heat map and curves for each facet.
fn measure(results: &SweepResults, layout: &Layout<'_>, metric: Metric) -> Markup {
    let values = results.cells.iter().filter_map(|cell| metric.of(cell));
    let range = values.fold(
        (f64::INFINITY, f64::NEG_INFINITY),
        |(least, most), value| (least.min(value), most.max(value)),
    );
    let mut section = Markup::new();
    if range.0 > range.1 {
        return section;
    }
    section
        .raw("<section><h2>")
        .text(metric.title())
        .raw("</h2><p class=\"quiet\">");
    section.text(format!(
        "From {} to {}; ",
        metric.text(Some(range.0)),
        metric.text(Some(range.1))
    ));
    section.raw(if metric.is_better_low() {
        "less is better"
    } else {
        "more is better"
    });
    section.raw(", the stronger the colour the worse.</p><div class=\"figures\">");
    for facet in &layout.facets {
        let heat_map = heat_map(layout, facet, metric, range);
        let curves = curves(layout, facet, metric, range).unwrap_or_default();
        if facet.title.is_empty() {
            // Side by side, where there is room.
            section
                .raw("<div>")
                .push(&heat_map)
                .raw("</div>")
                .push(&curves);
        } else {
            section
                .raw("<div>")
                .element("h3", &facet.title)
                .push(&heat_map)
                .push(&curves)
                .raw("</div>");
        }
    }
    section.raw("</div>");
    if layout.more > 0 {
        section
            .raw("<p class=\"quiet\">")
            .text(format!(
                "{} more combinations stand in the table.",
                layout.more
            ))
            .raw("</p>");
    }
    section.raw("</section>\n");
    section
}

/// A row for each cell.
fn table(results: &SweepResults) -> Markup {
    let mut section = Markup::new();
    section.raw("<section><h2>All cells</h2><div class=\"scroll\"><table class=\"numbers\"><thead><tr><th>cell</th>");
    for axis in &results.axes {
        section.element("th", axis.name());
    }
    section.raw("<th>sound</th>");
    for metric in Metric::ALL {
        section.element("th", metric.title());
    }
    section.raw("</tr></thead><tbody>");
    for cell in results.cells.iter().take(MOST_ROWS) {
        section.push(&row(results, cell));
    }
    section.raw("</tbody></table></div>");
    let more = results.cells.len().saturating_sub(MOST_ROWS);
    if more > 0 {
        section
            .raw("<p class=\"quiet\">")
            .text(format!("{more} more cells: report --format csv."))
            .raw("</p>");
    }
    section.raw("</section>\n");
    section
}

fn row(results: &SweepResults, cell: &CellResults) -> Markup {
    let mut row = Markup::new();
    row.raw("<tr>").element("th", format!("{:04}", cell.cell));
    for axis in &results.axes {
        row.element("td", axis.value(&cell.settings));
    }
    row.element("td", format!("{}/{}", cell.sound, results.repeat));
    for metric in Metric::ALL {
        row.element("td", metric.text(metric.of(cell)));
    }
    row.raw("</tr>");
    row
}

fn left_out(results: &SweepResults) -> Markup {
    let mut section = Markup::new();
    if results.skipped.is_empty() {
        return section;
    }
    section.raw("<section><h2>Left out</h2><dl class=\"facts\">");
    for (settings, reason) in results.skipped.iter().take(MOST_ROWS) {
        let values = settings.iter().map(|(key, value)| format!("{key}={value}"));
        section
            .element("dt", values.collect::<Vec<_>>().join(" "))
            .element("dd", reason);
    }
    section.raw("</dl></section>\n");
    section
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sweep::tests::results_of;

    const HOSTILE: &str = "<script>alert(1)</script>";

    #[test]
    fn a_page_stands_alone_and_nothing_from_files_is_markup() {
        let mut results = results_of(&[("cpus", &["1", "2"]), ("wait", &["halt", HOSTILE])]);
        results.file = HOSTILE.into();
        results.name = HOSTILE.into();
        results.cells[0]
            .faults
            .push((HOSTILE.into(), HOSTILE.into()));
        results
            .skipped
            .push((results.cells[3].settings.clone(), HOSTILE.into()));
        let page = sweep_page(&results);
        for part in ["<script", "http:", "https:", " src=", "url(", "@import"] {
            assert!(!page.contains(part), "{part}");
        }
        for part in [
            "window p99.9",
            "All cells",
            "Left out",
            "Run it again",
            "Not sound, and in no figure",
        ] {
            assert!(page.contains(part), "{part}");
        }
        assert_eq!(
            page.matches("<table class=\"heat\">").count(),
            Metric::ALL.len()
        );
    }

    #[test]
    fn a_sweep_of_nothing_yet_has_a_page() {
        let mut results = results_of(&[("cpus", &["1", "2"])]);
        results.host = None;
        for cell in &mut results.cells {
            (cell.sound, cell.missing) = (0, 1);
            cell.moving.clear();
            cell.control.clear();
            (cell.pages_per_s, cell.operations_ratio) = (None, None);
        }
        let page = sweep_page(&results);
        assert!(
            page.contains("no run is done yet") && page.contains("2 to be done"),
            "{page}"
        );
        assert!(!page.contains("<figure>"));
    }
}
