//! The results of a run on one screen: at most 80 columns and 24 lines.

mod rcu;

use crate::attribution::Cause;
use crate::guest_record::line;
use crate::histogram::Histogram;
use crate::human;
use crate::names::{Named, Variant};
use crate::record::{
    Causes, Ending, FrameUserRecord, Histograms, PageEventCounts, RunRecord, ticks_in_waits,
};
use crate::run::observer::LOCKED;
use crate::setup_line::setup_line;
use std::path::Path;
use underfoot_abi::Metric;
use underfoot_migrator::{AbortReason, StrategyKind};

/// Columns of a screen, to be counted on.
pub const SCREEN: usize = 80;
/// Its lines.
const ROWS: usize = 24;
const LABEL: usize = 10;
const PERCENTILES: [u16; 5] = [5_000, 9_000, 9_900, 9_990, 9_999];
/// Pages that went back because of `--max-window`.
const OVER_BUDGET: &str = AbortReason::NAMES[AbortReason::OverBudget.index()];
/// Measures whose control phase stands beside the moving phase.
const COMPARED: [(&str, Metric); 4] = [
    ("stall", Metric::Stall),
    ("access", Metric::Access),
    ("probe", Metric::Probe),
    ("rcu grace", Metric::GracePeriod),
];

/// The summary of `record`, with a line feed after each line, cut at `width` columns if there are so
/// many only; but not what was run, nor `results`, where the run directory is. A measure that is absent shows as `-`, and below it stands why.
#[must_use]
pub fn summary(record: &RunRecord, results: Option<&Path>, width: Option<usize>) -> String {
    let mut lines = vec![record.host_kind(), String::new()];
    lines.extend(outcome_line(record));
    lines.push(migration_line(record));
    lines.extend(given_up_line(record));
    lines.extend(copies_line(record));
    lines.extend(frames_line(record));
    lines.extend(kind_lines(record));
    lines.push(guest_line(record));
    lines.push(heading());
    lines.extend(latency_lines(record));
    lines.extend(locked_line(record));
    lines.push(stalled_line(record));
    lines.extend(own_window_line(record));
    lines.extend(cause_lines(record));
    let spare = lines.len();
    lines.extend(async_line(record));
    lines.push(integrity_line(record));
    lines.extend(finding_line(record));
    lines.extend(watchdog_line(record));
    lines.extend(absent_line(record, width));
    // What the results have too goes where there is no room.
    let ticks = ticks_in_waits(&record.stalls.own_window_interrupts);
    for line in [
        ticks.map(|told| labelled("ticks", &told)),
        rcu::shootdown_line(record),
        rcu::backlog_line(record),
    ] {
        let rows = lines.len() + usize::from(results.is_some());
        if width.is_none() || rows < ROWS {
            lines.splice(spare..spare, line);
        }
    }
    if let Some(width) = width {
        for line in &mut lines {
            *line = cut(line, width);
        }
    }
    // Whoever wants to run it again needs all of it.
    lines[1] = setup_line(&record.experiment);
    if let Some(results) = results {
        // A path that is cut can't be used, so this line may be longer than the others.
        lines.push(format!("{:<LABEL$}{}", "results", results.display()));
    }
    lines.into_iter().map(|line| line + "\n").collect()
}

/// `label` and `text` behind it.
fn labelled(label: &str, text: &str) -> String {
    format!("{label:<LABEL$}{text}")
}

fn cut(line: &str, width: usize) -> String {
    if line.chars().count() <= width {
        return line.to_owned();
    }
    let mut short: String = line.chars().take(width.saturating_sub(1)).collect();
    short.push('…');
    short
}

/// Said only where the run is not a plain one that went its whole length.
fn outcome_line(record: &RunRecord) -> Option<String> {
    let variant = record.experiment.variant;
    let busted = variant != Variant::None;
    let ending = match record.outcome.ending {
        Ending::Done if !busted => return None,
        Ending::Done => "done",
        Ending::Interrupted { .. } => "INCOMPLETE, interrupted",
        Ending::Failed => "FAILED",
        Ending::Watchdog => "STOPPED by the watchdog",
    };
    let mut text = ending.to_owned();
    if busted {
        text = format!("{text}, {}, WRONG ON PURPOSE", variant.name());
    }
    // What follows the first line (registers, for one) is told on standard error.
    if let Some(reason) = record
        .outcome
        .message
        .as_deref()
        .and_then(|m| m.lines().next())
    {
        text = format!("{text}: {reason}");
    }
    Some(labelled("outcome", &text))
}

