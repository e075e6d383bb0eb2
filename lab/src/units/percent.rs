//! A share.

use super::ValueError;
use super::decimal::{Scaled, scale, split_unit};
use std::fmt;
use std::str::FromStr;

const WHOLE: u64 = 10_000;
const EXAMPLE: &str = "20%";

/// A share of a whole, 0 to 100 % in steps of 0.01 %, written `20%` or `12.5 %`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Percent {
    hundredths: u16,
}

impl Percent {
    /// A share of `percent` hundredths of the whole; more than 100 counts as 100.
    #[must_use]
    pub const fn new(percent: u8) -> Self {
        let percent = if percent > 100 { 100 } else { percent };
        Self {
            hundredths: percent as u16 * 100,
        }
    }

    /// This share of `value`, rounded down.
    #[must_use]
    pub fn of(self, value: u64) -> u64 {
        let part = u128::from(value) * u128::from(self.hundredths) / u128::from(WHOLE);
        // At most the whole, so it fits.
        part as u64
    }
}

impl FromStr for Percent {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let (number, unit) = split_unit(text);
        let malformed = || ValueError::Malformed {
            value: text.to_owned(),
            expected: "a percentage",
            example: EXAMPLE,
        };
        let out_of_bounds = || ValueError::OutOfBounds {
            value: text.to_owned(),
            least: "0%".to_owned(),
            most: "100%".to_owned(),
            remedy: "write a share of the whole".to_owned(),
        };
        match unit {
            _ if number.is_empty() => return Err(malformed()),
            "%" => {}
            "" => {
                return Err(ValueError::NoUnit {
                    value: text.to_owned(),
                    units: "%",
                    example: EXAMPLE,
                });
            }
            _ => {
                return Err(ValueError::UnknownUnit {
                    value: text.to_owned(),
                    unit: unit.to_owned(),
                    units: "%",
                    example: EXAMPLE,
                });
            }
        }
        match scale(number, 100) {
            Scaled::Whole(hundredths) if hundredths <= WHOLE => Ok(Self {
                hundredths: hundredths as u16,
            }),
            Scaled::Fraction(hundredths) if hundredths < WHOLE => Err(ValueError::NotWhole {
                value: text.to_owned(),
                grain: "0.01%".to_owned(),
                example: Self {
                    hundredths: hundredths as u16,
                }
                .to_string(),
            }),
            Scaled::Whole(_) | Scaled::Fraction(_) | Scaled::TooLarge => Err(out_of_bounds()),
            Scaled::Malformed => Err(malformed()),
        }
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, part) = (self.hundredths / 100, self.hundredths % 100);
        if part == 0 {
            write!(f, "{whole}%")
        } else {
            write!(f, "{whole}.{part:02}%")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn bounds_and_units() {
        assert_eq!("20 %".parse(), Ok(Percent::new(20)));
        assert_eq!(Percent::new(20).of(10_000_000_000), 2_000_000_000);
        assert_eq!(Percent::new(100).of(u64::MAX), u64::MAX);
        for (text, part) in [
            ("101%", "outside 0% to 100%"),
            ("100.01%", "outside"),
            ("20", "no unit"),
            ("20 per cent", "unknown unit"),
            ("0.001%", "multiple of 0.01%"),
            ("-1%", "not a percentage"),
        ] {
            let message = text.parse::<Percent>().expect_err(text).to_string();
            assert!(
                message.contains(part) && message.contains(text),
                "{message}"
            );
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in "\\PC*|[0-9.]{0,24} ?%?") {
            let _ = text.parse::<Percent>();
        }

        #[test]
        fn round_trips(hundredths in 0u16..=10_000) {
            let share = Percent { hundredths };
            prop_assert_eq!(share.to_string().parse(), Ok(share));
        }
    }
}
