//! Threads that take CPU time from the guest on purpose.

use super::ValueError;
use super::count::parse_count;
use std::fmt;
use std::str::FromStr;

const EXAMPLE: &str = "2:50:10";
const EXPECTED: &str = "a number of antagonists, with their duty in percent and their nice value";
const MOST: u16 = 64;
const MOST_DUTY: u16 = 100;
const LEAST_NICE: i8 = -20;
const MOST_NICE: i8 = 19;

/// Antagonists, written `N`, `N:DUTY` or `N:DUTY:NICE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Antagonists {
    count: u8,
    duty: u8,
    nice: Option<i8>,
}

impl Antagonists {
    /// How many: 1 to 64.
    #[must_use]
    pub const fn count(self) -> usize {
        self.count as usize
    }

    /// The share of each period in which each wants a CPU, in percent: 1 to 100.
    #[must_use]
    pub const fn duty(self) -> u8 {
        self.duty
    }

    /// The nice value of each, -20 to 19; `None` leaves the inherited one.
    #[must_use]
    pub const fn nice(self) -> Option<i8> {
        self.nice
    }
}

impl FromStr for Antagonists {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let whole = |error: ValueError| match error {
            // The part that is wrong, where it is a number; else the whole, with what it should have been.
            ValueError::Malformed { .. } => ValueError::Malformed {
                value: text.to_owned(),
                expected: EXPECTED,
                example: EXAMPLE,
            },
            other => other,
        };
        let count = |part: &str, most: u16, remedy: &str| {
            let number = parse_count(part, most, EXPECTED, remedy).map_err(whole)?;
            // Both bounds are below 256.
            Ok::<_, ValueError>(number as u8)
        };
        let mut parts = text.splitn(3, ':');
        let number = parts.next().unwrap_or_default();
        Ok(Self {
            count: count(
                number,
                MOST,
                "as many as the vCPUs have CPUs take half of their time",
            )?,
            duty: match parts.next() {
                None => MOST_DUTY as u8,
                Some(duty) => count(
                    duty,
                    MOST_DUTY,
                    "the duty is a share of each CPU in percent, 100 is the default",
                )?,
            },
            nice: parts
                .next()
                .map(|nice| parse_nice(nice).map_err(whole))
                .transpose()?,
        })
    }
}

fn parse_nice(text: &str) -> Result<i8, ValueError> {
    let digits = text.trim();
    let unsigned = digits.strip_prefix('-').unwrap_or(digits);
    if unsigned.is_empty() || !unsigned.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(ValueError::Malformed {
            value: text.to_owned(),
            expected: EXPECTED,
            example: EXAMPLE,
        });
    }
    match digits.parse() {
        Ok(nice) if (LEAST_NICE..=MOST_NICE).contains(&nice) => Ok(nice),
        _ => Err(ValueError::OutOfBounds {
            value: text.to_owned(),
            least: LEAST_NICE.to_string(),
            most: MOST_NICE.to_string(),
            remedy: "nice values go from the most pressing to the most patient; leave it out for that of this process"
                .to_owned(),
        }),
    }
}

impl fmt::Display for Antagonists {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { count, duty, nice } = self;
        match nice {
            Some(nice) => write!(f, "{count}:{duty}:{nice}"),
            None if u16::from(*duty) == MOST_DUTY => write!(f, "{count}"),
            None => write!(f, "{count}:{duty}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn forms() {
        for (text, count, duty, nice) in [
            ("1", 1, 100, None),
            ("64:1", 64, 1, None),
            ("2:50:-20", 2, 50, Some(-20)),
            ("2:100:19", 2, 100, Some(19)),
        ] {
            let read = Antagonists { count, duty, nice };
            assert_eq!(text.parse(), Ok(read));
            assert_eq!(read.to_string(), text);
        }
        assert_eq!(
            "3:100".parse::<Antagonists>().map(|read| read.to_string()),
            Ok("3".to_owned())
        );
    }

    #[test]
    fn refusals() {
        for (text, parts) in [
            ("0", ["`0`", "1 to 64"]),
            ("65", ["`65`", "1 to 64"]),
            (
                "99999999999999999999",
                ["`99999999999999999999`", "1 to 64"],
            ),
            ("2:0", ["`0`", "1 to 100"]),
            ("2:101", ["`101`", "1 to 100"]),
            ("2:50:20", ["`20`", "-20 to 19"]),
            ("2:50:-21", ["`-21`", "-20 to 19"]),
            ("2:50:999", ["`999`", "-20 to 19"]),
            ("", ["``", EXAMPLE]),
            ("two", ["`two`", EXAMPLE]),
            ("2:", ["`2:`", EXAMPLE]),
            ("2:50:", ["`2:50:`", EXAMPLE]),
            ("2:50%", ["`2:50%`", EXAMPLE]),
            ("2:50:1:1", ["`2:50:1:1`", EXAMPLE]),
        ] {
            let message = text.parse::<Antagonists>().expect_err(text).to_string();
            for part in parts {
                assert!(message.contains(part), "{part} not in {message}");
            }
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in "\\PC*|(-?[0-9]{0,6}:?){0,4}") {
            let _ = text.parse::<Antagonists>();
        }

        #[test]
        fn round_trips(count in 1u8..=64, duty in 1u8..=100, nice in proptest::option::of(-20i8..=19)) {
            let read = Antagonists { count, duty, nice };
            prop_assert_eq!(read.to_string().parse(), Ok(read));
        }
    }
}
