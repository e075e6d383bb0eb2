//! Q1a: deadlock. A reader waits for a page in its window; a window that waits for readers closes a cycle.

use crate::claims::plan::{Answer, Checker, Flags, Plan, PlannedRun, Verdict};
use crate::claims::runs::{Measured, Missing, Runs};
use crate::human;
use crate::record::{CYCLE_BROKEN, CYCLE_FOUND, Ending, RunRecord, WatchdogRecord};
use crate::settings::Key;

/// Slab pages: those that readers touch in their sections.
const COMMON: Flags = &[
    (Key::Cpus, "2"),
    (Key::Target, "slab"),
    (Key::Duration, "4s"),
    (Key::Control, "10%"),
];

const WAITS: (Key, &str) = (Key::Variant, "busted-window-waits-grace-period");
const WAITS_FRAMES: (Key, &str) = (Key::Variant, "busted-window-waits-frames");
/// So few that a mover has them all out within a grace period.
const FRAMES: (Key, &str) = (Key::Frames, "128");
const AFTER_GRACE: (Key, &str) = (Key::FramesAfter, "grace");
const DEADLOCK: &[Checker] = &[Checker::Deadlock];

const RUNS: &[PlannedRun] = &[
    PlannedRun::control("none", &[(Key::Strategy, "none")]),
    PlannedRun::good("halt", &[(Key::Wait, "halt")]),
    PlannedRun::good("block", &[(Key::Wait, "block")]),
    PlannedRun::good("spin", &[(Key::Wait, "spin")]),
    PlannedRun::good("guest-mover", &[(Key::Mover, "guest")]),
    PlannedRun::good(FRAMES_GRACE, &[FRAMES, AFTER_GRACE]),
    PlannedRun::busted("waits-halt", &[(Key::Wait, "halt"), WAITS], DEADLOCK, 3),
    PlannedRun::busted("waits-block", &[(Key::Wait, "block"), WAITS], DEADLOCK, 3),
    PlannedRun::busted("waits-spin", &[(Key::Wait, "spin"), WAITS], DEADLOCK, 3),
    PlannedRun::busted(
        "waits-frames",
        &[(Key::Wait, "block"), FRAMES, AFTER_GRACE, WAITS_FRAMES],
        DEADLOCK,
        3,
    ),
];

/// What never waits for readers in a window.
const NEVER: [&str; 5] = ["halt", "block", "spin", "guest-mover", FRAMES_GRACE];
/// Old frames go back once a grace period of the guest has passed: readers hold frames up, and no window waits for one.
const FRAMES_GRACE: &str = "frames-grace";
const WAITING: [&str; 4] = ["waits-halt", "waits-block", "waits-spin", "waits-frames"];
/// Where what a vCPU waits for is known with gaps: the page of the experiment says why.
const SPINS: &str = "waits-spin";
/// Cycles, of each waiting run, of which one can speak.
const LEAST_CYCLES: u64 = 10;
/// The bar: from the closing of a cycle to its detection.
const MOST_FOUND_NS: u64 = 10_000_000;

/// The experiment.
pub const PLAN: Plan = Plan {
    id: "Q1a",
    criterion: "yes if no path that never waits for readers in a window has a cycle, and every cycle of the \
                path that does is found within 10 ms of its closing and broken, none is left to the time-out but under \
                spin, and its guest goes on without an error; inconclusive below 10 cycles in any of its runs, or if no \
                mover found frames held back until a grace period",
    common: COMMON,
    runs: RUNS,
    judge,
};