fn migration_line(record: &RunRecord) -> String {
    let counts = record.migration.counts;
    let rate = record
        .migration
        .pages_per_s()
        .map_or_else(|| "-".to_owned(), human::count);
    if counts.attempted == 0 && record.migration.moving_ns > 0 && record.moves() {
        let text = "NOTHING: the guest has no page of the target kinds that may move";
        return labelled("migrated", text);
    }
    labelled(
        "migrated",
        &format!(
            "{} pages of {} ({} skipped, {} aborted), {rate} pages/s",
            human::count(counts.committed),
            human::count(counts.attempted),
            human::short_count(counts.skipped),
            human::short_count(counts.aborted),
        ),
    )
}

/// Windows that were open for too long, where that is bounded.
fn given_up_line(record: &RunRecord) -> Option<String> {
    let longest = record.experiment.max_window?;
    let pages = record.migration.aborted_by.get(OVER_BUDGET).copied();
    let text = format!(
        "{} pages whose windows were open for more than {longest} (--max-window)",
        human::count(pages.unwrap_or(0)),
    );
    Some(labelled("given up", &text))
}

/// What the guest wrote behind the copies, where it may.
fn copies_line(record: &RunRecord) -> Option<String> {
    let engine = record.engine?;
    (record.experiment.strategy == StrategyKind::Transactional).then(|| {
        let text = format!(
            "{} in vain, as the guest wrote ({} pages); {} under protection in the end",
            human::count(engine.conflicts),
            human::short_count(engine.wasted_copies),
            human::short_count(engine.fallbacks),
        );
        labelled("copies", &text)
    })
}

/// What was taken from the pool, where there is one.
fn frames_line(record: &RunRecord) -> Option<String> {
    let frames = record.frames.as_ref()?;
    let sum = |of: fn(&FrameUserRecord) -> u64| frames.users.values().map(of).sum();
    let text = format!(
        "{} fast, {} slow in {} fallbacks, {} of the reserve; lowest {} of {}; refilled {}, in the background {}",
        human::short_count(sum(|user| user.fast)),
        human::short_count(sum(|user| user.slow)),
        human::short_count(sum(|user| user.fell_back)),
        human::short_count(sum(|user| user.reserve)),
        frames.lowest,
        frames.size,
        human::short_count(sum(|user| user.refilled)),
        human::short_count(frames.background_refilled),
    );
    Some(labelled("frames", &text))
}

/// Committed pages by kind: with every kind, two lines.
fn kind_lines(record: &RunRecord) -> Vec<String> {
    let items: Vec<String> = record
        .migration
        .by_kind
        .iter()
        .map(|(kind, counts)| {
            let committed = match record.migration.refused.contains_key(kind) {
                true => "-".to_owned(),
                false => human::tiny_count(counts.counts.committed),
            };
            format!("{} {committed}", Named::name(*kind))
        })
        .collect();
    items
        .chunks(5)
        .enumerate()
        .map(|(index, items)| labelled(if index == 0 { "by kind" } else { "" }, &items.join("  ")))
        .collect()
}

fn guest_line(record: &RunRecord) -> String {
    let rate = |rate: Option<f64>| {
        rate.map_or_else(
            || "-".to_owned(),
            |rate| human::short_count(rate.round() as u64),
        )
    };
    let mut text = format!(
        "{} operations/s moving, {} control",
        rate(record.moving_operations_per_s()),
        rate(record.control_operations_per_s()),
    );
    if let Some(ns) = record.startup_ns.first_operation {
        text = format!("{text}; first after {}", human::time(ns));
    }
    labelled("guest", &text)
}

fn heading() -> String {
    row("", "count", ["p50", "p90", "p99", "p99.9", "p99.99", "max"])
}

fn row<T: AsRef<str>>(name: &str, count: &str, values: [T; 6]) -> String {
    let mut line = format!("{name:<20}{count:>10}");
    for value in values {
        line.push_str(&format!("{:>8}", value.as_ref()));
    }
    line
}

