//! How long the guest waited, as it saw it.

use std::fmt;
use underfoot_migrator::clock;

/// What is shown, in parts of ten thousand.
const SHOWN: [usize; 4] = [5_000, 9_000, 9_900, 9_990];

/// Stalls in ns, by rising length.
#[derive(Clone, Debug, Default)]
pub struct Stalls(Vec<f64>);

impl Stalls {
    /// Of reads that took so many ticks.
    #[must_use]
    pub fn of_ticks(ticks: &[u32]) -> Self {
        let ns_per_tick = 1e9 / clock::measured_hz() as f64;
        let ns = ticks.iter().map(|ticks| f64::from(*ticks) * ns_per_tick);
        Self::sorted(ns.collect())
    }

    /// All together.
    #[must_use]
    pub fn merged<'a>(all: impl Iterator<Item = &'a Self>) -> Self {
        Self::sorted(all.flat_map(|stalls| &stalls.0).copied().collect())
    }

    fn sorted(mut ns: Vec<f64>) -> Self {
        ns.sort_by(f64::total_cmp);
        Self(ns)
    }

    /// How many.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.len() as u64
    }

    /// The longest; none of none.
    #[must_use]
    pub fn longest(&self) -> Option<f64> {
        self.0.last().copied()
    }

    /// Their sum.
    #[must_use]
    pub fn sum(&self) -> f64 {
        self.0.iter().sum()
    }

    /// The one at `part` of ten thousand.
    fn percentile(&self, part: usize) -> Option<f64> {
        let last = self.0.len().checked_sub(1)?;
        self.0.get(last * part / 10_000).copied()
    }

    /// The median; none of none.
    #[must_use]
    pub fn median(&self) -> Option<f64> {
        self.percentile(SHOWN[0])
    }
}

/// How many, p50, p90, p99, p99.9 and the longest, in µs.
impl fmt::Display for Stalls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>7}", self.0.len())?;
        let shown = SHOWN.map(|part| self.percentile(part));
        for ns in shown.into_iter().chain([self.longest()]) {
            match ns {
                Some(ns) => write!(f, "  {:>7.1}", ns / 1e3)?,
                None => write!(f, "  {:>7}", "-")?,
            }
        }
        Ok(())
    }
}
