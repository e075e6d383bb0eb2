//! Whether two histograms could be of one distribution.

use super::draw::hypergeometric;
use crate::histogram::Histogram;
use fastrand::Rng;
use std::collections::BTreeMap;

/// Permutations at most, for each test that is made: with that many, the least chance that can be told is low enough
/// to stand up to as many tests as there are.
const PER_TEST: usize = 40;
const LEAST: usize = 999;
/// Permutations that are further apart than the runs, after which nothing new is learnt (Besag and Clifford,
/// "Sequential Monte Carlo p-values", 1991).
const ENOUGH: usize = 20;

/// Values that are expected on either side, in the smaller of the two, of a place that is looked at: with fewer, one
/// value more is the largest distance of all.
const LEAST_BEYOND: f64 = 2.0;
/// Far more than any run counts, and still so few that all buckets of two runs add up: a guest gone wrong may have left
/// more.
const MOST_COUNTED: u64 = u64::MAX >> 16;

/// Buckets of both, ascending: how many values each has there.
type Pooled = Vec<(u64, u64)>;

/// The chance to see two histograms that differ as much as these or more if each value had come into one or the other
/// by lot, `tests` being made in all.
///
/// Each permutation deals the buckets of both out again without putting back. How far two are apart is told by the
/// largest distance of their distribution functions, weighed (as Anderson and Darling proposed for the test of
/// Kolmogorov and Smirnov) so that a tail which only one of them has stands out as much as another middle. Both have
/// values.
pub(super) fn chance(base: &Histogram, other: &Histogram, tests: usize, rng: &mut Rng) -> f64 {
    let pooled = pool(base, other);
    let sample: u64 = pooled.iter().map(|(mine, _)| mine).sum();
    let all: u64 = pooled.iter().map(|(mine, theirs)| mine + theirs).sum();
    let seen = distance(&pooled, sample, all);
    let rounds = LEAST.max(PER_TEST * tests);
    let mut further = 0;
    for round in 1..=rounds {
        let dealt = deal(&pooled, sample, all, rng);
        // What is equal but for rounding counts as further: it does not tell the two apart.
        further += usize::from(distance(&dealt, sample, all) >= seen * (1.0 - 1e-9));
        if further == ENOUGH {
            return ENOUGH as f64 / round as f64;
        }
    }
    (further + 1) as f64 / (rounds + 1) as f64
}

fn pool(base: &Histogram, other: &Histogram) -> Pooled {
    let mut buckets: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
    let overflow = |histogram: &Histogram| {
        (histogram.overflow() > 0).then_some((u64::MAX, histogram.overflow()))
    };
    for (low, count) in base.buckets().chain(overflow(base)) {
        buckets.entry(low).or_default().0 = count.min(MOST_COUNTED);
    }
    for (low, count) in other.buckets().chain(overflow(other)) {
        buckets.entry(low).or_default().1 = count.min(MOST_COUNTED);
    }
    buckets.into_values().collect()
}

fn deal(pooled: &Pooled, sample: u64, all: u64, rng: &mut Rng) -> Pooled {
    let (mut sample, mut all) = (sample, all);
    let dealt = pooled.iter().map(|(mine, theirs)| {
        let both = mine + theirs;
        let drawn = hypergeometric(rng, all, both, sample);
        (all, sample) = (all - both, sample - drawn);
        (drawn, both - drawn)
    });
    dealt.collect()
}

/// The largest distance of the two distribution functions after any bucket, squared, in units of how surely it is known
/// there.
fn distance(pooled: &Pooled, sample: u64, all: u64) -> f64 {
    let (sample, all) = (sample as f64, all as f64);
    let smaller = sample.min(all - sample) / all;
    let (mut mine, mut below, mut largest) = (0.0, 0.0, 0.0f64);
    for (here, theirs) in pooled {
        mine += *here as f64;
        below += (here + theirs) as f64;
        if below.min(all - below) * smaller >= LEAST_BEYOND {
            let apart = mine - below * sample / all;
            largest = largest.max(apart * apart / (below * (all - below)));
        }
    }
    largest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uniform(rng: &mut Rng, count: u64, low: u64, high: u64) -> Histogram {
        let mut histogram = Histogram::new();
        (0..count).for_each(|_| histogram.record(rng.u64(low..high)));
        histogram
    }

    #[test]
    fn chances_of_equal_distributions_are_spread_evenly() {
        const ROUNDS: u64 = 300;
        let chances: Vec<f64> = (0..ROUNDS)
            .map(|seed| {
                let mut rng = Rng::with_seed(seed);
                let base = uniform(&mut rng, 300, 1_000, 9_000);
                let other = uniform(&mut rng, 700, 1_000, 9_000);
                chance(&base, &other, 1, &mut rng)
            })
            .collect();
        for bound in [0.05, 0.25, 0.5] {
            let below = chances.iter().filter(|chance| **chance <= bound).count() as f64;
            let expected = bound * ROUNDS as f64;
            let allowed = 4.0 * (expected * (1.0 - bound)).sqrt();
            assert!(
                (below - expected).abs() < allowed,
                "{below} below {bound}, not {expected}"
            );
        }
    }

    #[test]
    fn what_differs_is_told_apart_at_any_count() {
        let mut rng = Rng::with_seed(3);
        let base = uniform(&mut rng, 1_000, 1_000, 9_000);
        let other = uniform(&mut rng, 1_000, 1_500, 9_500);
        assert_eq!(chance(&base, &other, 1, &mut rng), 1.0 / 1_000.0);
        // Only the last hundredth differs.
        let mut tail = base.clone();
        (0..20).for_each(|_| tail.record(1_000_000));
        assert!(chance(&base, &tail, 1, &mut rng) < 0.01);
        assert_eq!(chance(&base, &base, 1, &mut rng), 1.0);
        let mut billions = base.clone();
        (0..25).for_each(|_| billions.merge(&billions.clone()));
        assert_eq!(billions.count(), 1_000 << 25);
        assert_eq!(chance(&billions, &billions, 1, &mut rng), 1.0);
    }
}
