//! Intervals for how much a percentile changed.

use super::distribution::Distribution;
use super::draw::beta;
use fastrand::Rng;

const RESAMPLES: usize = 2_000;
/// The middle of what resampling gives that an interval holds.
const CONFIDENCE: f64 = 0.95;
/// Values that must lie beyond a percentile, and before it, for its interval to mean something.
const LEAST_BEYOND: f64 = 10.0;

/// A percentile in two distributions, and the change from the first to the second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Change {
    /// In ns.
    pub base_ns: f64,
    /// In ns.
    pub other_ns: f64,
    /// From the first to the second as a share of the first: 0.1 is 10 % more.
    pub change: f64,
    /// The 95 % interval of that.
    pub interval: (f64, f64),
}

impl Change {
    /// Whether it surely went up, by the share `tolerance` or more.
    #[must_use]
    pub fn is_higher(&self, tolerance: f64) -> bool {
        self.interval.0 > 0.0 && self.change >= tolerance
    }

    /// Whether it surely went down, by the share `tolerance` or more.
    #[must_use]
    pub fn is_lower(&self, tolerance: f64) -> bool {
        self.interval.1 < 0.0 && self.change <= -tolerance
    }
}

/// The percentile `q` (0 to 1) of both, with an interval for the change; `None` where one of them has fewer than
/// [`LEAST_BEYOND`] values on either side of it.
///
/// A bootstrap without the samples: the percentile of n values drawn from a distribution is the distribution's own
/// quantile at a place that is beta-distributed, so that one number stands for a whole resample.
pub(super) fn change(
    base: &Distribution,
    other: &Distribution,
    q: f64,
    rng: &mut Rng,
) -> Option<Change> {
    let is_known = |of: &Distribution| of.count() * q.min(1.0 - q) >= LEAST_BEYOND - 1e-6;
    if !is_known(base) || !is_known(other) {
        return None;
    }
    let resample = |of: &Distribution, rng: &mut Rng| {
        let rank = of.count() * q;
        // Nothing is faster than one nanosecond.
        of.quantile(beta(rng, rank, of.count() - rank + 1.0))
            .max(1.0)
    };
    let mut changes: Vec<f64> = (0..RESAMPLES)
        .map(|_| resample(other, rng) / resample(base, rng) - 1.0)
        .collect();
    changes.sort_unstable_by(f64::total_cmp);
    let cut = ((1.0 - CONFIDENCE) / 2.0 * RESAMPLES as f64) as usize;
    let (base_ns, other_ns) = (base.quantile(q), other.quantile(q));
    Some(Change {
        base_ns,
        other_ns,
        change: other_ns.max(1.0) / base_ns.max(1.0) - 1.0,
        interval: (changes[cut], changes[RESAMPLES - 1 - cut]),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::draw::normal;
    use crate::histogram::Histogram;

    fn drawn(rng: &mut Rng, count: u64, median: f64) -> Distribution {
        let mut histogram = Histogram::new();
        (0..count).for_each(|_| histogram.record((median * (0.5 * normal(rng)).exp()) as u64));
        Distribution::new(&histogram).expect("values")
    }

    #[test]
    fn intervals_hold_the_true_change_as_often_as_they_say() {
        const ROUNDS: usize = 300;
        for q in [0.5, 0.9, 0.99] {
            let held = (0..ROUNDS as u64).filter(|seed| {
                let mut rng = Rng::with_seed(*seed);
                let base = drawn(&mut rng, 2_000, 1e5);
                let other = drawn(&mut rng, 3_000, 1.2e5);
                let (low, high) = change(&base, &other, q, &mut rng).expect("enough").interval;
                low <= 0.2 && 0.2 <= high
            });
            let held = held.count();
            // 95 % of 300 is 285; four standard deviations are 15.
            assert!((270..=298).contains(&held), "q {q}: {held} of {ROUNDS}");
        }
    }

    #[test]
    fn far_percentiles_want_many_values() {
        let mut rng = Rng::with_seed(1);
        let thousand = drawn(&mut rng, 1_000, 1e5);
        let known = |q, rng: &mut Rng| change(&thousand, &thousand, q, rng).is_some();
        assert!(known(0.99, &mut rng) && !known(0.999, &mut rng));
    }
}
