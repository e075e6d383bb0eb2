//! Which kinds of pages move.

use crate::names::{Named, parse_name};
use crate::units::ValueError;
use std::fmt;
use std::str::FromStr;
use underfoot_abi::PageKind;

/// A set of page kinds, never empty, written `all` or `slab,page-table`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Targets(Vec<PageKind>);

impl Targets {
    /// Every kind that can move.
    #[must_use]
    pub fn all() -> Self {
        Self(PageKind::TARGETS.to_vec())
    }

    /// The kinds, each once, in the order of [`PageKind::TARGETS`].
    #[must_use]
    pub fn kinds(&self) -> &[PageKind] {
        &self.0
    }
}

impl FromStr for Targets {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        if text.trim() == "all" {
            return Ok(Self::all());
        }
        let mut kinds = text
            .split(',')
            .map(parse_name)
            .collect::<Result<Vec<PageKind>, _>>()?;
        kinds.sort_unstable();
        kinds.dedup();
        Ok(Self(kinds))
    }
}

impl fmt::Display for Targets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.len() == PageKind::TARGETS.len() {
            return f.write_str("all");
        }
        let names: Vec<&str> = self.0.iter().map(|kind| Named::name(*kind)).collect();
        f.write_str(&names.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_lists() {
        let targets: Targets = "page-table, slab,slab".parse().expect("two kinds");
        assert_eq!(targets.kinds(), [PageKind::Slab, PageKind::PageTable]);
        assert_eq!("all".parse(), Ok(Targets::all()));
        for text in ["", "slab,", "reserved", "slab;text"] {
            assert!(text.parse::<Targets>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in "\\PC*") {
            let _ = text.parse::<Targets>();
        }

        #[test]
        fn round_trips(kinds in proptest::sample::subsequence(PageKind::TARGETS.to_vec(), 1..=10)) {
            let targets = Targets(kinds);
            prop_assert_eq!(targets.to_string().parse(), Ok(targets));
        }
    }
}
