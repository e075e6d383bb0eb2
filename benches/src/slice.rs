//! What one side did in one slice of time.

use crate::noise::GAP_NS;
use std::time::{Duration, Instant};

/// Pages moved, and how long it took.
#[derive(Clone, Copy, Debug, Default)]
pub struct Slice {
    /// Pages.
    pub pages: u64,
    /// Time.
    pub ns: u64,
    /// Of it, in steps so long that the host had taken the CPU away.
    pub gap_ns: u64,
}

impl Slice {
    /// Repeats `step`, which moves as many pages as it returns, for `time`.
    pub fn of(time: Duration, mut step: impl FnMut() -> u64) -> Self {
        let began = Instant::now();
        let mut slice = Self::default();
        while slice.ns < time.as_nanos() as u64 {
            slice.pages += step();
            let ns = began.elapsed().as_nanos() as u64;
            let took = ns - slice.ns;
            slice.ns = ns;
            if took > GAP_NS {
                slice.gap_ns += took;
            }
        }
        slice
    }

    /// Cost per page without the gaps, which are the host's; none if it moved nothing.
    #[must_use]
    pub fn ns_per_page(&self) -> Option<f64> {
        let ns = self.ns - self.gap_ns.min(self.ns);
        (self.pages > 0 && ns > 0).then(|| ns as f64 / self.pages as f64)
    }
}
