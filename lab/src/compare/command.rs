//! `underfoot compare`: what it was asked for, and what is told.

use super::comparable::{Difference, Differences, check_vary};
use super::format::{Format, markdown, text, to_json};
use super::verdict::{Judged, Phase, conclude, count_tests, judge};
use crate::error::Error;
use crate::exit::ExitStatus;
use crate::json_target::JsonTarget;
use crate::output::print;
use crate::rundir::StoredRun;
use crate::units::{Growth, Seed, ValueError};
use fastrand::Rng;
use std::path::{Path, PathBuf};

/// Changes by less are not worth a verdict: two buckets.
pub const TOLERANCE: Growth = Growth::new(5);
/// So that the same runs get the same verdicts.
pub const SEED: Seed = Seed(1);

/// What `compare` was asked for, as written.
#[derive(Clone, Debug, Default)]
pub struct CompareRequest {
    /// The run that the others are held against, and the others.
    pub runs: Vec<PathBuf>,
    /// What may differ, as keys with commas between them.
    pub vary: Vec<String>,
    /// Whether anything may differ.
    pub anyway: bool,
    /// How much worse makes exit status 5.
    pub fail_above: Option<String>,
    /// How much of a change matters.
    pub tolerance: Option<String>,
    /// Seed of the resampling.
    pub seed: Option<String>,
    /// Whether all percentiles are told of every histogram, and not only of those that changed.
    pub all: bool,
    /// How it is told on standard output.
    pub format: Format,
    /// Where the JSON goes as well.
    pub json: Option<PathBuf>,
}

/// Why runs were not compared, or nothing came of it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CompareError {
    /// Only one run.
    #[error("{count} run named, and two or more are compared: underfoot compare BASE OTHER…")]
    TooFewRuns {
        /// How many.
        count: usize,
    },
    /// They are not of one kind.
    #[error(
        "{base} and {other} cannot be compared, as they differ in {what}: make runs that do not, or, if that is what you \
         compare, give --vary {keys} (--anyway takes every difference)"
    )]
    NotComparable {
        /// The first.
        base: String,
        /// The second.
        other: String,
        /// The differences in words.
        what: String,
        /// Their keys.
        keys: String,
    },
    /// `--fail-above` would pass whatever happened.
    #[error(
        "--fail-above: {base} and {other} have no histogram of the moving phase with {least} values in both, so that \
         nothing could be found worse: make longer runs"
    )]
    NothingJudged {
        /// The first.
        base: String,
        /// The second.
        other: String,
        /// How many values it takes.
        least: u64,
    },
}

impl CompareError {
    /// Whether other arguments would have helped.
    #[must_use]
    pub const fn is_usage(&self) -> bool {
        !matches!(self, Self::NothingJudged { .. })
    }
}

/// One run that was held against the base.
#[derive(Clone, Debug)]
pub struct Compared<'a> {
    /// It.
    pub other: &'a StoredRun,
    /// What is not the same in the two.
    pub differences: Differences,
    /// Histogram by histogram.
    pub judged: Vec<Judged>,
}

/// All that is told.
#[derive(Clone, Debug)]
pub struct Comparison<'a> {
    /// The run that the others are held against.
    pub base: &'a StoredRun,
    /// The others.
    pub compared: Vec<Compared<'a>>,
    /// Changes by a smaller share do not count.
    pub tolerance: f64,
    /// How much worse is allowed, as a share.
    pub fail_above: Option<f64>,
    /// Of the resampling.
    pub seed: Seed,
    /// Tests made in all.
    pub tests: usize,
}

/// A histogram of the moving phase that got worse than allowed.
#[derive(Clone, Debug, PartialEq)]
pub struct Breach<'a> {
    /// In which run.
    pub run: &'a Path,
    /// Which.
    pub histogram: &'a str,
    /// At which percentile.
    pub percentile: &'static str,
    /// By which share.
    pub change: f64,
}

