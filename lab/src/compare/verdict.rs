//! What is said of each histogram that two runs have.

use super::bootstrap::{Change, change};
use super::distribution::Distribution;
use super::permutation::chance;
use crate::histogram::Histogram;
use crate::rundir::{Histograms, StoredRun};
use fastrand::Rng;

/// The percentiles that are compared: name and share.
pub const PERCENTILES: [(&str, f64); 5] = [
    ("p50", 0.5),
    ("p90", 0.9),
    ("p99", 0.99),
    ("p99.9", 0.999),
    ("p99.99", 0.9999),
];
/// Fewer values than these, in either run, say nothing.
pub const LEAST_VALUES: u64 = 100;
/// The chance of any false alarm among all the tests of one comparison.
pub const ALARM: f64 = 0.05;

/// The part of a run in which something was recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// While pages moved.
    Moving,
    /// While nothing moved: what differs here is not the mover's doing.
    Control,
}

impl Phase {
    /// Its name in results.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Moving => "moving",
            Self::Control => "control",
        }
    }

    const fn of(self, run: &StoredRun) -> &Histograms {
        match self {
            Self::Moving => &run.moving,
            Self::Control => &run.control,
        }
    }
}

/// What is said of a histogram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Some percentiles are lower, none higher.
    Better,
    /// Some are higher, none lower.
    Worse,
    /// Some are lower, some higher.
    Mixed,
    /// Nothing that chance would not do as well, or nothing that is large enough to matter.
    NoDifference,
    /// Fewer than [`LEAST_VALUES`] values in one of them.
    TooFew,
}

impl Verdict {
    /// In words.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Better => "better",
            Self::Worse => "worse",
            Self::Mixed => "mixed",
            Self::NoDifference => "no difference seen",
            Self::TooFew => "too few samples",
        }
    }

    /// Whether some percentile changed.
    #[must_use]
    pub const fn is_change(self) -> bool {
        matches!(self, Self::Better | Self::Worse | Self::Mixed)
    }
}

/// A histogram that was held against its like.
#[derive(Clone, Debug)]
pub struct Judged {
    /// Its name.
    pub name: String,
    /// When it was recorded.
    pub phase: Phase,
    /// Its values in the first run and in the second.
    pub counts: (u64, u64),
    /// The greatest in both; `None` where there is none.
    pub max_ns: (Option<u64>, Option<u64>),
    /// The chance of such a difference without a cause, corrected; `None` with too few values.
    pub chance: Option<f64>,
    /// How each of [`PERCENTILES`] changed; `None` where there are too few values beyond it.
    pub changes: [Option<Change>; PERCENTILES.len()],
    /// What that means.
    pub verdict: Verdict,
}

impl Judged {
    /// The percentile that got worse by the largest share, where any did.
    #[must_use]
    pub fn worst(&self, tolerance: f64) -> Option<(&'static str, f64)> {
        if !matches!(self.verdict, Verdict::Worse | Verdict::Mixed) {
            return None;
        }
        let named = PERCENTILES.iter().zip(&self.changes);
        let changes = named.filter_map(|((name, _), change)| Some((*name, change.as_ref()?)));
        let worse = changes.filter(|(_, change)| change.is_higher(tolerance));
        let worse = worse.map(|(name, change)| (name, change.change));
        worse.max_by(|one, other| one.1.total_cmp(&other.1))
    }
}

/// Holds each histogram that both runs have against its like; verdicts come with [`conclude`], which knows of all
/// tests.
///
/// `tests` is how many are made in all.
pub fn judge(base: &StoredRun, other: &StoredRun, tests: usize, rng: &mut Rng) -> Vec<Judged> {
    let pairs = shared(base, other).into_iter();
    pairs.map(|pair| judge_one(pair, tests, rng)).collect()
}

/// How many tests [`judge`] makes.
#[must_use]
pub fn count_tests(base: &StoredRun, other: &StoredRun) -> usize {
    let pairs = shared(base, other);
    pairs.iter().filter(|pair| pair.is_enough()).count()
}

