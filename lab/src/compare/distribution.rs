//! A histogram as a distribution whose quantiles can be asked for quickly and finely.

use crate::histogram::Histogram;

/// Values between which a histogram counts no further, taken as spread evenly.
#[derive(Clone, Copy, Debug)]
struct Step {
    /// Values below it.
    before: f64,
    /// Values in it.
    count: f64,
    low: f64,
    high: f64,
}

/// A distribution of at least one value.
#[derive(Clone, Debug)]
pub(super) struct Distribution {
    steps: Vec<Step>,
    count: f64,
}

impl Distribution {
    /// `None` where `histogram` is empty.
    pub fn new(histogram: &Histogram) -> Option<Self> {
        let mut count = 0.0;
        let steps = histogram.spans().map(|(low, high, values)| {
            let (low, high) = (low as f64, high as f64 + 1.0);
            let step = Step {
                before: count,
                count: values as f64,
                low,
                high,
            };
            count += step.count;
            step
        });
        let steps: Vec<_> = steps.collect();
        (count > 0.0).then_some(Self { steps, count })
    }

    /// How many values.
    pub const fn count(&self) -> f64 {
        self.count
    }

    /// The value in ns that the share `q` (0 to 1) of the values does not exceed, within its bucket by straight
    /// interpolation: buckets are 3 % wide, and intervals should not jump by as much.
    pub fn quantile(&self, q: f64) -> f64 {
        let rank = q * self.count;
        let at = self
            .steps
            .partition_point(|step| step.before <= rank)
            .max(1)
            - 1;
        let step = self.steps[at];
        let inside = ((rank - step.before) / step.count).clamp(0.0, 1.0);
        step.low + inside * (step.high - step.low)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_run_through_the_values() {
        let mut histogram = Histogram::new();
        assert!(Distribution::new(&histogram).is_none());
        (0..10_000).for_each(|ns| histogram.record(ns));
        let distribution = Distribution::new(&histogram).expect("values");
        assert_eq!(distribution.count(), 10_000.0);
        for (q, value) in [(0.0, 0.0), (0.5, 5_000.0), (0.99, 9_900.0), (1.0, 10_000.0)] {
            let said = distribution.quantile(q);
            assert!((said - value).abs() <= 1.0, "{q}: {said}, not {value}");
        }
    }
}
