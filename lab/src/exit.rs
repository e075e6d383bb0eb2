//! What the command's exit status says.

use crate::record::{Ending, RunRecord};
use std::process::ExitCode;

/// The exit statuses of `underfoot`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitStatus {
    /// Done and sound.
    Sound,
    /// The run failed: a guest crash, an integrity error, a signal, results that could not be written.
    Failed,
    /// Wrong usage.
    Usage,
    /// The watchdog ended a run that was not meant to stall.
    Watchdog,
    /// The host lacks something (kselftest's SKIP).
    Unsupported,
    /// `compare` found worse than allowed.
    Worse,
}

impl ExitStatus {
    /// The number.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Sound => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Watchdog => 3,
            Self::Unsupported => 4,
            Self::Worse => 5,
        }
    }

    /// The status of a run that came to an end.
    #[must_use]
    pub fn of_run(record: &RunRecord) -> Self {
        match record.outcome.ending {
            // What else is wrong follows from the stall, most often.
            Ending::Watchdog => Self::Watchdog,
            _ if record.integrity.errors > 0 || record.deadlock().is_some() => Self::Failed,
            Ending::Done if record.uncaught().is_some() => Self::Failed,
            Ending::Done => Self::Sound,
            Ending::Interrupted { .. } | Ending::Failed => Self::Failed,
        }
    }
}

impl From<ExitStatus> for ExitCode {
    fn from(status: ExitStatus) -> Self {
        Self::from(status.code())
    }
}
