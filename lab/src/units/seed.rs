//! The seed of every random choice.

use super::ValueError;
use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::str::FromStr;

/// A seed, written in decimal or, with `0x`, in hexadecimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Seed(pub u64);

impl Seed {
    /// Draws a seed that was not used before, as far as chance goes. Drawn seeds have 32 bits, so
    /// that they are easy to type and every JSON reader keeps them whole.
    #[must_use]
    pub fn draw() -> Self {
        // `RandomState` is keyed from the system's randomness once per process and differs per use.
        let mut hasher = RandomState::new().build_hasher();
        hasher.write_u32(std::process::id());
        Self(hasher.finish() >> 32)
    }
}

impl FromStr for Seed {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let trimmed = text.trim();
        let parsed = match trimmed.strip_prefix("0x") {
            Some(digits) if digits.bytes().all(|b| b.is_ascii_hexdigit()) => {
                u64::from_str_radix(digits, 16)
            }
            _ if trimmed.starts_with('+') => "".parse(),
            _ => trimmed.parse(),
        };
        parsed.map(Self).map_err(|_| ValueError::Malformed {
            value: text.to_owned(),
            expected: "a seed, a number of 64 bits",
            example: "42",
        })
    }
}

impl fmt::Display for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_both_bases() {
        assert_eq!("0x2a".parse(), Ok(Seed(42)));
        assert_eq!("42".parse(), Ok(Seed(42)));
        for text in ["", "0x", "+1", "-1", "0x+1", "18446744073709551616"] {
            assert!(text.parse::<Seed>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in "\\PC*|(0x)?[0-9a-f]{0,24}") {
            let _ = text.parse::<Seed>();
        }

        #[test]
        fn round_trips(seed in any::<u64>()) {
            prop_assert_eq!(Seed(seed).to_string().parse(), Ok(Seed(seed)));
        }
    }
}