fn latency_lines(record: &RunRecord) -> Vec<String> {
    let mut lines = vec![
        latency("window", record.moving.get("window")),
        latency("migration", record.moving.get("migration")),
    ];
    for (name, metric) in COMPARED {
        lines.push(latency(
            &format!("{name:<10}moving"),
            get(&record.moving, metric),
        ));
        lines.push(latency(
            &format!("{:<10}control", ""),
            get(&record.control, metric),
        ));
    }
    lines
}

fn get(histograms: &Histograms, metric: Metric) -> Option<&Histogram> {
    histograms.get(metric.name())
}

fn latency(name: &str, histogram: Option<&Histogram>) -> String {
    let Some(histogram) = histogram else {
        return row(name, "-", ["-"; 6]);
    };
    let show = |value: Option<u64>| value.map_or_else(|| "-".to_owned(), human::time);
    let [p50, p90, p99, p99_9, p99_99] = PERCENTILES.map(|parts| show(histogram.percentile(parts)));
    let max = show(histogram.max());
    let count = human::short_count(histogram.count());
    row(name, &count, [p50, p90, p99, p99_9, p99_99, max])
}

/// The calls that took the address-space lock for writing, where the backend makes such: faults wait for them, of all
/// vCPUs.
fn locked_line(record: &RunRecord) -> Option<String> {
    let calls = record.moving.get(LOCKED)?;
    let show = |value: Option<u64>| value.map_or_else(|| "-".to_owned(), human::time);
    let share = calls.sum() as f64 / record.migration.moving_ns.max(1) as f64;
    let text = format!(
        "{} calls for the address-space lock, p50 {}, p99 {}, max {}, {} of the time",
        human::count(calls.count()),
        show(calls.percentile(5_000)),
        show(calls.percentile(9_900)),
        show(calls.max()),
        human::share(share),
    );
    Some(labelled("locked", &text))
}

fn stalled_line(record: &RunRecord) -> String {
    let share = |share: Option<f64>| share.map_or_else(|| "-".to_owned(), human::share);
    let per_page = record
        .stalled_ns_per_page()
        .map_or_else(|| "-".to_owned(), |ns| human::time(ns.round() as u64));
    labelled(
        "stalled",
        &format!(
            "{per_page} per page moved, {} of vCPU time (control {})",
            share(record.moving_stall_share()),
            share(record.control_stall_share()),
        ),
    )
}

/// Who stole that time: what nobody knows first, and beside it what windows would have explained by chance.
fn cause_lines(record: &RunRecord) -> Vec<String> {
    let Some(attribution) = &record.attribution else {
        return Vec::new();
    };
    let moving = &attribution.moving;
    let percent = |share: f64| format!("{:.1}", share * 100.0);
    let of = |ns: u64| percent(ns as f64 / moving.stalled_ns.max(1) as f64);
    let unexplained = Cause::Unexplained.name();
    let unknown = moving.causes.get(unexplained).copied().unwrap_or(0);
    let placebo = moving.placebo.as_ref();
    let placebo = placebo.map_or_else(|| "-".to_owned(), |placebo| percent(placebo.share));
    let first = format!("{} {unexplained} (placebo {placebo})", of(unknown));
    let mut others = moving.causes.clone();
    others.remove(unexplained);
    let mut lines = Vec::new();
    if moving.stalls > 0 {
        lines.push(listed("causes, %", first, &others, moving.stalled_ns));
    }
    // A run that ended early has other things to say on its screen.
    if let Some(tail) = &moving.tail
        && record.outcome.ending == Ending::Done
    {
        let first = format!(
            "from {}, {} stalls",
            human::time(tail.from_ns),
            human::short_count(tail.stalls)
        );
        lines.push(listed("p99.9, %", first, &tail.causes, tail.stalled_ns));
    }
    lines
}

/// `first`, and behind it shares of `whole_ns`, the greatest first, as many as there is room for.
fn listed(label: &str, first: String, causes: &Causes, whole_ns: u64) -> String {
    let mut causes: Vec<_> = causes.iter().filter(|(_, ns)| **ns > 0).collect();
    causes.sort_by_key(|(_, ns)| std::cmp::Reverse(**ns));
    let mut line = labelled(label, &first);
    let mut between = ": ";
    for (name, ns) in causes {
        let share = *ns as f64 * 100.0 / whole_ns.max(1) as f64;
        let more = format!("{between}{share:.1} {name}");
        if line.chars().count() + more.chars().count() > SCREEN {
            break;
        }
        line.push_str(&more);
        between = ", ";
    }
    line
}

