//! Histograms of nanoseconds, in the geometry of the contract with the guest.

mod rebuild;

pub use rebuild::{Parts, RebuildError};

use std::sync::atomic::Ordering::Relaxed;
use underfoot_abi::{BUCKETS, MAX_TRACKABLE, bucket_index, bucket_low};

/// Counts are signed in the serialised form, and one of its values may stand for every bucket.
const MOST_SERIALISED: u64 = i64::MAX as u64 / (BUCKETS as u64 + 1);

/// Counts of values in log-linear buckets, kept to within 1/32.
///
/// One thread owns it and records by plain additions into an array that is there from the start: no
/// lock, no allocation. Those of several threads, and the guest's, are added up afterwards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histogram {
    count: u64,
    sum: u64,
    min: u64,
    max: u64,
    overflow: u64,
    buckets: Box<[u64]>,
}

impl Default for Histogram {
    fn default() -> Self {
        Self::new()
    }
}

impl Histogram {
    /// An empty histogram: allocates its buckets (about 9 KiB), once.
    #[must_use]
    pub fn new() -> Self {
        Self {
            count: 0,
            sum: 0,
            min: u64::MAX,
            max: 0,
            overflow: 0,
            buckets: vec![0; BUCKETS].into_boxed_slice(),
        }
    }

    /// Records `ns`. Values of [`MAX_TRACKABLE`] and more are counted as overflow.
    #[inline]
    pub fn record(&mut self, ns: u64) {
        if ns < MAX_TRACKABLE {
            self.buckets[bucket_index(ns)] += 1;
        } else {
            self.overflow += 1;
        }
        self.count += 1;
        self.sum = self.sum.saturating_add(ns);
        self.min = self.min.min(ns);
        self.max = self.max.max(ns);
    }

    /// Adds what another one counted.
    pub fn merge(&mut self, other: &Self) {
        self.count = self.count.saturating_add(other.count);
        self.sum = self.sum.saturating_add(other.sum);
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
        self.overflow = self.overflow.saturating_add(other.overflow);
        for (mine, theirs) in self.buckets.iter_mut().zip(&other.buckets) {
            *mine = mine.saturating_add(*theirs);
        }
    }