impl<'a> Comparison<'a> {
    /// Holds each of `others` against `base`.
    #[must_use]
    pub fn new(base: &'a StoredRun, others: &'a [StoredRun], seed: Seed, tolerance: f64) -> Self {
        let tests = others.iter().map(|other| count_tests(base, other)).sum();
        let mut rng = Rng::with_seed(seed.0);
        let compared = others.iter().map(|other| Compared {
            other,
            differences: Differences::between(base, other),
            judged: judge(base, other, tests, &mut rng),
        });
        let mut compared: Vec<_> = compared.collect();
        conclude(
            compared
                .iter_mut()
                .flat_map(|compared| &mut compared.judged),
            tolerance,
        );
        Self {
            base,
            compared,
            tolerance,
            fail_above: None,
            seed,
            tests,
        }
    }

    /// What got worse by more than is allowed while pages moved: the worst percentile of each histogram.
    #[must_use]
    pub fn breaches(&self) -> Vec<Breach<'_>> {
        let Some(allowed) = self.fail_above else {
            return Vec::new();
        };
        let judged = self.compared.iter().flat_map(|compared| {
            let run = compared.other.path.as_path();
            compared.judged.iter().map(move |judged| (run, judged))
        });
        let moving = judged.filter(|(_, judged)| judged.phase == Phase::Moving);
        let worst = moving.filter_map(|(run, judged)| {
            let (percentile, change) = judged.worst(self.tolerance)?;
            let histogram = judged.name.as_str();
            Some(Breach {
                run,
                histogram,
                percentile,
                change,
            })
        });
        worst.filter(|breach| breach.change > allowed).collect()
    }
}

/// Compares the runs that were asked for.
///
/// # Errors
/// [`Error`]; then nothing was written.
pub fn compare_command(request: &CompareRequest) -> Result<ExitStatus, Error> {
    let tolerance = parse("--tolerance", request.tolerance.as_deref())?.unwrap_or(TOLERANCE);
    let fail_above: Option<Growth> = parse("--fail-above", request.fail_above.as_deref())?;
    let seed = parse("--seed", request.seed.as_deref())?.unwrap_or(SEED);
    if request.runs.len() < 2 {
        let count = request.runs.len();
        return Err(CompareError::TooFewRuns { count }.into());
    }
    let json = request
        .json
        .as_deref()
        .map(JsonTarget::prepare)
        .transpose()?;
    let runs = request.runs.iter().map(|path| StoredRun::read(path));
    let runs: Vec<_> = runs.collect::<Result<_, _>>()?;
    check(request, &runs)?;
    let (base, others) = runs.split_first().expect("two or more");
    // What is smaller than is allowed need not be told as worse, but what is larger must be.
    let smallest = fail_above.map_or(tolerance, |allowed| allowed.min(tolerance));
    let mut comparison = Comparison::new(base, others, seed, smallest.share());
    comparison.fail_above = fail_above.map(Growth::share);
    tell(request, &comparison, json)?;
    judge_whole(&comparison)
}

fn parse<T: std::str::FromStr<Err = ValueError>>(
    flag: &'static str,
    text: Option<&str>,
) -> Result<Option<T>, Error> {
    let parsed = text.map(str::parse).transpose();
    parsed.map_err(|source| Error::Flag { flag, source })
}

/// Whether these runs may be held against each other.
fn check(request: &CompareRequest, runs: &[StoredRun]) -> Result<(), Error> {
    let vary = request.vary.iter().flat_map(|keys| keys.split(','));
    let vary: Vec<_> = vary.map(|key| key.trim().to_owned()).collect();
    let flag = "--vary";
    check_vary(&vary, runs).map_err(|source| Error::Flag { flag, source })?;
    let (base, others) = runs.split_first().expect("two or more");
    for other in others.iter().filter(|_| !request.anyway) {
        let differences = Differences::between(base, other);
        let unexpected = differences.unexpected(&vary);
        if !unexpected.is_empty() {
            let path = |run: &StoredRun| run.path.display().to_string();
            return Err(not_comparable(path(base), path(other), &unexpected).into());
        }
    }
    Ok(())
}