#[derive(Clone, Copy)]
struct Pair<'a> {
    phase: Phase,
    name: &'a str,
    base: &'a Histogram,
    other: &'a Histogram,
}

impl Pair<'_> {
    fn is_enough(self) -> bool {
        self.base.count().min(self.other.count()) >= LEAST_VALUES
    }
}

/// Those of which either has a value: one that recorded nothing in both runs is not worth a line.
fn shared<'a>(base: &'a StoredRun, other: &'a StoredRun) -> Vec<Pair<'a>> {
    let phases = [Phase::Moving, Phase::Control].into_iter();
    let pairs = phases.flat_map(|phase| {
        phase.of(base).iter().filter_map(move |(name, base)| {
            let other = phase.of(other).get(name)?;
            Some(Pair {
                phase,
                name,
                base,
                other,
            })
        })
    });
    pairs
        .filter(|pair| pair.base.count() + pair.other.count() > 0)
        .collect()
}

fn judge_one(pair: Pair<'_>, tests: usize, rng: &mut Rng) -> Judged {
    let Pair {
        phase,
        name,
        base,
        other,
    } = pair;
    let mut judged = Judged {
        name: name.to_owned(),
        phase,
        counts: (base.count(), other.count()),
        max_ns: (base.max(), other.max()),
        chance: pair.is_enough().then(|| chance(base, other, tests, rng)),
        changes: [None; PERCENTILES.len()],
        verdict: Verdict::TooFew,
    };
    if let (Some(base), Some(other)) = (Distribution::new(base), Distribution::new(other)) {
        judged.changes = PERCENTILES.map(|(_, q)| change(&base, &other, q, rng));
    }
    judged
}

/// Corrects the chances of all tests that were made (Holm, "A simple sequentially rejective multiple test procedure",
/// 1979) and says what they mean. A percentile counts as changed where its interval does not hold "no change" and it
/// changed by the share `tolerance` or more.
pub fn conclude<'a>(judged: impl Iterator<Item = &'a mut Judged>, tolerance: f64) {
    let mut tested: Vec<&mut Judged> = judged.filter(|judged| judged.chance.is_some()).collect();
    let chance = |judged: &Judged| judged.chance.unwrap_or(1.0);
    tested.sort_by(|one, other| chance(one).total_cmp(&chance(other)));
    let tests = tested.len();
    let mut least = 0.0f64;
    for (index, judged) in tested.into_iter().enumerate() {
        least = least.max(chance(judged) * (tests - index) as f64).min(1.0);
        judged.chance = Some(least);
        judged.verdict = if least < ALARM {
            verdict(&judged.changes, tolerance)
        } else {
            Verdict::NoDifference
        };
    }
}

