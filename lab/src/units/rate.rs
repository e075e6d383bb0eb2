//! How fast pages move.

use super::ValueError;
use std::fmt;
use std::num::NonZeroU64;
use std::str::FromStr;

const MOST: u64 = 100_000_000;

/// Pages per second over all movers, or as fast as they can.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rate {
    /// As fast as the movers can.
    Max,
    /// At most so many pages per second, written `5000` or `5000/s`.
    PagesPerSecond(NonZeroU64),
}

impl Rate {
    /// The limit in pages per second; `None` for `max`.
    #[must_use]
    pub const fn pages_per_second(self) -> Option<NonZeroU64> {
        match self {
            Self::Max => None,
            Self::PagesPerSecond(pages) => Some(pages),
        }
    }
}

impl FromStr for Rate {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let trimmed = text.trim();
        if trimmed == "max" {
            return Ok(Self::Max);
        }
        let number = trimmed.strip_suffix("/s").unwrap_or(trimmed).trim_end();
        if number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit()) {
            return Err(ValueError::Malformed {
                value: text.to_owned(),
                expected: "a rate in pages per second or `max`",
                example: "5000/s",
            });
        }
        number
            .parse()
            .ok()
            .filter(|pages: &u64| *pages <= MOST)
            .and_then(NonZeroU64::new)
            .map(Self::PagesPerSecond)
            .ok_or_else(|| ValueError::OutOfBounds {
                value: text.to_owned(),
                least: "1/s".to_owned(),
                most: format!("{MOST}/s"),
                remedy: "write `max` for as fast as can be, or `--strategy none` to move nothing"
                    .to_owned(),
            })
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Max => f.write_str("max"),
            Self::PagesPerSecond(pages) => write!(f, "{pages}/s"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn bounds() {
        assert_eq!("max".parse(), Ok(Rate::Max));
        assert_eq!("5000".parse::<Rate>(), "5000/s".parse());
        for text in ["0", "0/s", "100000001/s", "99999999999999999999999"] {
            let message = text.parse::<Rate>().expect_err(text).to_string();
            assert!(message.contains("outside 1/s to"), "{message}");
        }
        for text in ["", "fast", "-1", "1.5", "/s"] {
            assert!(text.parse::<Rate>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in "\\PC*|[0-9]{0,24}(/s)?") {
            let _ = text.parse::<Rate>();
        }

        #[test]
        fn round_trips(pages in 1..=MOST) {
            let rate = Rate::PagesPerSecond(NonZeroU64::new(pages).expect("not 0"));
            prop_assert_eq!(rate.to_string().parse(), Ok(rate));
        }
    }
}
