//! A run as a mail to a list carries it: at most 72 columns of plain text, which is Markdown too.

use super::facts::{absent, again, facts, machine, setup, tool};
use super::section::{known, order};
use crate::histogram::Histogram;
use crate::human;
use crate::rundir::{StoredAttribution, StoredCauses, StoredRun, plain};

/// What mail is wrapped at.
const WIDTH: usize = 72;
/// Before tables, which Markdown then leaves alone.
const INDENT: &str = "    ";
const LABEL: usize = 10;
const NAME: usize = 25;
/// By which a text is known to be a report: see [`super::target`].
pub(super) const MARKER: &str = "Written by underfoot report";

/// Each run, one after the other: first what kind of host it was.
#[must_use]
pub fn text(runs: &[StoredRun]) -> String {
    let reports = runs.iter().map(one);
    let mut text = reports.collect::<Vec<_>>().join("\n\n");
    text.push_str(&format!("\n{MARKER} {}.\n", crate::tool::VERSION));
    text
}

fn one(run: &StoredRun) -> String {
    let mut lines = paragraph(&run.host.kind);
    lines.extend(paragraph(&machine(run)));
    lines.push(String::new());
    lines.extend(paragraph(&setup(run)));
    lines.push(String::new());
    for (label, text) in facts(run) {
        lines.extend(labelled(label, &text));
    }
    lines.push(String::new());
    lines.extend(table(run));
    if let Some(attribution) = &run.attribution {
        lines.push(String::new());
        lines.extend(causes(attribution));
    }
    let absent = absent(run);
    if !absent.is_empty() {
        lines.extend([
            String::new(),
            "Absent (not zero):".to_owned(),
            String::new(),
        ]);
        lines.extend(
            absent
                .iter()
                .flat_map(|(name, reason)| item(&format!("{name}: {reason}"))),
        );
    }
    lines.extend([
        String::new(),
        "Settings in effect:".to_owned(),
        String::new(),
    ]);
    let settings: Vec<_> = run
        .config
        .iter()
        .map(|(key, value)| format!("{key}={}", plain(value)))
        .collect();
    lines.extend(
        human::wrap(&settings.join(" "), WIDTH - INDENT.len())
            .iter()
            .map(|line| format!("{INDENT}{line}")),
    );
    lines.extend([String::new(), "Run it again:".to_owned(), String::new()]);
    // A command that is broken cannot be pasted.
    lines.extend([format!("{INDENT}{}", one_line(&again(run))), String::new()]);
    lines.extend(paragraph(&tool(run)));
    lines
        .into_iter()
        .map(|line| line.trim_end().to_owned() + "\n")
        .collect()
}

fn paragraph(text: &str) -> Vec<String> {
    human::wrap(text, WIDTH)
}

/// Whatever files hold, a line stays a line.
fn one_line(text: &str) -> String {
    text.chars()
        .map(|letter| if letter.is_control() { ' ' } else { letter })
        .collect()
}

fn labelled(label: &str, text: &str) -> Vec<String> {
    let lines = human::wrap(text, WIDTH - INDENT.len() - LABEL);
    let labels = std::iter::once(label).chain(std::iter::repeat(""));
    lines
        .iter()
        .zip(labels)
        .map(|(line, label)| format!("{INDENT}{label:<LABEL$}{line}"))
        .collect()
}

fn item(text: &str) -> Vec<String> {
    let lines = human::wrap(text, WIDTH - 2);
    let marks = std::iter::once("- ").chain(std::iter::repeat("  "));
    lines
        .iter()
        .zip(marks)
        .map(|(line, mark)| format!("{mark}{line}"))
        .collect()
}

/// Every histogram with values, the control phase below the moving phase.
fn table(run: &StoredRun) -> Vec<String> {
    let heading = ["count", "p50", "p99", "p99.9", "max"];
    let mut lines = vec![format!(
        "{INDENT}{:<NAME$}{:>6}{:>8}{:>8}{:>8}{:>8}",
        "", heading[0], heading[1], heading[2], heading[3], heading[4],
    )];
    for name in order(run.moving.keys().chain(run.control.keys())) {
        let moving = known(run.moving.get(name)).map(|histogram| row(&one_line(name), histogram));
        let control = known(run.control.get(name));
        let label = if moving.is_some() {
            "  control".to_owned()
        } else {
            format!("{} control", one_line(name))
        };
        lines.extend(moving);
        lines.extend(control.map(|histogram| row(&label, histogram)));
    }
    lines
}

