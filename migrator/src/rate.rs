//! How fast pages are moved.

use std::fmt;
use std::num::NonZeroU64;
use std::str::FromStr;

use crate::clock::Tsc;

/// Pages per second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Rate {
    /// As fast as it goes.
    #[default]
    Max,
    /// At most so many, each mover by itself.
    PagesPerSecond(NonZeroU64),
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Max => f.write_str("max"),
            Self::PagesPerSecond(rate) => write!(f, "{rate}"),
        }
    }
}

/// A rate that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("rate {given:?}: it is \"max\" or a number of pages per second, at least 1")]
pub struct RateError {
    /// What was given.
    pub given: String,
}

impl FromStr for Rate {
    type Err = RateError;

    fn from_str(given: &str) -> Result<Self, RateError> {
        match (given, given.parse()) {
            ("max", _) => Ok(Self::Max),
            (_, Ok(rate)) => Ok(Self::PagesPerSecond(rate)),
            _ => Err(RateError {
                given: given.to_owned(),
            }),
        }
    }
}

/// After how long a mover that fell behind stops catching up, as a fraction of a second.
const CATCH_UP_DIVISOR: u64 = 100;

/// Spaces windows so that pages keep to the rate.
pub(crate) struct Limiter {
    rate: Option<NonZeroU64>,
    hz: u64,
    began: Tsc,
    pages: u64,
}

impl Limiter {
    /// A limiter that begins at `now` on a clock of `hz` ticks per second.
    pub(crate) fn new(rate: Rate, hz: u64, now: Tsc) -> Self {
        Self {
            rate: match rate {
                Rate::Max => None,
                Rate::PagesPerSecond(rate) => Some(rate),
            },
            hz,
            began: now,
            pages: 0,
        }
    }

    /// Ticks to wait before the next page. The clock is read only if there is a rate to keep.
    pub(crate) fn wait(&mut self, clock: impl FnOnce() -> Tsc) -> u64 {
        let Some(rate) = self.rate else { return 0 };
        let now = clock();
        let due = u128::from(self.pages) * u128::from(self.hz) / u128::from(rate.get());
        let due = self
            .began
            .saturating_add(u64::try_from(due).unwrap_or(u64::MAX));
        if now > due.saturating_add(self.hz / CATCH_UP_DIVISOR) {
            // Too far behind: what was missed is not made up for in one burst.
            self.began = now;
            self.pages = 0;
            return 0;
        }
        due.saturating_sub(now)
    }

    /// `pages` pages were moved.
    pub(crate) fn count(&mut self, pages: u32) {
        self.pages += u64::from(pages);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limiter(rate: u64) -> Limiter {
        let rate = NonZeroU64::new(rate).expect("a rate");
        Limiter::new(Rate::PagesPerSecond(rate), 1_000_000, 500)
    }

    #[test]
    fn pages_are_spaced_by_the_rate_whatever_the_batch() {
        for batch in [1, 7, 32] {
            let mut limiter = limiter(1000);
            let (mut now, mut pages) = (500, 0);
            while pages < 7 * 32 * 10 {
                now += limiter.wait(|| now);
                assert_eq!(now, 500 + u64::from(pages) * 1000, "a page a millisecond");
                limiter.count(batch);
                pages += batch;
            }
        }
    }

    #[test]
    fn rates_are_parsed_as_they_are_written() {
        for text in ["max", "1", "250000"] {
            assert_eq!(text.parse::<Rate>().expect(text).to_string(), text);
        }
        for text in ["0", "-1", "1k", ""] {
            let error = text.parse::<Rate>().expect_err(text);
            assert!(error.to_string().contains("at least 1"));
        }
    }

    #[test]
    fn who_falls_behind_does_not_burst() {
        let mut limiter = limiter(1000);
        limiter.count(1);
        assert_eq!(limiter.wait(|| 1_000_000), 0);
        limiter.count(1);
        assert_eq!(limiter.wait(|| 1_000_000), 1000);
        let mut max = Limiter::new(Rate::Max, 1_000_000, 0);
        max.count(512);
        assert_eq!(max.wait(|| unreachable!("no clock is needed")), 0);
    }
}
