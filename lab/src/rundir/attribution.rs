//! What stalls were made of, as a run's directory tells it.

use serde::Deserialize;
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// The cause that is none.
pub const UNEXPLAINED: &str = "unexplained";

/// Stalled time by cause.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct StoredCauses {
    /// All of it.
    pub stalled_ns: u64,
    /// Its parts.
    pub causes: BTreeMap<String, u64>,
}

impl StoredCauses {
    /// The causes, unexplained first, then by their time: name, ns and share (0 to 1) of the stalled time.
    #[must_use]
    pub fn shares(&self) -> Vec<(&str, u64, f64)> {
        let whole = self.stalled_ns.max(1) as f64;
        let causes = self.causes.iter();
        let mut causes: Vec<_> = causes
            .map(|(name, ns)| (name.as_str(), *ns, *ns as f64 / whole))
            .collect();
        causes.sort_by_key(|(name, ns, _)| (*name != UNEXPLAINED, Reverse(*ns)));
        causes
    }
}

/// What the stalls of a run were made of.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct StoredAttribution {
    /// The moving phase.
    #[serde(flatten)]
    pub moving: StoredCauses,
    /// The control phase, where it is told.
    pub control: Option<StoredCauses>,
    /// The longest stalls of the moving phase, where they are told.
    pub tail: Option<StoredTail>,
    /// What windows at the wrong times would have explained, where it was tried.
    pub placebo: Option<StoredPlacebo>,
}

/// The longest thousandth of the stalls.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct StoredTail {
    /// The shortest of them.
    pub from_ns: u64,
    /// How many.
    pub stalls: u64,
    /// Their time.
    #[serde(flatten)]
    pub causes: StoredCauses,
}

/// Shares (0 to 1) of the stalled time: a number alone, or both.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum StoredPlacebo {
    /// What windows at random times explain.
    Share(f64),
    /// Beside what the real ones explain.
    Beside {
        /// At random times.
        share: f64,
        /// At their own.
        real_share: Option<f64>,
    },
}

impl StoredPlacebo {
    /// What windows at random times explain.
    #[must_use]
    pub const fn share(self) -> f64 {
        match self {
            Self::Share(share) | Self::Beside { share, .. } => share,
        }
    }

    /// What they explain at their own, where it is told.
    #[must_use]
    pub const fn real_share(self) -> Option<f64> {
        match self {
            Self::Share(_) => None,
            Self::Beside { real_share, .. } => real_share,
        }
    }
}
