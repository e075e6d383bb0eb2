//! What came of a walk, on one screen.

use super::cell::Cell;
use super::command::shortcoming;
use super::tally::{Sums, Tally};
use super::visit::Common;
use super::walk::{Ended, Walked};
use crate::human;
use crate::names::{Named, Variant};
use std::fmt::Write;
use underfoot_migrator::{Combination, WaitKind};

/// The text, the verdict in its last line.
#[must_use]
pub fn text(common: &Common, walked: &Walked) -> String {
    let tally = &walked.tally;
    let mut lines = Vec::new();
    lines.extend(tally.place.as_ref().map(|place| place.kind.clone()));
    lines.push(setup(common, walked));
    lines.extend(variant_line(common.variant));
    lines.extend(table(tally));
    lines.extend(totals(&tally.total));
    if let Ended::Failed(failure) = &walked.ended {
        lines.push(format!("again     {}", failure.command));
        let results = failure.results.as_ref();
        lines.extend(results.map(|place| format!("results   {}", place.display())));
    }
    lines.push(verdict(common.variant, walked));
    lines.into_iter().map(|line| line + "\n").collect()
}

fn setup(common: &Common, walked: &Walked) -> String {
    format!(
        "torture, seed {}, {} vCPUs, {}, {} visits of {} cells in {:.0} s",
        common.seed,
        common.cpus,
        common.memory,
        walked.tally.total.visits,
        walked.tally.cells.len(),
        walked.took.as_secs_f64(),
    )
}

fn variant_line(variant: Variant) -> Option<String> {
    let name = variant.name();
    (variant != Variant::None).then(|| format!("variant   {name}, WRONG ON PURPOSE"))
}

/// A line for all wait policies of one way to move pages of one kind of memory.
fn table(tally: &Tally) -> Vec<String> {
    let mut heading = format!("{:<33}", "pages moved");
    for wait in WaitKind::ALL {
        let _ = write!(heading, "{:>8}", wait.name());
    }
    let mut lines = vec![heading];
    let mut rows: Vec<&Cell> = Vec::new();
    for (cell, _) in &tally.cells {
        if !rows.iter().any(|row| is_row(row, cell)) {
            rows.push(cell);
        }
    }
    lines.extend(rows.into_iter().map(|row| line(tally, row)));
    lines
}

/// Whether two cells differ by no more than the wait policy.
fn is_row(one: &Cell, other: &Cell) -> bool {
    let way = Combination {
        wait: one.way.wait,
        ..other.way
    };
    (way, other.backing) == (one.way, one.backing)
}

/// The pages moved; `-` for a wait policy that does not go with it.
fn line(tally: &Tally, row: &Cell) -> String {
    let way = row.way;
    let mut line = format!(
        "{:<14}{:<8}{:<5}{:<6}",
        way.strategy.name(),
        way.backend.name(),
        way.page_size.name(),
        row.backing.name()
    );
    for wait in WaitKind::ALL {
        let mut cells = tally.cells.iter();
        let cell = cells.find(|(cell, _)| cell.way.wait == wait && is_row(row, cell));
        let hits = cell.map(|(_, sums)| human::tiny_count(sums.migration.committed));
        let _ = write!(line, "{:>8}", hits.as_deref().unwrap_or("-"));
    }
    line
}

fn totals(total: &Sums) -> [String; 2] {
    let Sums {
        migration, torment, ..
    } = total;
    [
        format!(
            "pages     {} attempted, {} aborted, {} skipped, {} retried",
            human::short_count(migration.attempted),
            human::short_count(migration.aborted),
            human::short_count(migration.skipped),
            human::short_count(migration.retried),
        ),
        format!(
            "torment   {} aborts, {} pauses of movers, {} holds of vCPUs",
            human::short_count(torment.aborts),
            human::short_count(torment.pauses),
            human::short_count(torment.holds),
        ),
    ]
}

fn verdict(variant: Variant, walked: &Walked) -> String {
    let tally = &walked.tally;
    let sums = format!(
        "{} pages moved, {} checks, {} errors",
        human::count(tally.total.migration.committed),
        human::short_count(tally.integrity.checked),
        human::count(tally.integrity.errors),
    );
    let word = match &walked.ended {
        Ended::Failed(failure) => {
            let said = failure.message.lines().next().unwrap_or_default();
            format!("FAILED    visit {}: {said}; ", failure.visit)
        }
        Ended::Interrupted { signal } => {
            let without = tally.without_hits().count();
            format!("INCOMPLETE, ended by signal {signal}, {without} cells without hits: ")
        }
        Ended::Done => match shortcoming(walked, variant) {
            Some(what) => format!("FAILED    {what}; "),
            None => "sound     ".to_owned(),
        },
    };
    let done = matches!(walked.ended, Ended::Done);
    let hits = done && tally.without_hits().next().is_none();
    let hits = if hits { ", no cell without hits" } else { "" };
    format!("{word}{sums}{hits}")
}
