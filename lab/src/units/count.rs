//! Counts of things of which there must be at least one.

use super::ValueError;
use std::fmt;
use std::str::FromStr;

/// A count in `1..=most`.
///
/// # Errors
/// [`ValueError::Malformed`] for what is no whole number, [`ValueError::OutOfBounds`] with `remedy`.
pub(super) fn parse_count(
    text: &str,
    most: u16,
    expected: &'static str,
    remedy: &str,
) -> Result<u16, ValueError> {
    let digits = text.trim();
    let unsigned = digits.strip_prefix('-').unwrap_or(digits);
    if unsigned.is_empty() || !unsigned.bytes().all(|b| b.is_ascii_digit()) {
        return Err(ValueError::Malformed {
            value: text.to_owned(),
            expected,
            example: "1",
        });
    }
    match digits.parse::<u16>() {
        Ok(count) if (1..=most).contains(&count) => Ok(count),
        _ => Err(ValueError::OutOfBounds {
            value: text.to_owned(),
            least: "1".to_owned(),
            most: most.to_string(),
            remedy: remedy.to_owned(),
        }),
    }
}

macro_rules! count {
    ($(#[$doc:meta])* $name:ident, $most:expr, $expected:literal, $remedy:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(u16);

        impl $name {
            /// The most that is accepted.
            pub const MOST: u16 = $most;

            /// `count`, brought into `1..=MOST`.
            #[must_use]
            pub fn clamped(count: usize) -> Self {
                Self(count.clamp(1, usize::from(Self::MOST)) as u16)
            }

            /// The count: at least 1, at most [`Self::MOST`].
            #[must_use]
            pub const fn get(self) -> u16 {
                self.0
            }
        }

        impl FromStr for $name {
            type Err = ValueError;

            fn from_str(text: &str) -> Result<Self, ValueError> {
                parse_count(text, Self::MOST, $expected, $remedy).map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

pub(super) use count;

count!(
    /// vCPUs: 1 to what the contract with the guest carries.
    CpuCount,
    underfoot_abi::MAX_CPUS as u16,
    "a number of vCPUs",
    "ask for as many vCPUs as the host has CPUs, or a few times that"
);

count!(
    /// Mover threads.
    MoverCount,
    64,
    "a number of mover threads",
    "one mover is the default; two share one address space and slow each other down"
);

count!(
    /// userfaultfds that guest memory is shared among.
    UffdCount,
    64,
    "a number of userfaultfds",
    "one is the default; more than vCPUs serve nobody better"
);

count!(
    /// Blocks of guest memory that are unplugged from the engine and plugged again per second.
    ReplugRate,
    10_000,
    "a number of blocks per second",
    "leave it out to have all of guest memory plugged"
);

count!(
    /// vCPUs that share one host CPU.
    VcpusPerCpu,
    underfoot_abi::MAX_CPUS as u16,
    "a number of vCPUs for each host CPU",
    "2 has two vCPUs on each CPU; leave it out to bind none"
);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn bounds() {
        assert_eq!("64".parse::<CpuCount>().map(CpuCount::get), Ok(64));
        for text in ["0", "65", "10000", "99999999999", "-1"] {
            let message = text.parse::<CpuCount>().expect_err(text).to_string();
            assert!(
                message.contains(text) && message.contains("1 to 64"),
                "{message}"
            );
        }
        assert!("two".parse::<CpuCount>().is_err());
        assert_eq!(CpuCount::clamped(0).get(), 1);
        assert_eq!(CpuCount::clamped(10_000).get(), 64);
    }

    proptest! {
        #[test]
        fn never_panics(text in "\\PC*|-?[0-9]{0,24}") {
            let _ = (text.parse::<CpuCount>(), text.parse::<MoverCount>());
        }

        #[test]
        fn round_trips(count in 1u16..=64) {
            prop_assert_eq!(CpuCount(count).to_string().parse(), Ok(CpuCount(count)));
            prop_assert_eq!(MoverCount(count).to_string().parse(), Ok(MoverCount(count)));
        }
    }
}
