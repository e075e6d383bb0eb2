//! Q5e: mapping and unmapping under access while the page tables themselves migrate.

use super::fragments;
use crate::claims::plan::{Flags, Plan, PlannedRun, Verdict};
use crate::claims::runs::{Measured, Missing, Runs};
use crate::human;
use crate::settings::Key;
use underfoot_abi::PageKind;
use underfoot_abi::RecordedPhase::Moving;

const COMMON: Flags = &[
    (Key::Workload, "mmap1"),
    (Key::Target, "page-table"),
    (Key::Cpus, "2"),
    (Key::Duration, "4s"),
];

const RUNS: &[PlannedRun] = &[
    PlannedRun::control("none", &[(Key::Strategy, "none")]),
    PlannedRun::good("halt", &[(Key::Wait, "halt")]),
    PlannedRun::good("spin", &[(Key::Wait, "spin")]),
    PlannedRun::busted(
        "busted-no-unmap",
        &[(Key::Variant, "busted-no-unmap")],
        fragments::CAUGHT,
        3,
    ),
    PlannedRun::busted(
        "busted-no-pending-check",
        &[(Key::Variant, "busted-no-pending-check")],
        fragments::CAUGHT,
        1,
    ),
];

/// Changes of mappings that must have gone well.
const LEAST_CHANGES: u64 = 1_000;
/// Moves of pages of tables meanwhile.
const LEAST_MOVES: u64 = 10_000;

/// The experiment.
pub const PLAN: Plan = Plan {
    id: "Q5e",
    criterion: "yes if no check failed while a region was mapped and unmapped at least 1,000 times \
                and pages of tables were moved at least 10,000 times, with vCPUs that halt and that \
                spin; inconclusive below that",
    common: COMMON,
    runs: RUNS,
    judge,
};

fn judge(runs: &Runs, measured: &mut Measured) -> Result<Verdict, Missing> {
    let (mut least_changes, mut least_moves) = (u64::MAX, u64::MAX);
    for run in ["halt", "spin"] {
        if let Some(verdict) = fragments::told_otherwise(runs, run)? {
            return Ok(verdict);
        }
        let changes = runs.counter(run, Moving, "changes")?;
        let moved = &runs.sound(run)?.migration.by_kind;
        let moves = moved
            .get(&PageKind::PageTable)
            .map_or(0, |kind| kind.counts.committed);
        let rate = runs.operations_per_s(run, Moving)?;
        measured.set(format!("{run}.changes"), changes);
        measured.set(format!("{run}.table_pages_moved"), moves);
        measured.set(format!("{run}.operations_per_s"), rate);
        least_changes = least_changes.min(changes);
        least_moves = least_moves.min(moves);
    }
    let reason = format!(
        "at least {} changes of mappings under access beside {} moves of pages of tables in each \
         run, and nothing was found wrong",
        human::count(least_changes),
        human::count(least_moves),
    );
    if least_changes < LEAST_CHANGES || least_moves < LEAST_MOVES {
        return Ok(Verdict::inconclusive(reason));
    }
    Ok(Verdict::yes_if(true, reason))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::claims::plan::Answer;
    use crate::claims::runs::test_runs;

    #[test]
    fn many_changes_and_moves_must_go_well() {
        for (changes, moves, wrong, answer) in [
            (1_000, 10_000, "", Answer::Yes),
            (999, 10_000, "", Answer::Inconclusive),
            (1_000, 9_999, "", Answer::Inconclusive),
            (1_000, 10_000, "spin", Answer::No),
        ] {
            let runs = test_runs(RUNS, |run, record| {
                record.guest.moving.insert("changes", changes);
                let by_kind = &mut record.migration.by_kind;
                let tables = by_kind.get_mut(&PageKind::PageTable);
                tables.expect("all kinds").counts.committed = moves;
                if run == wrong {
                    fragments::test_finding(record);
                }
            });
            let verdict = judge(&runs, &mut Measured::default());
            assert_eq!(verdict.expect("all is there").answer, answer);
        }
    }
}