/// Counts of stalls, where their causes do not tell more.
fn own_window_line(record: &RunRecord) -> Option<String> {
    if record.attribution.is_some() && record.stalls.dropped == 0 {
        return None;
    }
    Some(labelled(
        "stalls",
        &format!(
            "{} read, {} in a window of their own page, {} dropped",
            human::count(record.stalls.total),
            record
                .stalls
                .own_window
                .map_or_else(|| "-".to_owned(), human::count),
            human::count(record.stalls.dropped),
        ),
    ))
}

fn integrity_line(record: &RunRecord) -> String {
    let verified: Option<u64> = record
        .migration
        .by_kind
        .values()
        .map(|counts| counts.verified)
        .sum();
    let verified = verified.map_or_else(|| "-".to_owned(), human::count);
    let integrity = &record.integrity;
    let verdict = if integrity.errors == 0 {
        "0 errors".to_owned()
    } else {
        format!("{} ERRORS", human::count(integrity.errors))
    };
    labelled(
        "integrity",
        &format!(
            "{} checks, {verified} frames compared, {verdict}",
            human::count(integrity.checked)
        ),
    )
}

/// One screen: the foremost report of the guest's checkers, or the first thing found wrong; more of
/// them are in the results.
fn finding_line(record: &RunRecord) -> Option<String> {
    let guest = &record.guest;
    match guest.foremost() {
        Some(report) => {
            let mut count = human::short_count(guest.reports_made.into());
            let kinds = &guest.reports_by_kind;
            if kinds.len() > 1 {
                let kind = |(name, made): (&&str, &u32)| format!("{made} {name}");
                let kinds: Vec<_> = kinds.iter().map(kind).collect();
                count = format!("{count} ({})", kinds.join(", "));
            }
            Some(labelled("reports", &format!("{count}: {}", line(report))))
        }
        None => {
            let detail = record.integrity.details.first()?;
            Some(labelled("", detail))
        }
    }
}

/// Said only where the watchdog spoke.
/// What became of the pages of which KVM told the guest that they are away.
fn async_line(record: &RunRecord) -> Option<String> {
    let vcpus = &record.waits.page_events;
    vcpus.first()?;
    let sum = |of: fn(&PageEventCounts) -> u64| {
        human::count(vcpus.iter().map(of).fold(0, u64::saturating_add))
    };
    let text = format!(
        "{} pages away: {} slept for, {} back at once, {} halted for",
        sum(|vcpu| vcpu.not_present),
        sum(|vcpu| vcpu.switched),
        sum(|vcpu| vcpu.early),
        sum(|vcpu| vcpu.halted.saturating_add(vcpu.masked)),
    );
    Some(labelled("async", &text))
}

fn watchdog_line(record: &RunRecord) -> Option<String> {
    let found = record.watchdog.as_ref()?;
    let first = found.verdicts.first()?;
    let text = format!(
        "{} deadlocks, {} broken, {} stalls: {first}",
        human::short_count(found.cycles),
        human::short_count(found.broken),
        human::short_count(found.stalls),
    );
    Some(labelled("watchdog", &text))
}

/// Why a measure shows as `-`: on a screen some of every reason, however many there are.
fn absent_line(record: &RunRecord, width: Option<usize>) -> Option<String> {
    let unsupported = record.host.unsupported.iter();
    let unsupported = unsupported.map(|(name, reason)| (name.as_str(), reason.as_str()));
    let refused = record.migration.refused.iter();
    let refused = refused.map(|(kind, reason)| (Named::name(*kind), *reason));
    let all: Vec<_> = refused.chain(unsupported).collect();
    let room = width.map_or(usize::MAX, |width| width.saturating_sub(LABEL) + 2);
    let each = room.checked_div(all.len())?;
    let reasons: Vec<String> = all
        .iter()
        .map(|(name, reason)| cut(&format!("{name}: {reason}"), each.saturating_sub(2)))
        .collect();
    Some(labelled("absent -", &reasons.join("; ")))
}

#[cfg(test)]
mod tests;