fn verdict(changes: &[Option<Change>], tolerance: f64) -> Verdict {
    let known = || changes.iter().flatten();
    let worse = known().any(|change| change.is_higher(tolerance));
    let better = known().any(|change| change.is_lower(tolerance));
    match (worse, better) {
        (true, false) => Verdict::Worse,
        (false, true) => Verdict::Better,
        (true, true) => Verdict::Mixed,
        (false, false) => Verdict::NoDifference,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::compare::draw::normal;
    use crate::json::RunJson;
    use crate::rundir::RUN_JSON;
    use crate::test_record::test_record;

    const TOLERANCE: f64 = 0.05;

    /// The test record as it is read back.
    pub(crate) fn stored() -> StoredRun {
        let directory = tempfile::tempdir().expect("a directory");
        let text = RunJson::from(&test_record()).to_text();
        std::fs::write(directory.path().join(RUN_JSON), text).expect("room");
        StoredRun::read(directory.path()).expect("a run")
    }

    /// A run with nothing but `guest.stall`: `count` values about `median`, log-normally.
    fn run(rng: &mut Rng, count: u64, median: f64) -> StoredRun {
        let mut histogram = Histogram::new();
        (0..count).for_each(|_| histogram.record((median * (0.4 * normal(rng)).exp()) as u64));
        let mut run = stored();
        run.control.clear();
        run.moving = Histograms::from([("guest.stall".to_owned(), histogram)]);
        run
    }

    fn verdict_of(base: &StoredRun, other: &StoredRun, rng: &mut Rng) -> Judged {
        let mut judged = judge(base, other, count_tests(base, other), rng);
        conclude(judged.iter_mut(), TOLERANCE);
        judged.remove(0)
    }

    #[test]
    fn verdicts_by_what_was_drawn() {
        // Values in both, by how much the second is shifted, the verdict, and in how many of 100 at least.
        for (counts, shift, expected, least) in [
            ((5_000, 5_000), 1.0, Verdict::NoDifference, 95),
            ((300, 20_000), 1.0, Verdict::NoDifference, 95),
            ((5_000, 5_000), 1.1, Verdict::Worse, 99),
            ((5_000, 5_000), 0.9, Verdict::Better, 99),
            ((20_000, 20_000), 1.02, Verdict::NoDifference, 95),
            ((99, 5_000), 3.0, Verdict::TooFew, 100),
            ((5_000, 99), 3.0, Verdict::TooFew, 100),
        ] {
            let seeds = (0..100u64).filter(|seed| {
                let mut rng = Rng::with_seed(*seed);
                let base = run(&mut rng, counts.0, 1e5);
                let other = run(&mut rng, counts.1, 1e5 * shift);
                verdict_of(&base, &other, &mut rng).verdict == expected
            });
            let seen = seeds.count();
            assert!(
                seen >= least,
                "{counts:?} by {shift}: {seen} of 100 {}",
                expected.name()
            );
        }
    }

    #[test]
    fn the_same_seed_says_the_same() {
        let judged = |seed| {
            let mut rng = Rng::with_seed(5);
            let (base, other) = (run(&mut rng, 1_000, 1e5), run(&mut rng, 1_000, 1.05e5));
            verdict_of(&base, &other, &mut Rng::with_seed(seed)).changes
        };
        assert_eq!(judged(1), judged(1));
        assert_ne!(judged(1), judged(2));
    }

    #[test]
    fn many_tests_are_corrected_for() {
        let empty = || Judged {
            name: String::new(),
            phase: Phase::Moving,
            counts: (500, 500),
            max_ns: (None, None),
            chance: None,
            changes: [None; PERCENTILES.len()],
            verdict: Verdict::TooFew,
        };
        let mut judged = [0.04, 0.001, 0.02]
            .map(|chance| Judged {
                chance: Some(chance),
                ..empty()
            })
            .to_vec();
        judged.push(empty());
        conclude(judged.iter_mut(), TOLERANCE);
        let chances: Vec<_> = judged.iter().map(|judged| judged.chance).collect();
        assert_eq!(chances, [Some(0.04), Some(0.003), Some(0.04), None]);
        assert_eq!(judged[3].verdict, Verdict::TooFew);
    }

    #[test]
    fn percentiles_may_go_both_ways() {
        let change = |change, interval| {
            Some(Change {
                base_ns: 1.0,
                other_ns: 1.0,
                change,
                interval,
            })
        };
        let (up, down) = (change(0.2, (0.1, 0.3)), change(-0.2, (-0.3, -0.1)));
        let (unsure, small) = (change(0.2, (-0.1, 0.5)), change(0.01, (0.005, 0.015)));
        for (changes, expected) in [
            (vec![up, None], Verdict::Worse),
            (vec![down, small], Verdict::Better),
            (vec![up, down], Verdict::Mixed),
            (vec![unsure, small, None], Verdict::NoDifference),
        ] {
            assert_eq!(verdict(&changes, TOLERANCE), expected, "{changes:?}");
        }
    }
}