fn judge(runs: &Runs, measured: &mut Measured) -> Result<Verdict, Missing> {
    for name in NEVER {
        let record = runs.sound(name)?;
        let found = watchdog(record, name)?;
        measured.set(format!("{name}.cycles"), found.cycles);
        measured.set(format!("{name}.stalls"), found.stalls);
        let pages = record.migration.counts.committed;
        measured.set(format!("{name}.pages"), pages);
        if pages == 0 {
            return Ok(Verdict::inconclusive(format!("{name} moved nothing")));
        }
    }
    let held_back = held_back(runs.sound(FRAMES_GRACE)?)?;
    measured.set(format!("{FRAMES_GRACE}.held_back"), held_back);
    if held_back == 0 {
        let reason = format!("no mover of {FRAMES_GRACE} ever found frames held back by readers");
        return Ok(Verdict::inconclusive(reason));
    }
    let mut all = (0, 0);
    let mut wrong = None;
    let mut few = None;
    for name in WAITING {
        let record = runs.record(name)?;
        let found = watchdog(record, name)?;
        note(name, record, found, measured)?;
        let latest = latest(record, name)?;
        all = (all.0 + found.cycles, all.1.max(latest));
        if found.cycles < LEAST_CYCLES {
            few.get_or_insert(format!("{name} had only {} cycles", found.cycles));
        }
        let strict = name != SPINS;
        if let Some(what) = complaint(record, found, latest, strict) {
            wrong.get_or_insert(format!("{name}: {what}"));
        }
    }
    Ok(match (wrong, few) {
        (Some(wrong), _) => Verdict::new(Answer::No, wrong),
        (None, Some(few)) => Verdict::inconclusive(few),
        (None, None) => Verdict::new(
            Answer::Yes,
            format!(
                "{} cycles where a window waits for readers, found within {} and broken; none where none does",
                human::count(all.0),
                human::time(all.1),
            ),
        ),
    })
}

fn watchdog<'a>(record: &'a RunRecord, name: &str) -> Result<&'a WatchdogRecord, Missing> {
    let found = record.watchdog.as_ref();
    found.ok_or_else(|| Missing(format!("run {name} had no watchdog")))
}

fn note(
    name: &str,
    record: &RunRecord,
    found: &WatchdogRecord,
    measured: &mut Measured,
) -> Result<(), Missing> {
    measured.set(format!("{name}.cycles"), found.cycles);
    measured.set(format!("{name}.broken"), found.broken);
    measured.set(format!("{name}.stalls"), found.stalls);
    measured.set(format!("{name}.timed_out"), timed_out(record));
    measured.set(format!("{name}.errors"), record.integrity.errors);
    for metric in [CYCLE_FOUND, CYCLE_BROKEN, "window"] {
        let histogram = record.moving.get(metric);
        let histogram = histogram.ok_or_else(|| Missing(format!("run {name} has no {metric}")))?;
        measured.latencies(format!("{name}.{metric}"), histogram);
    }
    Ok(())
}

/// Times that a mover, outside of its windows, had no frame: all were held back until a grace period.
fn held_back(record: &RunRecord) -> Result<u64, Missing> {
    let mover = record
        .frames
        .as_ref()
        .and_then(|frames| frames.users.get("mover"));
    let mover =
        mover.ok_or_else(|| Missing(format!("run {FRAMES_GRACE} had no pool of frames")))?;
    Ok(mover.short)
}

/// The longest time from a cycle's closing to its detection; 0 without cycles.
fn latest(record: &RunRecord, name: &str) -> Result<u64, Missing> {
    let found = record.moving.get(CYCLE_FOUND);
    let found = found.ok_or_else(|| Missing(format!("run {name} has no {CYCLE_FOUND}")))?;
    Ok(found.max().unwrap_or(0))
}

/// Pages of migrations that no watchdog ended.
fn timed_out(record: &RunRecord) -> u64 {
    let by = &record.migration.aborted_by;
    by.get("no-grace-period").copied().unwrap_or(0)
}

