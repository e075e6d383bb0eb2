//! What this host has, as far as it bounds an experiment.

use crate::units::Size;
use std::io;
use std::path::{Path, PathBuf};
use underfoot_vmm::placement::{CpuSet, PlacementError};

const MEMINFO: &str = "/proc/meminfo";

/// Why the host's limits are not known.
#[derive(Debug, thiserror::Error)]
pub enum HostLimitsError {
    /// The system does not say which CPUs there are.
    #[error("cannot find out which CPUs there are")]
    Cpus(#[source] PlacementError),
    /// A file of the kernel cannot be read.
    #[error("cannot read {}: mount /proc", .path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file of the kernel holds something unexpected.
    #[error("{} does not say {what}: is this Linux?", .path.display())]
    Unexpected {
        /// Which.
        path: PathBuf,
        /// What was looked for in it.
        what: &'static str,
    },
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
    /// [`HostLimitsError`] where /proc is missing.
    pub fn detect() -> Result<Self, HostLimitsError> {
        let unexpected = |path: &str, what| HostLimitsError::Unexpected {
            path: path.into(),
            what,
        };
        let cpus = CpuSet::allowed().map_err(HostLimitsError::Cpus)?;
        let memory = available_kib(&read(MEMINFO)?)
            .map(Size::from_kib)
            .ok_or_else(|| unexpected(MEMINFO, "how much memory is available"))?;
        Ok(Self { cpus, memory })
    }
}

fn read(path: &str) -> Result<String, HostLimitsError> {
    std::fs::read_to_string(path).map_err(|source| HostLimitsError::Read {
        path: Path::new(path).to_owned(),
        source,
    })
}

/// `MemAvailable` of a meminfo file (proc_meminfo(5)), whose unit is KiB.
fn available_kib(meminfo: &str) -> Option<u64> {
    meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?
        .trim()
        .strip_suffix("kB")?
        .trim()
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_meminfo() {
        let text = "MemTotal:       24684092 kB\nMemAvailable:   24272420 kB\n";
        assert_eq!(available_kib(text), Some(24_272_420));
        assert_eq!(available_kib("MemAvailable: lots\n"), None);
    }

    #[test]
    fn this_host_has_something() {
        let limits = HostLimits::detect().expect("a Linux host");
        assert!(!limits.cpus.cpus().is_empty() && limits.memory.bytes() > 0);
    }
}
