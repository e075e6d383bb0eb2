//! Histograms from the form in which they were written, with nothing lost.

use super::Histogram;
use underfoot_abi::{MAX_TRACKABLE, bucket_index, bucket_low};

/// A histogram as it stands in a run's results.
#[derive(Clone, Debug, Default)]
pub struct Parts {
    /// Values, overflow included.
    pub count: u64,
    /// Their sum, in ns.
    pub sum: u64,
    /// The least; `None` while empty.
    pub min: Option<u64>,
    /// The greatest; `None` while empty.
    pub max: Option<u64>,
    /// Values that have no bucket.
    pub overflow: u64,
    /// Least value and count of each bucket that is not empty, ascending.
    pub buckets: Vec<(u64, u64)>,
}

/// Why parts are no histogram of this version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RebuildError {
    /// Other bucket settings.
    #[error(
        "its bucket at {low} ns begins in the middle of one of this version's (at {nearest} ns, all below {bound} ns): \
         it was recorded with other buckets, so use the underfoot that wrote it"
    )]
    OtherBuckets {
        /// Where the bucket begins.
        low: u64,
        /// Where this version's begins in which it lies.
        nearest: u64,
        /// Where the last one ends.
        bound: u64,
    },
    /// A bucket below the one before it, twice there, or empty.
    #[error(
        "its bucket at {low} ns is empty or not above the one before it: the file is damaged, so run it again"
    )]
    Order {
        /// Where the bucket begins.
        low: u64,
    },
    /// The counts do not add up.
    #[error(
        "its buckets and overflow add up to {sum} values, not to its count of {count}: the file is damaged, so run it \
         again"
    )]
    Count {
        /// What they add up to.
        sum: u64,
        /// What it says.
        count: u64,
    },
    /// A least or greatest value where there is none, none where there is one, or the two swapped.
    #[error(
        "its least and greatest value do not fit its {count} values: the file is damaged, so run it again"
    )]
    Extremes {
        /// Its values.
        count: u64,
    },
}

impl Histogram {
    /// The histogram that was written as `parts`: equal to the one that it was written from.
    ///
    /// # Errors
    /// [`RebuildError`] where there can be no such histogram.
    pub fn rebuild(parts: &Parts) -> Result<Self, RebuildError> {
        let mut histogram = Self::new();
        let mut sum = parts.overflow;
        let mut above = 0;
        for &(low, count) in &parts.buckets {
            let index = bucket_index(low.min(MAX_TRACKABLE - 1));
            let nearest = bucket_low(index);
            if low != nearest {
                let bound = MAX_TRACKABLE;
                return Err(RebuildError::OtherBuckets {
                    low,
                    nearest,
                    bound,
                });
            }
            if index < above || count == 0 {
                return Err(RebuildError::Order { low });
            }
            above = index + 1;
            histogram.buckets[index] = count;
            sum = sum.saturating_add(count);
        }
        let count = parts.count;
        if sum != count {
            return Err(RebuildError::Count { sum, count });
        }
        match (parts.min, parts.max) {
            (None, None) if count == 0 => {}
            (Some(min), Some(max)) if count > 0 && min <= max => {
                (histogram.min, histogram.max) = (min, max)
            }
            _ => return Err(RebuildError::Extremes { count }),
        }
        (histogram.count, histogram.sum, histogram.overflow) = (count, parts.sum, parts.overflow);
        Ok(histogram)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parts(histogram: &Histogram) -> Parts {
        Parts {
            count: histogram.count(),
            sum: histogram.sum(),
            min: histogram.min(),
            max: histogram.max(),
            overflow: histogram.overflow(),
            buckets: histogram.buckets().collect(),
        }
    }

    fn of(values: &[u64]) -> Histogram {
        let mut histogram = Histogram::new();
        values.iter().for_each(|ns| histogram.record(*ns));
        histogram
    }

    #[test]
    fn what_is_no_histogram_is_refused() {
        type Break = fn(&mut Parts);
        let cases: [(Break, &str); 8] = [
            (
                |parts| parts.buckets[1].0 = 1001,
                "begins in the middle of one of this version's (at 992 ns",
            ),
            (
                |parts| parts.buckets[1].0 = u64::MAX,
                "all below 68719476736 ns",
            ),
            (|parts| parts.buckets.swap(0, 1), "not above the one before"),
            (|parts| parts.buckets[0].1 = 0, "is empty"),
            (
                |parts| parts.count = 7,
                "add up to 2 values, not to its count of 7",
            ),
            (|parts| parts.min = None, "do not fit its 2 values"),
            (|parts| parts.min = Some(5000), "do not fit its 2 values"),
            (
                |parts| {
                    *parts = Parts {
                        min: Some(0),
                        ..Parts::default()
                    }
                },
                "do not fit its 0 values",
            ),
        ];
        for (damage, text) in cases {
            let mut parts = parts(&of(&[3, 1000]));
            damage(&mut parts);
            let error = Histogram::rebuild(&parts).expect_err(text).to_string();
            assert!(error.contains(text), "{error}");
        }
    }

    proptest! {
        #[test]
        fn nothing_is_lost(values in proptest::collection::vec(0..MAX_TRACKABLE * 2, 0..200)) {
            let histogram = of(&values);
            prop_assert_eq!(Histogram::rebuild(&parts(&histogram)), Ok(histogram));
        }
    }
}
