//! Signals while there are results to be written.

use crate::error::Error;
use underfoot_vmm::BlockedSignals;

/// Has a signal end the machine that runs, or the next one, and never the process before its results are written: from
/// here on until the value is dropped.
///
/// # Errors
/// [`Error::Run`]: the system refused.
pub fn hold() -> Result<BlockedSignals, Error> {
    BlockedSignals::new().map_err(|error| Error::Run(Box::new(error)))
}
