//! Why a value was refused.

/// A value that was refused: what it was, the bound that it broke, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// A number without the unit that it needs.
    #[error(
        "`{value}` has no unit: write one of {units} after the number, for example `{example}`"
    )]
    NoUnit {
        /// What was written.
        value: String,
        /// The units that are known.
        units: &'static str,
        /// A value that would do.
        example: &'static str,
    },
    /// A unit that is not one of those known.
    #[error(
        "`{value}` has the unknown unit `{unit}`: write one of {units}, for example `{example}`"
    )]
    UnknownUnit {
        /// What was written.
        value: String,
        /// Its unit.
        unit: String,
        /// The units that are known.
        units: &'static str,
        /// A value that would do.
        example: &'static str,
    },
    /// Not of the form that is asked for.
    #[error("`{value}` is not {expected}: write for example `{example}`")]
    Malformed {
        /// What was written.
        value: String,
        /// What it should have been.
        expected: &'static str,
        /// A value that would do.
        example: &'static str,
    },
    /// Finer than what can be kept.
    #[error("`{value}` is not a whole multiple of {grain}: round it, for example to `{example}`")]
    NotWhole {
        /// What was written.
        value: String,
        /// The finest step.
        grain: String,
        /// A value near it that would do.
        example: String,
    },
    /// Outside the bounds.
    #[error("`{value}` is outside {least} to {most}: {remedy}")]
    OutOfBounds {
        /// What was written.
        value: String,
        /// The least that is accepted.
        least: String,
        /// The most that is accepted.
        most: String,
        /// What to do.
        remedy: String,
    },
    /// A name that nothing has.
    #[error("`{value}` is not a {what}: {hint}")]
    UnknownName {
        /// What was written.
        value: String,
        /// What kind of thing the name should name.
        what: &'static str,
        /// The nearest name, or all of them.
        hint: String,
    },
    /// A CPU that this host does not have.
    #[error("CPU {cpu} does not exist: this host has CPUs {available}; name some of these")]
    NoSuchCpu {
        /// The CPU that was asked for.
        cpu: u32,
        /// The CPUs that are online.
        available: String,
    },
    /// CPUs or a policy that cannot be understood; the message is the VMM's.
    #[error("{0}")]
    Placement(String),
    /// A pool of frames that cannot be had; the message is the engine's.
    #[error("{0}")]
    Frames(String),
    /// A file that cannot be used.
    #[error("cannot use the file `{value}`: {reason}; name one that can be read")]
    File {
        /// What was written.
        value: String,
        /// Why.
        reason: String,
    },
    /// The same part twice.
    #[error("`{value}` names `{part}` twice: name it once")]
    Twice {
        /// What was written.
        value: String,
        /// The part that is there twice.
        part: String,
    },
}

impl ValueError {
    /// Names the bounds of the setting, where a number was too large even for its type.
    #[must_use]
    pub(crate) fn with_bounds(self, least: String, most: String, remedy: &str) -> Self {
        match self {
            Self::OutOfBounds { value, .. } => Self::OutOfBounds {
                value,
                least,
                most,
                remedy: remedy.to_owned(),
            },
            other => other,
        }
    }
}
