//! What is said of a run in words, for pages and for text.

use crate::human;
use crate::record::ticks_in_waits;
use crate::rundir::{StoredRun, plain};

/// What stands beside the histograms: label and text. A measure that is absent is `-`.
pub(super) fn facts(run: &StoredRun) -> Vec<(&'static str, String)> {
    let counts = run.migration.counts;
    let rate = |rate: Option<f64>| {
        rate.map_or_else(|| "-".to_owned(), |rate| human::short_count(rate as u64))
    };
    let share = |share: Option<f64>| share.map_or_else(|| "-".to_owned(), human::share);
    let moved = format!(
        "{} pages of {} ({} skipped, {} aborted), {} pages/s",
        human::count(counts.committed),
        human::count(counts.attempted),
        human::short_count(counts.skipped),
        human::short_count(counts.aborted),
        run.migration
            .pages_per_s
            .map_or_else(|| "-".to_owned(), human::count),
    );
    let operations = run.guest.operations_per_s;
    let per_page = run
        .stalls
        .stalled_ns_per_page
        .map_or_else(|| "-".to_owned(), |ns| human::time(ns as u64));
    let mut facts = vec![
        ("outcome", outcome(run)),
        ("migrated", moved),
        (
            "guest",
            format!(
                "{} operations/s moving, {} control",
                rate(operations.moving),
                rate(operations.control)
            ),
        ),
        (
            "stalled",
            format!(
                "{per_page} per page moved, {} of vCPU time (control {})",
                share(run.stalls.vcpu_time_share),
                share(run.stalls.control_vcpu_time_share),
            ),
        ),
        (
            "integrity",
            format!(
                "{} checks, {} errors",
                human::count(run.integrity.checked),
                human::count(run.integrity.errors)
            ),
        ),
    ];
    let ticks = ticks_in_waits(&run.stalls.own_window_interrupts);
    facts.extend(ticks.map(|told| ("ticks", told)));
    facts
}

/// Whether the figures are of a run that was as it should be, and why not.
pub(super) fn outcome(run: &StoredRun) -> String {
    let variant = run.setting("variant");
    let mut text = run.fault().unwrap_or_else(|| "sound".to_owned());
    if variant.starts_with("busted") {
        text.push_str(&format!(", {variant}: WRONG ON PURPOSE"));
    }
    text
}

/// Whether [`outcome`] is nothing to warn of.
pub(super) fn is_plain(run: &StoredRun) -> bool {
    outcome(run) == "sound"
}

/// What ran, in one line.
pub(super) fn setup(run: &StoredRun) -> String {
    let who = match run.setting("mover").as_str() {
        "guest" => "mover guest".to_owned(),
        _ => ["strategy", "backend", "wait"]
            .map(|key| run.setting(key))
            .join(", "),
    };
    format!(
        "{}, seed {}, {who}, batch {}, rate {}, {} vCPUs, {}, {}",
        run.setting("workload"),
        run.setting("seed"),
        run.setting("batch"),
        run.setting("rate"),
        run.setting("cpus"),
        run.setting("memory"),
        run.setting("duration"),
    )
}

/// The machine, in one line.
pub(super) fn machine(run: &StoredRun) -> String {
    let host = &run.host;
    let nested = if host.nested { ", nested" } else { "" };
    format!(
        "{}, {} CPUs, Linux {}, {}{nested}",
        host.cpu, host.cpus, host.kernel, host.kvm_module
    )
}

/// The tool.
pub(super) fn tool(run: &StoredRun) -> String {
    match &run.tool.commit {
        Some(commit) => format!("underfoot {} ({commit})", run.tool.version),
        None => format!("underfoot {}", run.tool.version),
    }
}

/// What runs it again.
pub(super) fn again(run: &StoredRun) -> String {
    if run.experiment.is_some() {
        return format!(
            "underfoot run --experiment {}/experiment.toml",
            run.path.display()
        );
    }
    // The level in force is in the configuration, and may be had elsewhere too; tables are parameters.
    let flags = run.config.iter().map(|(key, value)| match value {
        serde_json::Value::Bool(value) => format!("--{key}={value}"),
        value => format!("--{key} {}", quoted(&plain(value))),
    });
    format!("underfoot run {}", flags.collect::<Vec<_>>().join(" "))
}

/// As a shell takes it.
fn quoted(text: &str) -> String {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "-_=,.:%/+".contains(letter);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// What could not be measured or moved, each with its reason.
pub(super) fn absent(run: &StoredRun) -> Vec<(&str, &str)> {
    let all = run.host.unsupported.iter().chain(&run.migration.refused);
    all.map(|(name, reason)| (name.as_str(), reason.as_str()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::verdict::tests::stored;

    #[test]
    fn a_run_without_its_experiment_is_told_as_flags() {
        let mut run = stored();
        let said = again(&run);
        for part in [
            "--workload walk",
            "--seed 42",
            "--hugepages=false",
            "--control 20%",
        ] {
            assert!(said.contains(part), "{said}");
        }
        run.experiment = Some(String::new());
        assert!(again(&run).ends_with("/experiment.toml"));
        assert_eq!(quoted("it's"), r"'it'\''s'");
    }

    #[test]
    fn what_is_not_sound_is_said() {
        let mut run = stored();
        assert!(is_plain(&run));
        run.config
            .insert("variant".into(), "busted-no-unmap".into());
        assert_eq!(outcome(&run), "sound, busted-no-unmap: WRONG ON PURPOSE");
        run.integrity.errors = 2;
        assert!(outcome(&run).starts_with("2 integrity errors, busted"));
    }
}
