//! Shards put together: the runs of all of them in one place.

use super::SweepError;
use super::directory::{PLAN_JSON, PlanJson, is_empty, make, write_json};
use crate::error::Error;
use crate::rundir::{RUN_JSON, RUNS};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Puts the runs of the sweeps in `from` into `out` as well, which is made, or holds the same sweep. A run that is there
/// already must be the same one. Returns how many runs were brought.
///
/// # Errors
/// [`Error::Sweep`] if they are not of one sweep; then `out` has no run that it had not before.
pub(super) fn merge(from: &[PathBuf], out: &Path) -> Result<usize, Error> {
    let mut plans = Vec::new();
    for place in from {
        let plan = if place.is_dir() {
            PlanJson::read(place)?
        } else {
            None
        };
        plans.push(plan.ok_or_else(|| SweepError::NothingToMerge {
            path: place.clone(),
        })?);
    }
    let Some(first) = plans.first() else {
        return Ok(0);
    };
    for (plan, place) in plans.iter().zip(from) {
        first.check_same(place, plan)?;
    }
    let found = if out.is_dir() {
        PlanJson::read(out)?
    } else {
        None
    };
    match found {
        Some(plan) => first.check_same(out, &plan)?,
        None if out.is_dir() && !is_empty(out)? => {
            return Err(SweepError::NoSweep {
                path: out.to_owned(),
            }
            .into());
        }
        None => {}
    }
    let new = wanted(from, out)?;
    make(out)?;
    write_json(&out.join(PLAN_JSON), first)?;
    make(&out.join(RUNS))?;
    for (place, run) in &new {
        copy(run, place)?;
    }
    Ok(new.len())
}

/// By place, the runs that are to be brought.
fn wanted(from: &[PathBuf], out: &Path) -> Result<BTreeMap<PathBuf, PathBuf>, Error> {
    let mut wanted = BTreeMap::new();
    for shard in from {
        let runs = shard.join(RUNS);
        let failed = |source| SweepError::Io {
            path: runs.clone(),
            source,
        };
        for entry in fs::read_dir(&runs).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let (run, place) = (entry.path(), out.join(RUNS).join(entry.file_name()));
            // What another process is writing, or left.
            if !run.join(RUN_JSON).is_file() || entry.file_name().to_string_lossy().starts_with('.')
            {
                continue;
            }
            let there = wanted.get(&place).cloned();
            match there.or_else(|| place.symlink_metadata().is_ok().then(|| place.clone())) {
                None => drop(wanted.insert(place, run)),
                Some(there) => check_same_run(&there, &run)?,
            }
        }
    }
    Ok(wanted)
}

fn check_same_run(first: &Path, second: &Path) -> Result<(), SweepError> {
    let text = |run: &Path| {
        let path = run.join(RUN_JSON);
        fs::read(&path).map_err(|source| SweepError::Io { path, source })
    };
    if text(first)? == text(second)? {
        return Ok(());
    }
    Err(SweepError::Collision {
        first: first.to_owned(),
        second: second.to_owned(),
    })
}

/// Copies the directory `run` to `place`, there as a whole or not at all.
fn copy(run: &Path, place: &Path) -> Result<(), SweepError> {
    let failed = |source| SweepError::Io {
        path: place.to_owned(),
        source,
    };
    let parent = place.parent().unwrap_or(Path::new("."));
    let temporary = tempfile::Builder::new()
        .prefix(crate::leftovers::PREFIX)
        .rand_bytes(crate::leftovers::RANDOM)
        .tempdir_in(parent)
        .map_err(failed)?;
    for entry in fs::read_dir(run).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if entry.path().is_file() {
            fs::copy(entry.path(), temporary.path().join(entry.file_name())).map_err(failed)?;
        }
    }
    let mode = fs::metadata(run).map_err(failed)?.permissions();
    fs::set_permissions(temporary.path(), mode).map_err(failed)?;
    fs::rename(temporary.path(), place).map_err(failed)?;
    // From here on it is no temporary directory any more.
    let _ = temporary.keep();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::SweepResults;
    use super::super::pooled::tests::written;
    use super::*;
    use crate::error::chain;

    #[test]
    fn shards_put_together_are_the_whole() {
        let base = tempfile::tempdir().expect("a directory");
        let dir = |name: &str| {
            let path = base.path().join(name);
            fs::create_dir(&path).expect("room");
            path
        };
        let whole = written(&dir("whole"), |_| true, |_, _| ());
        let parts: Vec<_> = (0..3u32)
            .map(|part| {
                let mine = move |run: super::super::PlannedRun| {
                    (run.cell as u32 + run.repetition) % 3 == part
                };
                written(&dir(&format!("part{part}")), mine, |_, _| ())
            })
            .collect();
        let out = base.path().join("all");
        let brought = merge(&parts[..2], &out).expect("two of three") as u32;
        let some = SweepResults::read(&out).expect("results").counts();
        assert_eq!(some, (brought, 0, 8 - brought));
        assert!(0 < brought && brought < 8);
        merge(&parts, &out).expect("all, the first two again");
        let (whole, out) = (
            SweepResults::read(&whole).expect("one"),
            SweepResults::read(&out).expect("the other"),
        );
        assert_eq!(out.counts(), (8, 0, 0));
        for (one, other) in whole.cells.iter().zip(&out.cells) {
            assert_eq!((&one.moving, &one.control), (&other.moving, &other.control));
        }
    }

    #[test]
    fn what_does_not_belong_together_is_refused() {
        let base = tempfile::tempdir().expect("a directory");
        let dir = |name: &str| {
            let path = base.path().join(name);
            fs::create_dir(&path).expect("room");
            path
        };
        let first = written(&dir("first"), |_| true, |_, _| ());
        let second = written(
            &dir("second"),
            |_| true,
            |_, record| record.migration.moving_ns += 1,
        );
        let out = base.path().join("out");
        let message = chain(&merge(&[first.clone(), second], &out).expect_err("other results"));
        assert!(
            message.contains("same run with different results"),
            "{message}"
        );
        assert!(!out.exists());
        let strange = dir("strange");
        let message = chain(&merge(&[first.clone(), strange.clone()], &out).expect_err("no sweep"));
        assert!(message.contains("no sweep lies there"), "{message}");
        fs::write(strange.join("thesis.txt"), "mine").expect("room");
        let message = chain(&merge(&[first], &strange).expect_err("something else"));
        assert!(
            message.contains("holds no sweep") && !strange.join(PLAN_JSON).exists(),
            "{message}"
        );
    }
}