fn row(name: &str, histogram: &Histogram) -> String {
    let time = |ns: Option<u64>| ns.map_or_else(|| "-".to_owned(), human::time);
    let times = [
        histogram.percentile(5_000),
        histogram.percentile(9_900),
        histogram.percentile(9_990),
        histogram.max(),
    ];
    let times = times.map(|ns| format!("{:>8}", time(ns))).concat();
    format!(
        "{INDENT}{name:<NAME$}{:>6}{times}",
        short(histogram.count())
    )
}

/// In at most six characters, a blank before them.
fn short(count: u64) -> String {
    if count < 100_000 {
        human::count(count)
    } else {
        human::tiny_count(count)
    }
}

/// What the stalled time was made of; the unexplained first, the placebo last.
fn causes(attribution: &StoredAttribution) -> Vec<String> {
    let line = |name: &str, share: f64| {
        format!("{INDENT}{:<30}{:>10}", one_line(name), human::share(share))
    };
    let all = |causes: &StoredCauses| -> Vec<String> {
        let shares = causes.shares().into_iter();
        shares.map(|(name, _, share)| line(name, share)).collect()
    };
    let stalled = human::time(attribution.moving.stalled_ns);
    let mut lines = vec![
        format!("Stalled {stalled} while pages moved, of which:"),
        String::new(),
    ];
    lines.extend(all(&attribution.moving));
    match attribution.placebo {
        Some(placebo) => {
            lines.extend(
                placebo
                    .real_share()
                    .map(|share| line("windows explain", share)),
            );
            lines.push(line("placebo explains", placebo.share()));
        }
        None => lines.push(format!("{INDENT}placebo not measured")),
    }
    if let Some(tail) = &attribution.tail {
        let (stalls, from) = (human::count(tail.stalls), human::time(tail.from_ns));
        lines.extend([
            String::new(),
            format!("The longest (p99.9), {stalls} of {from} or more:"),
            String::new(),
        ]);
        lines.extend(all(&tail.causes));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::verdict::tests::stored;
    use crate::rundir::StoredTail;

    fn attribution() -> StoredAttribution {
        let causes = [("window".to_owned(), 950), ("unexplained".to_owned(), 50)];
        let moving = StoredCauses {
            stalled_ns: 1_000,
            causes: causes.into(),
        };
        let tail = Some(StoredTail {
            from_ns: 7_000_000,
            stalls: 2,
            causes: moving.clone(),
        });
        StoredAttribution {
            moving,
            tail,
            ..StoredAttribution::default()
        }
    }

    #[test]
    fn mail_is_72_columns_with_the_host_first() {
        let mut run = stored();
        run.host
            .unsupported
            .insert("frames".into(), "a reason of more than a line ".repeat(5));
        run.integrity.details = vec!["x".into()];
        let histogram = run.moving["window"].clone();
        run.moving
            .insert("guest.stall.after_window".into(), histogram);
        run.attribution = Some(attribution());
        run.experiment = Some(String::new());
        run.path = "runs/x".into();
        let text = text(&[run.clone(), run]);
        assert!(
            text.starts_with("kvm-pvm, shadow paging, CPL 3: not EPT figures\nA CPU, 2 CPUs"),
            "{text}"
        );
        for line in text.lines() {
            assert!(line.chars().count() <= WIDTH, "{line}");
        }
        for part in [
            "    guest.access",
            "      control",
            "unexplained",
            "placebo not measured",
            "2 of 7.00 ms or more",
            "Absent (not zero)",
            MARKER,
            "    underfoot run --experiment runs/x/experiment.toml",
        ] {
            assert!(text.contains(part), "{part} in:\n{text}");
        }
    }
}