    /// What was recorded since it was `before`, an earlier state of the same histogram. Of its least and greatest value
    /// the edges of their buckets are known; the sum is that of the values.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let mut since = Self::new();
        let counts = self.buckets.iter().zip(&before.buckets);
        for (index, (now, before)) in counts.enumerate() {
            let count = now.saturating_sub(*before);
            since.buckets[index] = count;
            since.count = since.count.saturating_add(count);
            if count > 0 {
                since.min = since.min.min(bucket_low(index).max(self.min));
                since.max = bucket_high(index).min(self.max);
            }
        }
        since.overflow = self.overflow.saturating_sub(before.overflow);
        since.count = since.count.saturating_add(since.overflow);
        since.sum = self.sum.saturating_sub(before.sum);
        if since.overflow > 0 {
            (since.min, since.max) = (since.min.min(MAX_TRACKABLE), self.max);
        }
        since
    }

    /// Adds what a vCPU counted.
    ///
    /// The count is taken from the buckets themselves, so that the two agree even if the vCPU is
    /// recording meanwhile; the sum may then be off by the values in flight. The words come from
    /// the guest, so nothing that they hold may panic.
    pub fn add_guest(&mut self, guest: &underfoot_abi::Histogram) {
        let mut other = Self::new();
        for (mine, theirs) in other.buckets.iter_mut().zip(&guest.buckets) {
            *mine = theirs.load(Relaxed);
            other.count = other.count.saturating_add(*mine);
        }
        other.overflow = guest.overflow.load(Relaxed);
        other.count = other.count.saturating_add(other.overflow);
        if other.count > 0 {
            other.sum = guest.sum.load(Relaxed);
            other.max = guest.max.load(Relaxed);
            other.min = guest.min_plus_one.load(Relaxed).saturating_sub(1);
        }
        self.merge(&other);
    }

    /// Values recorded, overflow included.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// Sum of all values, in ns; saturates.
    #[must_use]
    pub const fn sum(&self) -> u64 {
        self.sum
    }

    /// Values of [`MAX_TRACKABLE`] or more.
    #[must_use]
    pub const fn overflow(&self) -> u64 {
        self.overflow
    }

    /// The least value, exactly; `None` while empty.
    #[must_use]
    pub fn min(&self) -> Option<u64> {
        (self.count > 0).then_some(self.min)
    }

    /// The greatest value, exactly; `None` while empty.
    #[must_use]
    pub fn max(&self) -> Option<u64> {
        (self.count > 0).then_some(self.max)
    }

    /// The value that at least `parts` in ten thousand of the values do not exceed (9999 is
    /// p99.99); `None` while empty.
    ///
    /// It is an upper bound: the greatest value of the bucket in which that value lies, but never
    /// more than the greatest value recorded. The true value is at most 1/32 below.
    #[must_use]
    pub fn percentile(&self, parts: u16) -> Option<u64> {
        let max = self.max()?;
        let wanted = u128::from(self.count) * u128::from(parts.min(10_000));
        let rank = wanted.div_ceil(10_000).max(1);
        let mut seen = 0u128;
        for (index, count) in self.buckets.iter().enumerate() {
            seen += u128::from(*count);
            if seen >= rank {
                return Some(bucket_high(index).min(max));
            }
        }
        // Only overflow is left, of which nothing but the greatest value is known.
        Some(max)
    }

    /// The buckets that are not empty, ascending: least value and count.
    pub fn buckets(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.occupied()
            .map(|(index, count)| (bucket_low(index), count))
    }

    /// The same as an HdrHistogram of three significant digits, each value as its bucket's upper
    /// bound (never more than the greatest value), overflow as the greatest value: what
    /// [`Histogram::percentile`] says, to within 0.1 %. Counts that no run can have, which a guest gone wrong may have
    /// left, are cut to what can be serialised.
    #[must_use]
    pub fn to_hdr(&self) -> hdrhistogram::Histogram<u64> {
        // Three digits are valid, and the histogram resizes itself, so neither call fails.
        let mut hdr = hdrhistogram::Histogram::new(3).expect("three significant digits");
        let Some(max) = self.max() else {
            return hdr;
        };
        let overflow = (self.overflow > 0).then_some((max, self.overflow));
        let values = self
            .occupied()
            .map(|(index, count)| (bucket_high(index).min(max), count));
        for (value, count) in values.chain(overflow) {
            // A saturating record would clamp to the initial two values instead of growing.
            hdr.record_n(value, count.min(MOST_SERIALISED))
                .expect("it resizes itself");
        }
        hdr
    }

    /// The buckets that are not empty, ascending: least and greatest value that lie in it, and count. The first and
    /// the last are cut at the least and the greatest value recorded; values without a bucket are one more, at the
    /// greatest.
    pub fn spans(&self) -> impl Iterator<Item = (u64, u64, u64)> + '_ {
        let (min, max) = (self.min, self.max);
        let spans = self.occupied().map(move |(index, count)| {
            let (low, high) = (bucket_low(index), bucket_high(index));
            (low.max(min).min(high), high.min(max).max(low), count)
        });
        let overflow =
            (self.overflow > 0).then_some((MAX_TRACKABLE, max.max(MAX_TRACKABLE), self.overflow));
        spans.chain(overflow)
    }

    fn occupied(&self) -> impl Iterator<Item = (usize, u64)> + '_ {
        self.buckets
            .iter()
            .copied()
            .enumerate()
            .filter(|(_, count)| *count > 0)
    }
}