fn complaint(
    record: &RunRecord,
    found: &WatchdogRecord,
    latest: u64,
    strict: bool,
) -> Option<String> {
    if record.outcome.ending != Ending::Done {
        return Some(format!("the run ended as {}", record.outcome.ending.name()));
    }
    if record.integrity.errors > 0 {
        return Some(format!("{} errors", record.integrity.errors));
    }
    if found.broken < found.cycles {
        return Some(format!("{} cycles, {} broken", found.cycles, found.broken));
    }
    if strict && timed_out(record) > 0 {
        return Some(format!(
            "{} windows ended by the time-out",
            timed_out(record)
        ));
    }
    (latest > MOST_FOUND_NS).then(|| format!("a cycle was found {} late", human::time(latest)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::claims::runs::test_runs;
    use crate::histogram::Histogram;
    use crate::record::{FrameUserRecord, FramesRecord};

    /// Of each waiting run.
    #[derive(Clone, Copy)]
    struct Seen {
        cycles: u64,
        broken: u64,
        latest_ns: u64,
        timed_out: u64,
        errors: u64,
        ending: Ending,
    }

    const SOUND: Seen = Seen {
        cycles: 40,
        broken: 40,
        latest_ns: 9_000_000,
        timed_out: 0,
        errors: 0,
        ending: Ending::Done,
    };

    fn runs(seen: Seen, never: u64) -> Runs {
        test_runs(RUNS, |name, record| {
            let waits = WAITING.contains(&name);
            let cycles = if waits { seen.cycles } else { never };
            record.watchdog = Some(WatchdogRecord {
                cycles,
                broken: if waits { seen.broken } else { never },
                members: 3 * cycles,
                stalls: 0,
                verdicts: vec!["deadlock: vCPU 0 waits for vCPU 0".into()],
            });
            if name == FRAMES_GRACE {
                let mover = FrameUserRecord {
                    short: 5,
                    ..FrameUserRecord::default()
                };
                record.frames = Some(FramesRecord {
                    users: [("mover", mover)].into(),
                    ..FramesRecord::default()
                });
            }
            if waits {
                let mut found = Histogram::new();
                (0..seen.cycles).for_each(|_| found.record(seen.latest_ns));
                record.moving.insert(CYCLE_FOUND.into(), found.clone());
                record.moving.insert(CYCLE_BROKEN.into(), found);
                record.migration.aborted_by = [("no-grace-period", seen.timed_out)].into();
                record.integrity.errors = seen.errors;
                record.outcome.ending = seen.ending;
            }
        })
    }

    #[test]
    fn time_outs_count_where_all_waits_are_known() {
        for (timed_out_in, answer) in [(SPINS, Answer::Yes), ("waits-halt", Answer::No)] {
            let mut runs = runs(SOUND, 0);
            for done in &mut runs.0 {
                if done.planned.name == timed_out_in {
                    done.record.migration.aborted_by = [("no-grace-period", 1)].into();
                }
            }
            let verdict = judge(&runs, &mut Measured::default()).expect("all is there");
            assert_eq!(verdict.answer, answer, "{timed_out_in}: {verdict:?}");
        }
    }

    #[test]
    fn frames_that_nobody_held_back_say_nothing() {
        let mut runs = runs(SOUND, 0);
        for done in &mut runs.0 {
            let users = done
                .record
                .frames
                .iter_mut()
                .flat_map(|frames| frames.users.values_mut());
            users.for_each(|user| user.short = 0);
        }
        let verdict = judge(&runs, &mut Measured::default()).expect("all is there");
        assert_eq!(verdict.answer, Answer::Inconclusive, "{verdict:?}");
    }

    #[test]
    fn the_criterion_is_what_it_says() {
        for (seen, answer) in [
            (SOUND, Answer::Yes),
            (
                Seen {
                    cycles: 9,
                    broken: 9,
                    ..SOUND
                },
                Answer::Inconclusive,
            ),
            (
                Seen {
                    broken: 39,
                    ..SOUND
                },
                Answer::No,
            ),
            (
                Seen {
                    latest_ns: 11_000_000,
                    ..SOUND
                },
                Answer::No,
            ),
            (
                Seen {
                    timed_out: 1,
                    ..SOUND
                },
                Answer::No,
            ),
            (Seen { errors: 1, ..SOUND }, Answer::No),
            (
                Seen {
                    ending: Ending::Watchdog,
                    ..SOUND
                },
                Answer::No,
            ),
        ] {
            let mut measured = Measured::default();
            let verdict = judge(&runs(seen, 0), &mut measured).expect("all is there");
            assert_eq!(verdict.answer, answer, "{verdict:?}");
        }
        // A cycle where nobody waits for readers makes that run unsound.
        let missing = judge(&runs(SOUND, 1), &mut Measured::default());
        assert!(missing.is_err_and(|missing| missing.0.contains("deadlock")));
    }
}
