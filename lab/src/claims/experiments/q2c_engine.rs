//! Q2c.engine: a lock for each block of guest memory, beside one lock for all and sequence counts.

use crate::claims::plan::{Checker, Flags, Plan, PlannedRun, Verdict};
use crate::claims::runs::{Measured, Missing, Runs};
use crate::record::PlugRecord;
use crate::settings::Key;
use underfoot_abi::RecordedPhase::Moving;

/// Pages are away until somebody touches them, so that faults are served all the time, by four threads.
const COMMON: Flags = &[
    (Key::Strategy, "lazy"),
    (Key::Backend, "move"),
    (Key::Batch, "64"),
    (Key::Uffds, "4"),
    (Key::Cpus, "2"),
    (Key::Duration, "1500ms"),
    (Key::Control, "10%"),
    (Key::Warmup, "200ms"),
    (Key::Replug, "2000"),
];

const TABLE: (Key, &str) = (Key::FaultLock, "table-lock");
const SEQUENCE: (Key, &str) = (Key::FaultLock, "sequence");
const ONE: (Key, &str) = (Key::Cpus, "1");
const FOUR: (Key, &str) = (Key::Cpus, "4");

/// By turns, so that a host that becomes busy does not meet one way only.
const RUNS: &[PlannedRun] = &[
    // Blocks come and go, and nothing moves.
    PlannedRun::control("none", &[(Key::Strategy, "none")]),
    // Pages move, and hardly a block comes or goes.
    PlannedRun::control("still", &[(Key::Replug, "1")]),
    PlannedRun::good("region-lock-1", &[ONE]),
    PlannedRun::good("table-lock-1", &[TABLE, ONE]),
    PlannedRun::good("sequence-1", &[SEQUENCE, ONE]),
    PlannedRun::good("region-lock-2a", &[]),
    PlannedRun::good("table-lock-2a", &[TABLE]),
    PlannedRun::good("sequence-2a", &[SEQUENCE]),
    PlannedRun::good("region-lock-2b", &[]),
    PlannedRun::good("table-lock-2b", &[TABLE]),
    PlannedRun::good("sequence-2b", &[SEQUENCE]),
    PlannedRun::good("region-lock-2c", &[]),
    PlannedRun::good("table-lock-2c", &[TABLE]),
    PlannedRun::good("sequence-2c", &[SEQUENCE]),
    PlannedRun::good("region-lock-4", &[FOUR]),
    PlannedRun::good("table-lock-4", &[TABLE, FOUR]),
    PlannedRun::good("sequence-4", &[SEQUENCE, FOUR]),
    PlannedRun::busted(
        "busted-window-unlocked",
        &[(Key::Variant, "busted-window-unlocked")],
        &[Checker::Integrity("when their block was to be unplugged")],
        3,
    ),
];

/// The runs that are held against each other, of each way, and those beside them.
const TURNS: [&str; 3] = ["2a", "2b", "2c"];
const CURVE: [&str; 2] = ["1", "4"];
/// Faults and changes of a run, below which it says nothing.
const LEAST: u64 = 200;

/// The experiment.
pub const PLAN: Plan = Plan {
    id: "Q2c.engine",
    criterion: "yes if, while blocks are unplugged and plugged and two vCPUs touch pages that are away, in each of \
                three runs fewer of 10,000 faults are delayed (wait for a lock, or are tried again) with the blocks' \
                locks than with the table's in any of three, and no more in each than with sequence counts in one of \
                three; no if as many or more than with the table's in each; inconclusive if these runs overlap, or \
                one had fewer than 200 faults or changes",
    common: COMMON,
    runs: RUNS,
    judge,
};

/// Faults of 10,000 that did not get on at once.
fn delayed(plug: &PlugRecord) -> f64 {
    let delayed = plug.fell_back + plug.retried + plug.left;
    // What is tried again was let in at first.
    let all = plug.fast + plug.fell_back + plug.left;
    10_000.0 * delayed as f64 / all.max(1) as f64
}

