//! A page on which several runs lie over each other.

use super::chart::{Curve, figure};
use super::facts::{facts, setup};
use super::markup::Markup;
use super::section::{close_table, known, open_table, order, rows};
use crate::compare::comparable::Differences;
use crate::rundir::StoredRun;

/// The classes of the curves; after the last they begin again.
const CLASSES: [&str; 8] = ["s0", "s1", "s2", "s3", "s4", "s5", "s6", "s7"];

/// All of `runs`, the first as what the others are held against.
pub(super) fn several(runs: &[StoredRun]) -> Markup {
    let names = distinct_names(runs);
    let mut body = Markup::new();
    body.raw("<header><p class=\"kind\">")
        .text(kinds(runs))
        .raw("</p>");
    body.element("h1", format!("{} runs", runs.len()))
        .raw("</header>\n");
    body.push(&table_of_runs(runs, &names))
        .push(&overlaid(runs, &names))
        .push(&latencies(runs, &names));
    body
}

/// Each kind of host once.
fn kinds(runs: &[StoredRun]) -> String {
    let mut kinds: Vec<&str> = Vec::new();
    for run in runs.iter().filter(|run| run.host.kind != runs[0].host.kind) {
        kinds.push(&run.host.kind);
    }
    kinds.sort_unstable();
    kinds.dedup();
    kinds.insert(0, &runs[0].host.kind);
    kinds.join("; ")
}

/// The last parts of their paths, with a number where two are the same.
fn distinct_names(runs: &[StoredRun]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for run in runs {
        let name = run.name();
        let same = runs[..names.len()]
            .iter()
            .filter(|other| other.name() == name)
            .count();
        names.push(if same == 0 {
            name
        } else {
            format!("{name} ({})", same + 1)
        });
    }
    names
}

fn class(index: usize) -> &'static str {
    CLASSES[index % CLASSES.len()]
}

fn table_of_runs(runs: &[StoredRun], names: &[String]) -> Markup {
    let mut section = Markup::new();
    section.raw("<section><h2>Runs</h2>");
    for (index, run) in runs.iter().enumerate() {
        section
            .raw("<h3><span class=\"key ")
            .raw(class(index))
            .raw("\">")
            .text(&names[index])
            .raw("</span></h3><p>");
        section.text(setup(run)).raw("</p><dl class=\"facts\">");
        for (label, text) in facts(run) {
            section.element("dt", label).element("dd", text);
        }
        let differences = Differences::between(&runs[0], run);
        let differences = differences.hindering.iter().chain(&differences.told);
        let differs = differences.map(|one| format!("{} {} -> {}", one.key, one.base, one.other));
        let differs: Vec<_> = differs.collect();
        if index > 0 {
            let text = if differs.is_empty() {
                "in nothing".to_owned()
            } else {
                differs.join("; ")
            };
            section.element("dt", "differs").element("dd", text);
        }
        section.raw("</dl>");
    }
    section.raw("<p class=\"quiet\">Whether a difference is more than chance: underfoot compare.</p></section>\n");
    section
}

/// Of each run the histogram `name` of the moving phase, where it has values.
fn of_each<'a>(
    runs: &'a [StoredRun],
    name: &'a str,
) -> impl Iterator<Item = (usize, &'a crate::histogram::Histogram)> {
    let each = runs.iter().enumerate();
    each.filter_map(move |(index, run)| Some((index, known(run.moving.get(name))?)))
}

fn all_names(runs: &[StoredRun]) -> Vec<&str> {
    let names = order(runs.iter().flat_map(|run| run.moving.keys()));
    names
        .into_iter()
        .filter(|name| of_each(runs, name).next().is_some())
        .collect()
}

fn overlaid(runs: &[StoredRun], names: &[String]) -> Markup {
    let mut section = Markup::new();
    section.raw("<section><h2>Percentile curves</h2><p>The moving phase of each run. Further right is rarer, higher is ");
    section.raw("slower; both axes are logarithmic.</p><div class=\"figures\">");
    for name in all_names(runs) {
        let curves = of_each(runs, name).map(|(index, histogram)| {
            let label = names[index].as_str();
            Curve {
                label,
                class: class(index),
                histogram,
            }
        });
        let curves: Vec<_> = curves.collect();
        if let Some(figure) = figure(name, &curves) {
            section.push(&figure);
        }
    }
    section.raw("</div></section>\n");
    section
}

fn latencies(runs: &[StoredRun], names: &[String]) -> Markup {
    let mut section = Markup::new();
    section.raw("<section><h2>Latencies while pages moved</h2>");
    open_table(&mut section, "run", false);
    for name in all_names(runs) {
        let each = of_each(runs, name)
            .map(|(index, histogram)| (names[index].as_str(), class(index), histogram));
        rows(&mut section, name, each);
    }
    close_table(&mut section);
    section.raw("</section>\n");
    section
}