/// The greatest value in bucket `index`.
fn bucket_high(index: usize) -> u64 {
    if index + 1 < BUCKETS {
        bucket_low(index + 1) - 1
    } else {
        MAX_TRACKABLE - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::sync::atomic::AtomicU64;

    fn histogram(values: &[u64]) -> Histogram {
        let mut histogram = Histogram::new();
        values.iter().for_each(|ns| histogram.record(*ns));
        histogram
    }

    fn guest(values: &[u64]) -> underfoot_abi::Histogram {
        let zero = || AtomicU64::new(0);
        let guest = underfoot_abi::Histogram {
            count: zero(),
            sum: zero(),
            min_plus_one: zero(),
            max: zero(),
            overflow: zero(),
            buckets: std::array::from_fn(|_| zero()),
        };
        values.iter().for_each(|ns| guest.record(*ns));
        guest
    }

    #[test]
    fn empty_has_no_values() {
        let empty = Histogram::new();
        assert_eq!(
            (empty.min(), empty.max(), empty.percentile(5000)),
            (None, None, None)
        );
        assert_eq!(empty.buckets().count(), 0);
        assert_eq!(empty.to_hdr().len(), 0);
    }

    #[test]
    fn percentiles_are_upper_bounds_capped_by_max() {
        let values: Vec<u64> = (1..=100).collect();
        let hundred = histogram(&values);
        assert_eq!(hundred.percentile(0), Some(1));
        assert_eq!(hundred.percentile(5000), Some(50));
        // 99 shares its bucket (98, 99) and is its upper bound; 100 shares (100, 101), capped.
        assert_eq!(hundred.percentile(9900), Some(99));
        assert_eq!(hundred.percentile(9999), Some(100));
        assert_eq!(hundred.percentile(u16::MAX), Some(100));
    }

    #[test]
    fn overflow_counts_as_the_greatest() {
        let histogram = histogram(&[1, MAX_TRACKABLE, MAX_TRACKABLE + 5]);
        assert_eq!((histogram.count(), histogram.overflow()), (3, 2));
        assert_eq!(histogram.percentile(5000), Some(MAX_TRACKABLE + 5));
        assert_eq!(histogram.to_hdr().len(), 3);
    }

    #[test]
    fn a_scribbled_guest_histogram_does_not_panic() {
        let scribbled = guest(&[7]);
        scribbled.buckets[0].store(u64::MAX, Relaxed);
        scribbled.buckets[1].store(u64::MAX, Relaxed);
        scribbled.overflow.store(u64::MAX, Relaxed);
        scribbled.min_plus_one.store(0, Relaxed);
        let mut merged = histogram(&[3]);
        merged.add_guest(&scribbled);
        merged.add_guest(&scribbled);
        assert_eq!(merged.count(), u64::MAX);
        assert!(merged.percentile(9999).is_some());
        assert!(merged.to_hdr().max() > 0);
    }

    proptest! {
        #[test]
        fn buckets_add_up(values in proptest::collection::vec(0..MAX_TRACKABLE * 2, 0..200)) {
            let histogram = histogram(&values);
            let total: u64 = histogram.buckets().map(|(_, count)| count).sum();
            prop_assert_eq!(total + histogram.overflow(), histogram.count());
            prop_assert_eq!(histogram.sum(), values.iter().sum::<u64>());
            prop_assert_eq!(histogram.min(), values.iter().copied().min());
            prop_assert_eq!(histogram.max(), values.iter().copied().max());
            prop_assert_eq!(histogram.to_hdr().len(), histogram.count());
        }

        #[test]
        fn what_came_since_is_what_came(before in proptest::collection::vec(0..MAX_TRACKABLE * 2, 0..100),
                                        after in proptest::collection::vec(0..MAX_TRACKABLE * 2, 0..100)) {
            let first = histogram(&before);
            let mut all = first.clone();
            all.merge(&histogram(&after));
            let (since, exact) = (all.since(&first), histogram(&after));
            prop_assert_eq!((since.count(), since.sum(), since.overflow()), (exact.count(), exact.sum(), exact.overflow()));
            prop_assert_eq!(since.buckets().collect::<Vec<_>>(), exact.buckets().collect::<Vec<_>>());
            prop_assert!(since.min() <= exact.min() && since.max() >= exact.max());
        }

        #[test]
        fn guest_and_host_count_alike(values in proptest::collection::vec(0..MAX_TRACKABLE * 2, 0..200),
                                      cut in 0usize..200) {
            let (first, second) = values.split_at(cut.min(values.len()));
            let mut from_guest = Histogram::new();
            from_guest.add_guest(&guest(first));
            from_guest.add_guest(&guest(second));
            let mut from_host = histogram(first);
            from_host.merge(&histogram(second));
            prop_assert_eq!(&from_guest, &from_host);
            prop_assert_eq!(from_host, histogram(&values));
        }

        #[test]
        fn percentiles_bound_the_true_value(mut values in proptest::collection::vec(0..MAX_TRACKABLE, 1..200),
                                            parts in 1u16..=10_000) {
            let said = histogram(&values).percentile(parts).expect("not empty");
            values.sort_unstable();
            let rank = (values.len() * usize::from(parts)).div_ceil(10_000);
            let truth = values[rank - 1];
            prop_assert!(truth <= said && said - truth <= truth / 32, "{truth} {said}");
        }
    }
}