/// What a run saw of its faults: how many were delayed of 10,000, and the fewer of faults and changes.
fn look(runs: &Runs, name: &str, measured: &mut Measured) -> Result<(f64, u64), Missing> {
    let missing = || Missing(format!("run {name} plugged nothing"));
    let plug = runs.sound(name)?.plug.as_ref().ok_or_else(missing)?;
    let faults = runs.histogram(name, Moving, "fault")?;
    measured.set(format!("{name}.faults"), faults.count());
    measured.set(format!("{name}.changes"), plug.unplugged);
    measured.set(format!("{name}.delayed_of_10000"), delayed(plug));
    measured.latencies(format!("{name}.fault"), faults);
    let all = plug.fast + plug.fell_back + plug.left;
    Ok((delayed(plug), all.min(plug.unplugged)))
}

fn judge(runs: &Runs, measured: &mut Measured) -> Result<Verdict, Missing> {
    let mut fewest = u64::MAX;
    let mut sorted = Vec::new();
    for way in ["region-lock", "table-lock", "sequence"] {
        for threads in CURVE {
            look(runs, &format!("{way}-{threads}"), measured)?;
        }
        let mut found = [0.0; 3];
        for (found, turn) in found.iter_mut().zip(TURNS) {
            let (delayed, seen) = look(runs, &format!("{way}-{turn}"), measured)?;
            *found = delayed;
            fewest = fewest.min(seen);
        }
        found.sort_by(f64::total_cmp);
        sorted.push(found);
    }
    let (region, table, sequence) = (sorted[0], sorted[1], sorted[2]);
    let reason = format!(
        "of 10,000 faults {:.1} were delayed with the blocks' locks, {:.1} with the table's, {:.1} with sequence \
         counts (middle runs)",
        region[1], table[1], sequence[1]
    );
    Ok(if fewest < LEAST {
        Verdict::inconclusive(format!("a run had {fewest} faults or changes: {reason}"))
    } else if region[0] >= table[2] {
        Verdict::yes_if(false, reason)
    } else if region[2] < table[0] && region[2] <= sequence[2] {
        Verdict::yes_if(true, reason)
    } else {
        Verdict::inconclusive(format!("the runs overlap: {reason}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::claims::plan::Answer;
    use crate::claims::runs::test_runs;
    use crate::histogram::Histogram;

    #[test]
    fn faults_that_wait_decide() {
        let (yes, no, open) = (Answer::Yes, Answer::No, Answer::Inconclusive);
        // Faults of a run, changes, and those that were delayed: by block, by table, by sequence.
        for (faults, changes, [region, table, sequence], answer) in [
            (1000, 1000, [[0, 0, 1], [2, 3, 9], [0, 1, 0]], yes),
            (1000, 1000, [[0, 0, 2], [2, 3, 9], [0, 2, 0]], open),
            (1000, 1000, [[0, 0, 1], [2, 3, 9], [0, 0, 0]], open),
            (1000, 1000, [[3, 4, 9], [3, 0, 1], [0, 0, 0]], no),
            (199, 1000, [[0, 0, 0], [2, 3, 9], [0, 0, 0]], open),
            (1000, 199, [[0, 0, 0], [2, 3, 9], [0, 0, 0]], open),
        ] {
            let runs = test_runs(RUNS, |name, record| {
                let turn = TURNS.iter().position(|turn| name.ends_with(turn));
                let nth = turn.unwrap_or(0);
                let (fell_back, left) = match name {
                    _ if name.starts_with("table") => (table[nth], 0),
                    _ if name.starts_with("sequence") => (0, sequence[nth]),
                    _ => (region[nth], 0),
                };
                record.plug = Some(PlugRecord {
                    unplugged: changes,
                    fast: faults - fell_back - left,
                    fell_back,
                    left,
                    ..PlugRecord::default()
                });
                let mut histogram = Histogram::new();
                histogram.record(1_000);
                record.moving.insert("fault".into(), histogram);
            });
            let verdict = judge(&runs, &mut Measured::default()).expect("all is there");
            assert_eq!(verdict.answer, answer, "{}", verdict.reason);
        }
    }

    #[test]
    fn a_fault_counts_once() {
        let plug = PlugRecord {
            fast: 90,
            fell_back: 5,
            left: 5,
            retried: 10,
            gone: 5,
            ..PlugRecord::default()
        };
        assert!((delayed(&plug) - 2000.0).abs() < 1e-9);
    }
}
