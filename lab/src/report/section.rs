//! The parts of a page about one run.

use super::chart::{Curve, figure};
use super::facts::{absent, again, facts, is_plain, machine, tool};
use super::markup::Markup;
use crate::histogram::Histogram;
use crate::human;
use crate::rundir::{StoredRun, plain};

const PERCENTILES: [(u16, &str); 5] = [
    (5_000, "p50"),
    (9_000, "p90"),
    (9_900, "p99"),
    (9_990, "p99.9"),
    (9_999, "p99.99"),
];
/// The parts of a window, and those of migrations that are longer than their window.
const WINDOW: &str = "window";
/// What the guest felt most directly, first; others follow by name.
const FIRST: [&str; 4] = [
    "guest.stall",
    "guest.access",
    "guest.probe",
    "guest.rcu.grace_period",
];

/// The figures of a run at a glance.
pub(super) fn summary(run: &StoredRun) -> Markup {
    let mut section = Markup::new();
    section.raw("<section><h2>Summary</h2>");
    if !is_plain(run) {
        section.raw("<p class=\"warn\">These figures are not of a sound run. See the outcome.</p>");
    }
    section.raw("<dl class=\"facts\">");
    for (label, text) in facts(run) {
        section.element("dt", label).element("dd", text);
    }
    section.raw("</dl>");
    for detail in &run.integrity.details {
        section.raw("<p class=\"warn\">").text(detail).raw("</p>");
    }
    let felt: Vec<_> = names(run)
        .into_iter()
        .filter(|name| FIRST.contains(name))
        .collect();
    if !felt.is_empty() {
        section.raw("<p>What the guest felt. Control is the same guest before anything moved: what stands in both rows is ");
        section.raw("the host's doing.</p>");
        table(&mut section, run, &felt, true);
    }
    section.raw("</section>\n");
    section
}

/// Every histogram with a value in a table, the control phase below the moving phase.
pub(super) fn latencies(run: &StoredRun) -> Markup {
    let mut section = Markup::new();
    section.raw("<section><h2>All latencies</h2>");
    table(&mut section, run, &names(run), false);
    let empty = empty(run);
    if !empty.is_empty() {
        section
            .raw("<p class=\"quiet\">Without a value in this run: ")
            .text(empty.join(", "))
            .raw(".</p>");
    }
    section.raw("</section>\n");
    section
}

/// The histograms called `names`, both phases.
fn table(section: &mut Markup, run: &StoredRun, names: &[&str], is_brief: bool) {
    open_table(section, "phase", is_brief);
    for name in names {
        let phases = [
            ("moving", run.moving.get(*name)),
            ("control", run.control.get(*name)),
        ];
        let known = phases
            .into_iter()
            .filter_map(|(phase, histogram)| Some((phase, phase, known(histogram)?)));
        rows(section, name, known);
    }
    close_table(section);
}

/// The head of a table of histograms; `first` is what its rows are, and `is_brief` lets a phone leave out some columns.
pub(super) fn open_table(section: &mut Markup, first: &str, is_brief: bool) {
    let class = if is_brief { "numbers brief" } else { "numbers" };
    section
        .raw("<div class=\"scroll\"><table class=\"")
        .raw(class)
        .raw("\"><thead><tr>");
    section.element("th", first).raw("<th>count</th>");
    for (_, name) in PERCENTILES {
        section.element("th", name);
    }
    section.raw("<th>max</th></tr></thead><tbody>");
}

/// Its end.
pub(super) fn close_table(section: &mut Markup) {
    section.raw("</tbody></table></div>");
}

/// The rows of the histogram `name` in it: of each its label, the class that has the colour of its curve, and its values.
pub(super) fn rows<'a>(
    section: &mut Markup,
    name: &str,
    rows: impl Iterator<Item = (&'a str, &'static str, &'a Histogram)>,
) {
    section
        .raw("<tr class=\"group\"><th colspan=\"8\">")
        .text(name)
        .raw("</th></tr>");
    for (label, key, histogram) in rows {
        section
            .raw("<tr><th><span class=\"key ")
            .raw(key)
            .raw("\">")
            .text(label)
            .raw("</span></th>");
        section.element("td", human::short_count(histogram.count()));
        for (parts, _) in PERCENTILES {
            section.element("td", time(histogram.percentile(parts)));
        }
        section.element("td", time(histogram.max())).raw("</tr>");
    }
}

fn time(ns: Option<u64>) -> String {
    ns.map_or_else(|| "-".to_owned(), human::time)
}

/// The curves of everything that the guest felt and the host did, control beside moving.
pub(super) fn curves(run: &StoredRun) -> Markup {
    let mut section = Markup::new();
    section.raw("<section><h2>Percentile curves</h2><p>Further right is rarer, higher is slower; both axes are ");
    section.raw("logarithmic.</p><div class=\"figures\">");
    for name in names(run) {
        let phases = [
            ("control", run.control.get(name)),
            ("moving", run.moving.get(name)),
        ];
        let curves = phases.into_iter().filter_map(|(phase, histogram)| {
            let histogram = histogram?;
            Some(Curve {
                label: phase,
                class: phase,
                histogram,
            })
        });
        let curves: Vec<_> = curves.collect();
        if let Some(figure) = figure(name, &curves) {
            section.push(&figure);
        }
    }
    section.raw("</div></section>\n");
    section
}

