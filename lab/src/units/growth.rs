//! How much more something may be.

use super::ValueError;
use super::decimal::{Scaled, scale, split_unit};
use std::str::FromStr;

const MOST_PERCENT: u64 = 10_000;

/// A share on top of what there is, 0 to 10000 % in steps of 0.01 %, written `10` or `10%`: unlike a
/// [`Percent`](super::Percent) it may be more than the whole, and in per cent without saying so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Growth {
    hundredths: u32,
}

impl Growth {
    /// `percent` more.
    #[must_use]
    pub const fn new(percent: u16) -> Self {
        Self {
            hundredths: percent as u32 * 100,
        }
    }

    /// As a share: 0.1 for 10 %.
    #[must_use]
    pub fn share(self) -> f64 {
        f64::from(self.hundredths) / 1e4
    }
}

impl FromStr for Growth {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let (number, unit) = split_unit(text);
        let malformed = || ValueError::Malformed {
            value: text.to_owned(),
            expected: "a percentage",
            example: "10%",
        };
        if number.is_empty() || !matches!(unit, "" | "%") {
            return Err(malformed());
        }
        match scale(number, 100) {
            Scaled::Whole(hundredths) if hundredths <= MOST_PERCENT * 100 => Ok(Self {
                hundredths: hundredths as u32,
            }),
            Scaled::Fraction(hundredths) if hundredths < MOST_PERCENT * 100 => {
                Err(ValueError::NotWhole {
                    value: text.to_owned(),
                    grain: "0.01%".to_owned(),
                    example: format!("{}.{:02}%", hundredths / 100, hundredths % 100),
                })
            }
            Scaled::Malformed => Err(malformed()),
            _ => Err(ValueError::OutOfBounds {
                value: text.to_owned(),
                least: "0%".to_owned(),
                most: format!("{MOST_PERCENT}%"),
                remedy: "write how much worse is still allowed".to_owned(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn with_and_without_unit() {
        for (text, share) in [
            ("10", 0.1),
            ("10%", 0.1),
            ("0", 0.0),
            ("2.5 %", 0.025),
            ("300", 3.0),
        ] {
            assert_eq!(text.parse::<Growth>().expect(text).share(), share, "{text}");
        }
        for (text, part) in [
            ("-1", "not a percentage"),
            ("10ms", "not a percentage"),
            ("", "not a percentage"),
            ("10001", "outside 0% to 10000%"),
            ("0.001", "multiple of 0.01%"),
        ] {
            let message = text.parse::<Growth>().expect_err(text).to_string();
            assert!(
                message.contains(part) && message.contains(text),
                "{message}"
            );
        }
    }
}
