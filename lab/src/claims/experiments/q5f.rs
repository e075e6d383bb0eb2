//! Q5f: what memory page tables take that have a page each.

use super::fragments;
use crate::claims::plan::{Flags, Plan, PlannedRun, Verdict};
use crate::claims::runs::{Measured, Missing, Runs};
use crate::settings::Key;
use underfoot_abi::RecordedPhase::Moving;

const COMMON: Flags = &[
    (Key::Workload, "exit"),
    (Key::Cpus, "2"),
    (Key::Duration, "3s"),
];

const RUNS: &[PlannedRun] = &[
    PlannedRun::control("none", &[(Key::Strategy, "none")]),
    PlannedRun::good("exit-fragments", &[(Key::Parameters, "tables=fragments")]),
    PlannedRun::good("exit-whole", &[(Key::Parameters, "tables=whole")]),
    PlannedRun::good(
        "mmap1-fragments",
        &[
            (Key::Workload, "mmap1"),
            (Key::Parameters, "tables=fragments"),
        ],
    ),
    PlannedRun::good(
        "mmap1-whole",
        &[(Key::Workload, "mmap1"), (Key::Parameters, "tables=whole")],
    ),
    PlannedRun::busted(
        "busted-no-pending-check",
        &[
            (Key::Workload, "mmap1"),
            (Key::Variant, "busted-no-pending-check"),
        ],
        fragments::CAUGHT,
        1,
    ),
];

/// So many times the waste, or it is the same.
const LEAST_RATIO: f64 = 1.1;

/// The experiment.
pub const PLAN: Plan = Plan {
    id: "Q5f",
    criterion: "yes, memory is wasted, if for each table held, allocated or pending, tables of a page \
                each waste more than 1.1 times the bytes that fragments waste, in exit and in mmap1; \
                no if in neither; inconclusive otherwise",
    common: COMMON,
    runs: RUNS,
    judge,
};

fn judge(runs: &Runs, measured: &mut Measured) -> Result<Verdict, Missing> {
    let mut more = [false; 2];
    let mut said = [const { String::new() }; 2];
    for (index, workload) in ["exit", "mmap1"].into_iter().enumerate() {
        let fragments = wasted_by_table(runs, &format!("{workload}-fragments"), measured)?;
        let whole = wasted_by_table(runs, &format!("{workload}-whole"), measured)?;
        more[index] = whole > LEAST_RATIO * fragments;
        said[index] = format!("{workload} {fragments:.0} with fragments, {whole:.0} without");
    }
    let reason = format!("bytes wasted for each table held: {}; {}", said[0], said[1]);
    if more[0] != more[1] {
        return Ok(Verdict::inconclusive(reason));
    }
    Ok(Verdict::yes_if(more[0], reason))
}

/// Bytes wasted for each table that `run` held, on average. By table, since how many are pending
/// depends on how fast the run went.
fn wasted_by_table(runs: &Runs, run: &str, measured: &mut Measured) -> Result<f64, Missing> {
    let mean = |counter| fragments::mean(runs, run, Moving, counter);
    let (pages, wasted) = (mean("table-pages")?, mean("wasted-bytes")?);
    let (tables, pending) = (mean("tables")?, mean("pending-tables")?);
    measured.set(format!("{run}.mean_pages"), pages);
    measured.set(format!("{run}.mean_tables"), tables);
    measured.set(format!("{run}.mean_pending_tables"), pending);
    measured.set(format!("{run}.mean_wasted_bytes"), wasted);
    if tables + pending == 0.0 {
        return Err(Missing(format!("run {run} held no tables")));
    }
    let each = wasted / (tables + pending);
    measured.set(format!("{run}.wasted_bytes_by_table"), each);
    Ok(each)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::claims::plan::Answer;
    use crate::claims::runs::test_runs;

    #[test]
    fn whole_pages_must_waste_more_in_both_workloads() {
        for (exit, mmap1, answer) in [
            (2_048, 2_048, Answer::Yes),
            (1_100, 1_000, Answer::No),
            (2_048, 1_100, Answer::Inconclusive),
            (1_000, 2_048, Answer::Inconclusive),
        ] {
            let runs = test_runs(RUNS, |run, record| {
                let wasted = match run {
                    "exit-whole" => exit,
                    "mmap1-whole" => mmap1,
                    _ => 1_000,
                };
                for (counter, value) in [
                    ("table-samples", 10),
                    ("table-pages", 50),
                    ("tables", 20),
                    ("pending-tables", 80),
                    ("wasted-bytes", 100 * wasted),
                ] {
                    record.guest.moving.insert(counter, value);
                }
            });
            let verdict = judge(&runs, &mut Measured::default());
            assert_eq!(verdict.expect("all is there").answer, answer);
        }
    }
}