/// What the windows were spent on, as bars of mean times; `None` where there was none.
pub(super) fn window_phases(run: &StoredRun) -> Option<Markup> {
    let parts = run
        .moving
        .iter()
        .filter(|(name, _)| *name == WINDOW || name.starts_with("window."));
    let parts = parts.filter_map(|(name, histogram)| Some((name, known(Some(histogram))?)));
    let means: Vec<_> = parts
        .map(|(name, histogram)| (name, mean(histogram), histogram))
        .collect();
    let longest = means
        .iter()
        .map(|(_, mean, _)| *mean)
        .max()
        .filter(|mean| *mean > 0)?;
    let mut section = Markup::new();
    section.raw("<section><h2>Window phases</h2><p>A window is the time in which a page is unavailable, from before the ");
    section.raw("call that unmaps it to after the return of the call that maps it. Bars are mean times.</p>");
    section.raw("<div class=\"scroll\"><table class=\"bars\"><thead><tr><th></th><th></th><th>mean</th><th>p50</th>");
    section.raw("<th>p99</th><th>max</th></tr></thead><tbody>");
    for (name, mean, histogram) in &means {
        section
            .raw("<tr class=\"cause\">")
            .element("th", name)
            .raw("<td class=\"bar\"><i style=\"width:");
        section
            .text(format!("{:.2}", *mean as f64 / longest as f64 * 100.0))
            .raw("%\"></i></td>");
        let values = [
            Some(*mean),
            histogram.percentile(5_000),
            histogram.percentile(9_900),
            histogram.max(),
        ];
        for ns in values {
            section.element("td", time(ns));
        }
        section.raw("</tr>");
    }
    section.raw("</tbody></table></div></section>\n");
    Some(section)
}

fn mean(histogram: &Histogram) -> u64 {
    histogram.sum().checked_div(histogram.count()).unwrap_or(0)
}

/// What moved, by kind of page.
pub(super) fn kinds(run: &StoredRun) -> Option<Markup> {
    if run.migration.by_kind.is_empty() {
        return None;
    }
    let mut section = Markup::new();
    section.raw("<section><h2>Pages by kind</h2><div class=\"scroll\"><table class=\"numbers\"><thead><tr><th>kind</th>");
    section.raw(
        "<th>attempted</th><th>committed</th><th>aborted</th><th>skipped</th><th>retried</th>",
    );
    section.raw("<th>frames compared</th></tr></thead><tbody>");
    for (kind, counts) in &run.migration.by_kind {
        section.raw("<tr>").element("th", kind);
        let numbers = [
            counts.attempted,
            counts.committed,
            counts.aborted,
            counts.skipped,
            counts.retried,
        ];
        for number in numbers.map(Some).into_iter().chain([counts.verified]) {
            section.element("td", number.map_or_else(|| "-".to_owned(), human::count));
        }
        section.raw("</tr>");
    }
    section.raw("</tbody></table></div></section>\n");
    Some(section)
}

/// What could not be measured or moved, and why.
pub(super) fn absences(run: &StoredRun) -> Option<Markup> {
    let absent = absent(run);
    if absent.is_empty() {
        return None;
    }
    let mut section = Markup::new();
    section.raw("<section><h2>Absent</h2><p>What this host cannot measure, and kinds of pages that were left alone. ");
    section.raw("None of it is zero.</p><dl class=\"facts\">");
    for (name, reason) in absent {
        section.element("dt", name).element("dd", reason);
    }
    section.raw("</dl></section>\n");
    Some(section)
}

/// How to have the same again.
pub(super) fn setup_section(run: &StoredRun) -> Markup {
    let mut section = Markup::new();
    section
        .raw("<section><h2>Run it again</h2><pre>")
        .text(again(run))
        .raw("</pre>");
    section
        .raw("<dl class=\"facts\">")
        .element("dt", "host")
        .element("dd", machine(run));
    section
        .element("dt", "tool")
        .element("dd", tool(run))
        .raw("</dl>");
    section.raw("<details><summary>All settings in effect</summary><dl class=\"facts settings\">");
    for (key, value) in &run.config {
        section.element("dt", key).element("dd", plain(value));
    }
    section.raw("</dl></details>");
    if let Some(experiment) = &run.experiment {
        section
            .raw("<details><summary>experiment.toml</summary><pre>")
            .text(experiment)
            .raw("</pre></details>");
    }
    section.raw("</section>\n");
    section
}

/// Those with a value in either phase: first what the guest felt, then the rest by name.
fn names(run: &StoredRun) -> Vec<&str> {
    order(
        run.moving
            .keys()
            .chain(run.control.keys())
            .filter(|name| has_value(run, name)),
    )
}

/// Each of `names` once, in the order in which people want to see them.
pub(super) fn order<'a>(names: impl Iterator<Item = &'a String>) -> Vec<&'a str> {
    let mut names: Vec<&str> = names.map(String::as_str).collect();
    let place = |name: &str| {
        FIRST
            .iter()
            .position(|first| *first == name)
            .unwrap_or(FIRST.len())
    };
    names.sort_unstable_by_key(|name| (place(name), *name));
    names.dedup();
    names
}

fn has_value(run: &StoredRun, name: &str) -> bool {
    known(run.moving.get(name))
        .or(known(run.control.get(name)))
        .is_some()
}

fn empty(run: &StoredRun) -> Vec<&str> {
    order(
        run.moving
            .keys()
            .chain(run.control.keys())
            .filter(|name| !has_value(run, name)),
    )
}

/// The histogram, if it has values.
pub(super) fn known(histogram: Option<&Histogram>) -> Option<&Histogram> {
    histogram.filter(|histogram| histogram.count() > 0)
}
