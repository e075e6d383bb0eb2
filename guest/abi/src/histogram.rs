//! Log-linear histograms that a guest can fill without a lock, an allocation or a division.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Linear buckets per power of two: values are kept to within 1/32, about 3 %.
pub const SUB_BUCKETS: usize = 32;

const SUB_BITS: u32 = SUB_BUCKETS.trailing_zeros();
const MAX_BITS: u32 = 36;

/// The least value that no longer fits: 2^36 ns, about 69 s. Such values go to `overflow`.
pub const MAX_TRACKABLE: u64 = 1 << MAX_BITS;

/// Buckets in one histogram.
pub const BUCKETS: usize = bucket_index(MAX_TRACKABLE - 1) + 1;

/// The bucket that holds `value`, which must be below [`MAX_TRACKABLE`] to index `buckets`.
#[must_use]
pub const fn bucket_index(value: u64) -> usize {
    let bits = 63 - (value | 1).leading_zeros();
    if bits <= SUB_BITS {
        return value as usize;
    }
    let shift = bits - SUB_BITS;
    ((shift as usize) << SUB_BITS) + (value >> shift) as usize
}

/// The least value in bucket `index`: the inverse of [`bucket_index`].
#[must_use]
pub const fn bucket_low(index: usize) -> u64 {
    if index < 2 * SUB_BUCKETS {
        return index as u64;
    }
    let shift = (index >> SUB_BITS) - 1;
    ((index - (shift << SUB_BITS)) as u64) << shift
}

/// A histogram of nanoseconds with one writer at a time; anybody may read it.
///
/// `count` is written last: a reader that stops the writer first sees buckets that add up to it.
#[repr(C)]
pub struct Histogram {
    /// Values recorded, `overflow` included.
    pub count: AtomicU64,
    /// Sum of all values, in ns.
    pub sum: AtomicU64,
    /// Least value plus one, in ns; 0 while empty, so that a zeroed page is a valid histogram.
    pub min_plus_one: AtomicU64,
    /// Greatest value, in ns.
    pub max: AtomicU64,
    /// Values of [`MAX_TRACKABLE`] or more.
    pub overflow: AtomicU64,
    /// Counts, by [`bucket_index`].
    pub buckets: [AtomicU64; BUCKETS],
}

impl Histogram {
    /// Records `ns`. Only the one writer may call this.
    #[inline]
    pub fn record(&self, ns: u64) {
        let slot = if ns < MAX_TRACKABLE {
            &self.buckets[bucket_index(ns)]
        } else {
            &self.overflow
        };
        // One writer: a load and a store do what a locked add would, for a tenth of its price.
        slot.store(slot.load(Relaxed) + 1, Relaxed);
        self.sum
            .store(self.sum.load(Relaxed).wrapping_add(ns), Relaxed);
        let min = self.min_plus_one.load(Relaxed);
        if min == 0 || ns + 1 < min {
            self.min_plus_one.store(ns.saturating_add(1), Relaxed);
        }
        if ns > self.max.load(Relaxed) {
            self.max.store(ns, Relaxed);
        }
        self.count.store(self.count.load(Relaxed) + 1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bucket_inverts() {
        for index in 0..BUCKETS {
            let low = bucket_low(index);
            assert_eq!(bucket_index(low), index, "low {low}");
            if index + 1 < BUCKETS {
                assert_eq!(bucket_index(bucket_low(index + 1) - 1), index);
            }
        }
        assert_eq!(
            bucket_low(BUCKETS - 1) + (1 << (MAX_BITS - 1 - SUB_BITS)),
            MAX_TRACKABLE
        );
    }
}
