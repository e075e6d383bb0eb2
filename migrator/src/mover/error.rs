//! Why a mover cannot be made, or ends.

use std::io;

use crate::PageRange;
use crate::arena::ArenaError;
use crate::transaction::Fatal;
use crate::uffd::UffdError;

/// A mover that could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NewMoverError {
    /// Its frame pool.
    #[error("no frame pool for the mover")]
    Arena(#[from] ArenaError),
    /// Its look at its own pages.
    #[error("cannot read /proc/self/pagemap; is /proc mounted?")]
    Pagemap(#[source] io::Error),
}

/// Why a mover ended before it was asked to. Guest memory is whole but for the
/// [`lost_pages`](crate::Counters::lost_pages).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MoverError {
    /// It panicked; the migration that was open was rolled back.
    #[error("the mover panicked: {message}")]
    Panicked {
        /// What the panic said.
        message: String,
    },
    /// Old frames could not be put back: the guest cannot go on. Whoever touches these pages waits
    /// until the migrator is dropped, and would then find zeroes: end the guest first.
    #[error("the old frames of {range} could not be put back")]
    Lost {
        /// The pages.
        range: PageRange,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// Pages stay write-protected: whoever writes them waits until the migrator is dropped.
    #[error("the write-protection of {range} could not be taken off")]
    Protected {
        /// The pages.
        range: PageRange,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// Those who wait could not be woken.
    #[error("who waits for a page could not be woken")]
    Wake(#[source] UffdError),
    /// The vCPUs could not be stopped.
    #[error("the vCPUs could not be stopped")]
    Pause(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Old frames could not be given back to the kernel.
    #[error("old frames could not be given back by madvise(MADV_DONTNEED)")]
    Discard(#[source] io::Error),
    /// Frame numbers could not be read.
    #[error("cannot read frame numbers from /proc/self/pagemap")]
    Pagemap(#[source] io::Error),
}

impl From<Fatal> for MoverError {
    fn from(fatal: Fatal) -> Self {
        match fatal {
            Fatal::Lost { range, errno } => Self::Lost {
                range,
                source: io::Error::from_raw_os_error(errno),
            },
            Fatal::Discard(error) => Self::Discard(error),
            Fatal::Wake(error) => Self::Wake(error),
            Fatal::Protected { range, errno } => Self::Protected {
                range,
                source: io::Error::from_raw_os_error(errno),
            },
        }
    }
}
