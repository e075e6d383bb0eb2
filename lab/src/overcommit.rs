//! More vCPUs than host CPUs, by affinity.

use crate::settings::ExperimentError;
use crate::units::{CpuCount, VcpusPerCpu};
use underfoot_vmm::placement::CpuSet;

/// vCPU `i` is bound to host CPU `i / per_cpu` of `cpus`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overcommit {
    /// vCPUs on each CPU; on the last there may be fewer.
    pub per_cpu: VcpusPerCpu,
    /// The CPUs that have any.
    pub cpus: CpuSet,
}

impl Overcommit {
    /// Binds `vcpus`, `per_cpu` of them to each of the first of the CPUs `allowed`.
    ///
    /// # Errors
    /// [`ExperimentError::TooFewCpus`].
    pub fn new(
        per_cpu: VcpusPerCpu,
        vcpus: CpuCount,
        allowed: &CpuSet,
    ) -> Result<Self, ExperimentError> {
        let (wanted, there) = (vcpus.get().div_ceil(per_cpu.get()), allowed.cpus().len());
        if usize::from(wanted) <= there {
            return Ok(Self {
                per_cpu,
                cpus: allowed.first(wanted.into()),
            });
        }
        // Fewer than `wanted`, so that it fits.
        let there = there as u16;
        Err(ExperimentError::TooFewCpus {
            per_cpu: per_cpu.get(),
            vcpus: vcpus.get(),
            wanted,
            allowed: allowed.to_string(),
            least_per_cpu: vcpus.get().div_ceil(there),
            most_vcpus: there * per_cpu.get(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vcpus_share_the_first_cpus_or_are_too_many() {
        let allowed: CpuSet = "2,4-5".parse().expect("a list");
        for (per_cpu, vcpus, cpus) in [
            ("1", "3", Some("2,4-5")),
            ("2", "1", Some("2")),
            ("2", "5", Some("2,4-5")),
            ("64", "64", Some("2")),
            ("1", "4", None),
            ("2", "7", None),
        ] {
            let made = Overcommit::new(
                per_cpu.parse().expect("a count"),
                vcpus.parse().expect("a count"),
                &allowed,
            );
            let found = made.as_ref().ok().map(|made| made.cpus.to_string());
            assert_eq!(found.as_deref(), cpus, "{per_cpu} {vcpus}");
        }
        let error = Overcommit::new("2".parse().expect("2"), "7".parse().expect("7"), &allowed);
        let error = error.expect_err("three CPUs").to_string();
        for part in [
            "--overcommit 2",
            "--cpus 7",
            "4 host CPUs",
            "2,4-5",
            "--overcommit 3",
            "--cpus 6",
        ] {
            assert!(error.contains(part), "{part} not in {error}");
        }
    }
}
