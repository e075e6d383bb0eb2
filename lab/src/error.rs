//! What can go wrong on the way to an exit status.

use crate::atomic_file::WriteError;
use crate::compare::command::CompareError;
use crate::exit::ExitStatus;
use crate::host_limits::HostLimitsError;
use crate::report::command::ReportError;
use crate::rundir::ReadError;
use crate::settings::ExperimentError;
use crate::sweep::SweepError;
use crate::units::ValueError;
use std::error::Error as StdError;
use std::path::PathBuf;

/// An error of the command, each with one exit status.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The experiment was refused.
    #[error(transparent)]
    Experiment(#[from] ExperimentError),
    /// A question that is none.
    #[error(transparent)]
    Question(#[from] ValueError),
    /// A flag's value was refused.
    #[error("invalid value of {flag}")]
    Flag {
        /// The flag.
        flag: &'static str,
        /// Why.
        #[source]
        source: ValueError,
    },
    /// A run that was named could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Runs that were not, or could not be, compared.
    #[error(transparent)]
    Compare(#[from] CompareError),
    /// A report that has no place.
    #[error(transparent)]
    Report(#[from] ReportError),
    /// A sweep was refused.
    #[error(transparent)]
    Sweep(Box<SweepError>),
    /// A flag that says where results go was refused, or they could not be written there.
    #[error("{flag}")]
    Results {
        /// The flag (`--out`, `--json`, `--export`).
        flag: &'static str,
        /// Why.
        #[source]
        source: WriteError,
    },
    /// What the host has is not known.
    #[error("the host's limits are not known")]
    HostLimits(#[from] HostLimitsError),
    /// An image that was named is none.
    #[error("--kernel {}: not a PVH image that can be booted", .path.display())]
    Kernel {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
    /// The host lacks something that is needed.
    #[error("this host cannot run it (`underfoot doctor` says more)")]
    Unsupported(#[source] Box<dyn StdError + Send + Sync>),
    /// The run could not be made or carried on.
    #[error("the run failed")]
    Run(#[source] Box<dyn StdError + Send + Sync>),
    /// Standard output cannot be written.
    #[error("cannot write to standard output")]
    Stdout(#[source] std::io::Error),
}

impl From<SweepError> for Error {
    fn from(error: SweepError) -> Self {
        Self::Sweep(Box::new(error))
    }
}

impl Error {
    /// The exit status.
    #[must_use]
    pub const fn status(&self) -> ExitStatus {
        match self {
            Self::Experiment(_) | Self::Question(_) | Self::Kernel { .. } => ExitStatus::Usage,
            Self::Flag { .. } | Self::Read(_) | Self::Report(_) => ExitStatus::Usage,
            Self::Compare(error) if error.is_usage() => ExitStatus::Usage,
            Self::Sweep(error) if error.is_usage() => ExitStatus::Usage,
            Self::Results { source, .. } if source.is_usage() => ExitStatus::Usage,
            Self::HostLimits(_) | Self::Unsupported(_) => ExitStatus::Unsupported,
            Self::Results { .. }
            | Self::Compare(_)
            | Self::Sweep(_)
            | Self::Run(_)
            | Self::Stdout(_) => ExitStatus::Failed,
        }
    }

    /// Whether whoever reads standard output has gone away (`underfoot list | head -1`): nothing
    /// that anybody wants to hear of.
    #[must_use]
    pub fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::Stdout(error) if error.kind() == std::io::ErrorKind::BrokenPipe)
    }
}

/// `error` and its causes in one line, each said once.
#[must_use]
pub fn chain(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;
    use std::path::Path;

    #[test]
    fn the_chain_says_each_cause_once() {
        let source = WriteError::new(Path::new("x"), io::ErrorKind::StorageFull.into());
        let error = Error::Results {
            flag: "--out",
            source,
        };
        let text = chain(&error);
        assert!(text.starts_with("--out: no room for x: free"), "{text}");
        assert_eq!(text.matches("no storage space").count(), 1, "{text}");
        assert_eq!(error.status(), ExitStatus::Failed);
    }

    #[test]
    fn every_kind_has_its_status() {
        let boxed = || Box::new(io::Error::other("x"));
        let exists = WriteError::Exists { path: "x".into() };
        for (error, code) in [
            (Error::Run(boxed()), 1),
            (Error::Stdout(io::Error::other("x")), 1),
            (
                Error::Results {
                    flag: "--out",
                    source: exists,
                },
                2,
            ),
            (
                Error::Kernel {
                    path: "x".into(),
                    source: boxed(),
                },
                2,
            ),
            (Error::Unsupported(boxed()), 4),
        ] {
            assert_eq!(error.status().code(), code, "{error:?}");
        }
    }
}
