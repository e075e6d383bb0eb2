//! CLOCK_MONOTONIC_RAW, which the kernel stamps its records with, and the TSC.

use crate::record::ClockRecord;
use underfoot_vmm::ClockPair;

/// From here on the rate is measured, not the nominal one: readings are good to some ten ns.
const MEASURED_AFTER_NS: u64 = 100_000_000;

/// Brings times of the clock to the TSC, by readings of both that are repeated while the run lasts.
#[derive(Debug)]
pub struct ClockMap {
    tsc_khz: u32,
    first: ClockPair,
    latest: ClockPair,
    error_ticks: u64,
}

impl ClockMap {
    /// Begins with one reading of both, on a counter that runs at `tsc_khz` by KVM's word.
    #[must_use]
    pub const fn new(tsc_khz: u32, first: ClockPair) -> Self {
        Self {
            tsc_khz,
            first,
            latest: first,
            error_ticks: first.error_ticks,
        }
    }

    /// Takes a later reading, and holds it against what the earlier ones foretold.
    pub fn look(&mut self, pair: ClockPair) {
        let off = self.tsc_of(pair.raw_ns).abs_diff(pair.tsc);
        self.error_ticks = self.error_ticks.max(off.saturating_add(pair.error_ticks));
        self.latest = pair;
    }

    /// The TSC when the clock said `raw_ns`.
    #[must_use]
    pub fn tsc_of(&self, raw_ns: u64) -> u64 {
        let since = i128::from(raw_ns) - i128::from(self.latest.raw_ns);
        let (ticks, ns) = self.rate();
        let tsc = i128::from(self.latest.tsc) + since * ticks / ns;
        tsc.clamp(0, i128::from(u64::MAX)) as u64
    }

    /// Ticks in so many ns.
    fn rate(&self) -> (i128, i128) {
        let ns = self.latest.raw_ns.saturating_sub(self.first.raw_ns);
        let ticks = self.latest.tsc.saturating_sub(self.first.tsc);
        if ns < MEASURED_AFTER_NS {
            (self.tsc_khz.max(1).into(), 1_000_000)
        } else {
            (ticks.max(1).into(), ns.into())
        }
    }

    /// How good the mapping was.
    #[must_use]
    pub fn record(&self) -> ClockRecord {
        let (ticks, ns) = self.rate();
        let nominal = ns * i128::from(self.tsc_khz) / 1_000_000;
        let ppb = (ticks - nominal) * 1_000_000_000 / nominal.max(1);
        ClockRecord {
            error_ns: super::ns(self.error_ticks, self.tsc_khz),
            drift_ppb: i64::try_from(ppb).unwrap_or(i64::MAX),
            measured_ns: self.latest.raw_ns.saturating_sub(self.first.raw_ns),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn pair(tsc: u64, raw_ns: u64, error_ticks: u64) -> ClockPair {
        ClockPair {
            tsc,
            raw_ns,
            error_ticks,
        }
    }

    #[test]
    fn follows_a_counter_that_runs_at_another_rate_than_it_says() {
        // 2 GHz by its word, 0.1 % faster in truth.
        let mut clock = ClockMap::new(2_000_000, pair(1_000, 500, 20));
        assert_eq!(clock.tsc_of(1_500), 3_000);
        assert_eq!(clock.tsc_of(0), 0);
        clock.look(pair(2_002_001_000, 1_000_000_500, 10));
        assert_eq!(clock.tsc_of(1_000_000_500), 2_002_001_000);
        assert_eq!(clock.tsc_of(500_000_500), 1_001_001_000);
        let record = clock.record();
        assert_eq!(record.drift_ppb, 1_000_000);
        // What the nominal rate foretold was a millisecond off.
        assert_eq!(record.error_ns, 1_000_005);
        assert_eq!(record.measured_ns, 1_000_000_000);
    }
}