fn not_comparable(base: String, other: String, unexpected: &[&Difference]) -> CompareError {
    let what = unexpected.iter().map(|difference| {
        let Difference { key, base, other } = difference;
        format!("{key} ({base} and {other})")
    });
    let keys: Vec<_> = unexpected
        .iter()
        .map(|difference| difference.key.as_str())
        .collect();
    CompareError::NotComparable {
        base,
        other,
        what: what.collect::<Vec<_>>().join(", "),
        keys: keys.join(","),
    }
}

/// Files first: standard output goes to somebody who may have gone away.
fn tell(
    request: &CompareRequest,
    comparison: &Comparison<'_>,
    json: Option<JsonTarget>,
) -> Result<(), Error> {
    let told = match request.format {
        Format::Text => text(comparison, request.all),
        Format::Markdown => markdown(comparison),
        Format::Json => to_json(comparison),
    };
    let stdout = json.as_ref().is_some_and(JsonTarget::is_stdout);
    json.map(|json| json.commit(&to_json(comparison)))
        .transpose()?;
    if stdout {
        eprint!("{told}");
        return Ok(());
    }
    print(&told)
}

fn judge_whole(comparison: &Comparison<'_>) -> Result<ExitStatus, Error> {
    if comparison.fail_above.is_none() {
        return Ok(ExitStatus::Sound);
    }
    for compared in &comparison.compared {
        let mut judged = compared.judged.iter();
        if !judged.any(|judged| judged.phase == Phase::Moving && judged.chance.is_some()) {
            let path = |run: &StoredRun| run.path.display().to_string();
            let (base, other) = (path(comparison.base), path(compared.other));
            let least = super::verdict::LEAST_VALUES;
            return Err(CompareError::NothingJudged { base, other, least }.into());
        }
    }
    Ok(match comparison.breaches().is_empty() {
        true => ExitStatus::Sound,
        false => ExitStatus::Worse,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::chain;
    use crate::histogram::Histogram;
    use crate::json::RunJson;
    use crate::record::RunRecord;
    use crate::rundir::RUN_JSON;
    use crate::test_record::test_record;

    /// A run directory `name` of the test record as `change` leaves it.
    fn write(base: &Path, name: &str, change: impl FnOnce(&mut RunRecord)) -> PathBuf {
        let mut record = test_record();
        change(&mut record);
        let directory = base.join(name);
        std::fs::create_dir(&directory).expect("room");
        std::fs::write(directory.join(RUN_JSON), RunJson::from(&record).to_text()).expect("room");
        directory
    }

    /// Every value of every histogram of the moving phase in per cent of what it was.
    fn stretch(record: &mut RunRecord, percent: u64) {
        for histogram in record.moving.values_mut() {
            let mut stretched = Histogram::new();
            for (low, high, count) in histogram.spans() {
                let middle = u64::midpoint(low, high);
                (0..count).for_each(|_| stretched.record(middle * percent / 100));
            }
            *histogram = stretched;
        }
    }

    fn request(base: &Path, runs: &[PathBuf]) -> CompareRequest {
        CompareRequest {
            runs: runs.to_vec(),
            json: Some(base.join("compare.json")),
            ..CompareRequest::default()
        }
    }

    fn json(base: &Path) -> serde_json::Value {
        let text = std::fs::read(base.join("compare.json")).expect("it was written");
        serde_json::from_slice(&text).expect("JSON")
    }

    #[test]
    fn worse_than_allowed_is_status_5() {
        let base = tempfile::tempdir().expect("a directory");
        let good = write(base.path(), "good", |_| ());
        let same = write(base.path(), "same", |record| stretch(record, 100));
        let slow = write(base.path(), "slow", |record| stretch(record, 130));
        for (runs, fail_above, status) in [
            ([&good, &same], Some("10"), ExitStatus::Sound),
            ([&good, &slow], None, ExitStatus::Sound),
            ([&good, &slow], Some("50%"), ExitStatus::Sound),
            ([&good, &slow], Some("10%"), ExitStatus::Worse),
            ([&slow, &good], Some("0"), ExitStatus::Sound),
        ] {
            let mut request = request(base.path(), &runs.map(Clone::clone));
            request.fail_above = fail_above.map(str::to_owned);
            let seen = compare_command(&request).expect("comparable");
            assert_eq!(seen, status, "{fail_above:?}");
        }
        let three = [good, same, slow];
        let mut request = request(base.path(), &three);
        request.fail_above = Some("10".into());
        assert_eq!(
            compare_command(&request).expect("comparable"),
            ExitStatus::Worse
        );
        let json = json(base.path());
        assert_eq!(json["schema"], "underfoot.compare/1");
        let verdict = |run: usize, phase: &str| {
            json["compared"][run]["histograms"][phase]["guest.access"]["verdict"].clone()
        };
        assert_eq!(verdict(0, "moving"), "no difference seen");
        assert_eq!(verdict(1, "moving"), "worse");
        assert_eq!(verdict(1, "control"), "no difference seen");
        assert_eq!(
            json["compared"][1]["histograms"]["moving"]["guest.probe"]["verdict"],
            "worse"
        );
        assert!(
            json["breaches"]
                .as_array()
                .is_some_and(|breaches| !breaches.is_empty())
        );
    }

    #[test]
    fn what_is_not_comparable_is_refused_unless_it_is_what_is_compared() {
        let base = tempfile::tempdir().expect("a directory");
        let good = write(base.path(), "good", |_| ());
        let other = write(base.path(), "other", |record| {
            record.host.cpu = "Another".into()
        });
        let failed = write(base.path(), "failed", |record| record.integrity.errors = 1);
        let compare = |run: &PathBuf, vary: &str, anyway| {
            let mut request = request(base.path(), &[good.clone(), run.clone()]);
            request.vary = vary
                .split(' ')
                .filter(|key| !key.is_empty())
                .map(str::to_owned)
                .collect();
            request.anyway = anyway;
            compare_command(&request)
        };
        let error = compare(&other, "", false).expect_err("another CPU");
        let message = chain(&error);
        for part in [
            "host.cpu (A CPU and Another)",
            "--vary host.cpu",
            "--anyway",
        ] {
            assert!(message.contains(part), "{message}");
        }
        assert_eq!(error.status(), ExitStatus::Usage);
        let error = compare(&failed, "host.cpu", false).expect_err("it failed");
        assert!(
            chain(&error).contains("outcome (sound and 1 integrity errors)"),
            "{}",
            chain(&error)
        );
        let error = compare(&other, "host.cup", false).expect_err("no such key");
        assert!(
            chain(&error).contains("--vary: `host.cup`"),
            "{}",
            chain(&error)
        );
        assert!(!base.path().join("compare.json").exists());
        for (run, vary, anyway) in [
            (&other, "host.cpu", false),
            (&failed, "seed,outcome", false),
            (&failed, "", true),
        ] {
            compare(run, vary, anyway).expect("told to");
        }
    }

    #[test]
    fn wrong_usage_says_what_would_be_right() {
        let base = tempfile::tempdir().expect("a directory");
        let good = write(base.path(), "good", |_| ());
        let empty = write(base.path(), "empty", |record| record.moving.clear());
        let two = || request(base.path(), &[good.clone(), good.clone()]);
        let mut strange = two();
        strange.fail_above = Some("much".into());
        let mut nothing = request(base.path(), &[good.clone(), empty]);
        nothing.fail_above = Some("5".into());
        let missing = request(base.path(), &[good.clone(), base.path().join("nowhere")]);
        let one = request(base.path(), std::slice::from_ref(&good));
        for (request, status, part) in [
            (strange, ExitStatus::Usage, "--fail-above: `much`"),
            (nothing, ExitStatus::Failed, "make longer runs"),
            (missing, ExitStatus::Usage, "nowhere"),
            (one, ExitStatus::Usage, "1 run named"),
        ] {
            let error = compare_command(&request).expect_err(part);
            assert!(chain(&error).contains(part), "{}", chain(&error));
            assert_eq!(error.status(), status, "{part}");
        }
    }
}
