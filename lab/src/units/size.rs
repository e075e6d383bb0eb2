//! A size in memory.

use super::ValueError;
use super::decimal::{Scaled, scale, split_unit};
use std::fmt;
use std::str::FromStr;

const UNITS: &str = "KiB, MiB, GiB, TiB";
const EXAMPLE: &str = "64MiB";
const KIB: u64 = 1 << 10;

/// Unit and its KiB, the largest first.
const SCALES: [(&str, u64); 4] = [
    ("TiB", 1 << 30),
    ("GiB", 1 << 20),
    ("MiB", 1 << 10),
    ("KiB", 1),
];

/// A size in whole KiB, written with a unit: `64MiB`, `1.5GiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Size {
    kib: u64,
}

impl Size {
    /// A size of `kib` KiB, at most `u64::MAX / 1024` (more saturates).
    #[must_use]
    pub const fn from_kib(kib: u64) -> Self {
        let most = u64::MAX / KIB;
        Self {
            kib: if kib < most { kib } else { most },
        }
    }

    /// A size of `mib` MiB.
    #[must_use]
    pub const fn from_mib(mib: u64) -> Self {
        Self::from_kib(mib.saturating_mul(1 << 10))
    }

    /// In bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.kib * KIB
    }

    /// The same size, if it lies in `least..=most`.
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

    /// The same size, if it is a multiple of `grain`.
    ///
    /// # Errors
    /// [`ValueError::NotWhole`], with the next smaller multiple (or one grain) as the example.
    pub fn aligned_to(self, grain: Self) -> Result<Self, ValueError> {
        if self.kib.is_multiple_of(grain.kib.max(1)) {
            return Ok(self);
        }
        let below = (self.kib / grain.kib).max(1) * grain.kib;
        Err(ValueError::NotWhole {
            value: self.to_string(),
            grain: grain.to_string(),
            example: Self::from_kib(below).to_string(),
        })
    }
}

impl FromStr for Size {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let malformed = || ValueError::Malformed {
            value: text.to_owned(),
            expected: "a size",
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
        let Some((_, unit_kib)) = SCALES.iter().find(|(name, _)| *name == unit) else {
            return Err(ValueError::UnknownUnit {
                value: text.to_owned(),
                unit: unit.to_owned(),
                units: UNITS,
                example: EXAMPLE,
            });
        };
        match scale(number, *unit_kib) {
            Scaled::Whole(kib) if kib <= u64::MAX / KIB => Ok(Self { kib }),
            Scaled::Fraction(kib) => Err(ValueError::NotWhole {
                value: text.to_owned(),
                grain: "1KiB".to_owned(),
                example: Self::from_kib(kib).to_string(),
            }),
            Scaled::Whole(_) | Scaled::TooLarge => Err(ValueError::OutOfBounds {
                value: text.to_owned(),
                least: Self { kib: 0 }.to_string(),
                most: Self::from_kib(u64::MAX).to_string(),
                remedy: "write a smaller size".to_owned(),
            }),
            Scaled::Malformed => Err(malformed()),
        }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, kib) = SCALES
            .into_iter()
            .find(|(_, kib)| self.kib != 0 && self.kib.is_multiple_of(*kib))
            .unwrap_or(("KiB", 1));
        write!(f, "{}{unit}", self.kib / kib)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_every_unit() {
        for (text, kib) in [
            ("4KiB", 4),
            ("64MiB", 64 << 10),
            ("1.5 GiB", 3 << 19),
            ("1TiB", 1 << 30),
        ] {
            assert_eq!(text.parse(), Ok(Size { kib }), "{text}");
        }
    }

    #[test]
    fn refusals_name_value_and_remedy() {
        for (text, part) in [
            ("64", "no unit"),
            ("64MB", "`MB`"),
            ("lots", "not a size"),
            ("0.0001MiB", "multiple of 1KiB"),
            ("99999999999999TiB", "outside"),
        ] {
            let message = text.parse::<Size>().expect_err(text).to_string();
            assert!(
                message.contains(part) && message.contains(text),
                "{message}"
            );
        }
    }

    #[test]
    fn alignment_suggests_a_multiple() {
        let page = Size::from_kib(4);
        let error = Size::from_kib(65_537).aligned_to(page).expect_err("odd");
        assert!(error.to_string().contains("`64MiB`"), "{error}");
        assert_eq!(page.aligned_to(page), Ok(page));
    }

    proptest! {
        #[test]
        fn never_panics(text in "\\PC*") {
            let _ = text.parse::<Size>();
        }

        #[test]
        fn near_misses_never_panic(text in "[0-9.]{0,24} ?(KiB|MiB|GiB|TiB|M)?") {
            let _ = text.parse::<Size>();
        }

        #[test]
        fn round_trips(kib in any::<u64>()) {
            let size = Size::from_kib(kib);
            prop_assert_eq!(size.to_string().parse(), Ok(size));
        }
    }
}
