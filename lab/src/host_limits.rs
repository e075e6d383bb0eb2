//! What this host has, as far as it bounds an experiment.

use crate::units::Size;
use std::path::Path;
use underfoot_vmm::capability::{Missing, available_memory};
use underfoot_vmm::placement::{CpuSet, PlacementError};

/// Why the host's limits are not known.
#[derive(Debug, thiserror::Error)]
pub enum HostLimitsError {
    /// The system does not say which CPUs there are.
    #[error("cannot find out which CPUs there are")]
    Cpus(#[source] PlacementError),
    /// The system does not say how much memory there is.
    #[error("cannot find out how much memory there is")]
    Memory(#[source] Missing),
}

/// CPUs and memory of a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostLimits {
    /// The CPUs that this process may run on.
    pub cpus: CpuSet,
    /// The memory that can be had without swapping (`MemAvailable`).
    pub memory: Size,
}

impl HostLimits {
    /// Asks this host.
    ///
    /// # Errors
    /// [`HostLimitsError`] where the system does not say.
    pub fn detect() -> Result<Self, HostLimitsError> {
        let cpus = CpuSet::allowed().map_err(HostLimitsError::Cpus)?;
        let bytes = available_memory(Path::new("/")).map_err(HostLimitsError::Memory)?;
        Ok(Self {
            cpus,
            // Whole MiB, so that messages show a number that can be read.
            memory: Size::from_mib(bytes >> 20),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_host_has_something() {
        let limits = HostLimits::detect().expect("a Linux host");
        assert!(!limits.cpus.cpus().is_empty() && limits.memory.bytes() > 0);
    }
}
