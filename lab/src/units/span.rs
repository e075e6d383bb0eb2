//! A span of time.

use super::ValueError;
use super::decimal::{Scaled, scale, split_unit};
use std::fmt;
use std::str::FromStr;

const UNITS: &str = "ns, us, ms, s, m";
const EXAMPLE: &str = "10s";

/// Unit and its nanoseconds, the largest first.
const SCALES: [(&str, u64); 5] = [
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

/// A span of time in whole nanoseconds, written with a unit: `10s`, `500ms`, `2us`, `1.5m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(u64);

impl Span {
    /// A span of `ns` nanoseconds.
    #[must_use]
    pub const fn from_ns(ns: u64) -> Self {
        Self(ns)
    }

    /// A span of `ms` milliseconds.
    #[must_use]
    pub const fn from_ms(ms: u64) -> Self {
        Self(ms * 1_000_000)
    }

    /// Its length in nanoseconds.
    #[must_use]
    pub const fn ns(self) -> u64 {
        self.0
    }

    /// The same as a [`std::time::Duration`].
    #[must_use]
    pub const fn duration(self) -> std::time::Duration {
        std::time::Duration::from_nanos(self.0)
    }

    /// The same span, if it lies in `least..=most`.
    ///
    /// # Errors
    /// [`ValueError::OutOfBounds`] with `remedy`.
    pub fn within(self, least: Self, most: Self, remedy: &str) -> Result<Self, ValueError> {
        if (least..=most).contains(&self) {
            return Ok(self);
        }
        Err(ValueError::OutOfBounds {
            value: self.to_string(),
            least: least.to_string(),
            most: most.to_string(),
            remedy: remedy.to_owned(),
        })
    }
}

impl FromStr for Span {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let malformed = || ValueError::Malformed {
            value: text.to_owned(),
            expected: "a time",
            example: EXAMPLE,
        };
        let (number, unit) = split_unit(text);
        if number.is_empty() {
            return Err(malformed());
        }
        if unit.is_empty() {
            return Err(ValueError::NoUnit {
                value: text.to_owned(),
                units: UNITS,
                example: EXAMPLE,
            });
        }
        let unit_ns = match SCALES.iter().find(|(name, _)| *name == unit) {
            Some((_, ns)) => *ns,
            None if unit == "µs" => 1_000,
            None => {
                return Err(ValueError::UnknownUnit {
                    value: text.to_owned(),
                    unit: unit.to_owned(),
                    units: UNITS,
                    example: EXAMPLE,
                });
            }
        };
        match scale(number, unit_ns) {
            Scaled::Whole(ns) => Ok(Self(ns)),
            Scaled::Fraction(ns) => Err(ValueError::NotWhole {
                value: text.to_owned(),
                grain: "1ns".to_owned(),
                example: Self(ns).to_string(),
            }),
            Scaled::TooLarge => Err(ValueError::OutOfBounds {
                value: text.to_owned(),
                least: Self(0).to_string(),
                most: Self(u64::MAX).to_string(),
                remedy: "write a shorter time".to_owned(),
            }),
            Scaled::Malformed => Err(malformed()),
        }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, ns) = SCALES
            .into_iter()
            .find(|(_, ns)| self.0 != 0 && self.0.is_multiple_of(*ns))
            .unwrap_or(("ns", 1));
        write!(f, "{}{unit}", self.0 / ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_every_unit() {
        for (text, ns) in [
            ("7ns", 7),
            ("2us", 2_000),
            ("2µs", 2_000),
            ("500 ms", 500_000_000),
            ("0.5s", 500_000_000),
            ("1.5m", 90_000_000_000),
        ] {
            assert_eq!(text.parse(), Ok(Span(ns)), "{text}");
        }
    }

    #[test]
    fn refusals_name_value_and_remedy() {
        for (text, part) in [
            ("10", "no unit"),
            ("5parsecs", "`parsecs`"),
            ("", "not a time"),
            ("-1s", "not a time"),
            ("0.5ns", "multiple of 1ns"),
            ("99999999999999999999s", "outside"),
        ] {
            let message = text.parse::<Span>().expect_err(text).to_string();
            assert!(
                message.contains(part) && message.contains(text),
                "{message}"
            );
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in "\\PC*") {
            let _ = text.parse::<Span>();
        }

        #[test]
        fn near_misses_never_panic(text in "[0-9.]{0,24} ?(ns|us|ms|s|m|%)?") {
            let _ = text.parse::<Span>();
        }

        #[test]
        fn round_trips(ns in any::<u64>()) {
            prop_assert_eq!(Span(ns).to_string().parse(), Ok(Span(ns)));
        }
    }
}
