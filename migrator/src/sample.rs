//! Which old frames are checked.

use std::ops::Range;

use crate::prng::Prng;

/// One position of a ring in so many. Which one of each run is drawn, so that windows of whatever
/// length have no frame that never meets it; the draw is a function of the position, so that what was
/// filled is what is checked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample(u64);

impl Sample {
    /// One in `stride`; with 1, all.
    pub(crate) fn one_in(stride: u32) -> Self {
        Self(stride.max(1).into())
    }

    /// Those among `positions`, in order.
    pub(crate) fn among(self, positions: Range<u64>) -> impl Iterator<Item = u64> {
        let runs = positions.start / self.0..positions.end.div_ceil(self.0);
        runs.map(move |run| self.of(run))
            .filter(move |position| positions.contains(position))
    }

    /// The one of a run of as many positions as it is one in.
    fn of(self, run: u64) -> u64 {
        run * self.0 + Prng::new(run).below(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn one_position_of_each_run_however_it_is_cut(
            stride in 1u32..40,
            start in 0u64..1 << 40,
            cuts in prop::collection::vec(0u64..100, 1..20),
        ) {
            let sample = Sample::one_in(stride);
            let stride = u64::from(stride);
            let start = start / stride * stride;
            let mut end = start;
            let mut found = Vec::new();
            for cut in cuts {
                found.extend(sample.among(end..end + cut));
                end += cut;
            }
            prop_assert!(found.is_sorted());
            let runs: Vec<_> = found.iter().map(|position| position / stride).collect();
            let whole = (end - start) / stride;
            let first = start / stride;
            prop_assert!(runs.starts_with(&(first..first + whole).collect::<Vec<_>>()));
            prop_assert!(runs.len() as u64 <= whole + 1);
            prop_assert!(found.iter().all(|position| (start..end).contains(position)));
        }

        #[test]
        fn no_frame_of_a_window_escapes_for_long(batch in 1u64..=512, nth in 0u64..512) {
            let (sample, nth) = (Sample::one_in(16), nth % batch);
            let windows = 4096;
            let hits = (0..windows)
                .map(|window| window * batch + nth)
                .filter(|&position| sample.among(position..position + 1).count() == 1)
                .count() as u64;
            prop_assert!((windows / 32..=windows / 8).contains(&hits), "{hits}");
        }
    }

    #[test]
    fn one_in_one_is_all() {
        let all: Vec<_> = Sample::one_in(1).among(3..300).collect();
        assert_eq!(all, (3..300).collect::<Vec<_>>());
    }
}
