//! What a workload's parameters want of guest memory: what cannot be had is refused before anything runs.

use super::{Experiment, MEMORY_GRAIN};
use crate::settings::ExperimentError;
use crate::units::Size;
use underfoot_abi::{Layout, PAGE_SIZE, WorkloadId};

const PAGE: u64 = PAGE_SIZE as u64;
/// Pages that the kernel has in a guest of any size: the first MiB, its image, its region of 2 MiB, and some to
/// spare, for the image grows.
const KERNEL: u64 = 1_210;
/// Pages that it has for each vCPU, beside what it shares with the host.
const EACH_CPU: u64 = 5;
/// Bytes that the kernel's record of a frame takes.
const FRAME_RECORD: u64 = 12;
/// Frames that a page of page tables maps.
const MAPPED: u64 = 512;
/// Pages of a thread's stack, and of an idle thread's.
const STACK: u64 = 8;
const IDLE_STACK: u64 = 4;

impl Experiment {
    /// Refuses parameters that guest memory cannot hold. What fits here may still turn out to be too little: only the
    /// guest knows to the page.
    pub(super) fn check_memory(&self) -> Result<(), ExperimentError> {
        let cpus = u32::from(self.cpus.get());
        let bytes = self.memory.bytes();
        let Some((parameter, pages)) = self.wanted() else {
            return Ok(());
        };
        let free = free_pages(bytes, cpus);
        if pages <= free {
            return Ok(());
        }
        let grain = MEMORY_GRAIN.bytes();
        let lacks = |bytes: &u64| free_pages(*bytes, cpus) < pages;
        // Each page of the guest's adds less than one that is free, and more than half of one.
        let start = (bytes + (pages - free) * PAGE).next_multiple_of(grain);
        let larger = (start..).step_by(grain as usize);
        let least = larger
            .take_while(lacks)
            .last()
            .map_or(start, |bytes| bytes + grain);
        Err(ExperimentError::TooLittleMemory {
            memory: self.memory,
            workload: self.workload.name(),
            cpus: self.cpus.get(),
            value: self.parameters.shown(parameter),
            parameter,
            pages,
            free,
            least: Size::from_kib(least >> 10),
        })
    }

    /// The parameter that wants most, and free pages that it takes.
    fn wanted(&self) -> Option<(&'static str, u64)> {
        let told = |name| self.parameters.value(name).unwrap_or(0);
        let cpus = u64::from(self.cpus.get());
        let each = |per_cpu: u64| per_cpu * cpus * STACK + cpus * IDLE_STACK;
        let stacks = match self.workload {
            WorkloadId::Lock | WorkloadId::Chase | WorkloadId::Exit => {
                Some(("threads", each(told("threads"))))
            }
            WorkloadId::Churn => Some(("readers", each(1 + told("readers")))),
            WorkloadId::Torture | WorkloadId::Shootdown => Some(("readers", each(told("readers")))),
            _ => None,
        };
        // The watermark `high`, and a page above it: see the guest's `Levels`.
        let reserve = self.parameters.value("reserve");
        let reserve = reserve.map(|min| ("reserve", min + min.div_ceil(2) + 1));
        let device = (self.workload == WorkloadId::Dma).then(|| {
            // Each buffer begins on a page of its own; a CPU's sources are one block, its targets another.
            let block = told("depth") * (told("bytes").div_ceil(PAGE) + 1);
            let block = block.next_power_of_two();
            // Blocks are aligned to their size, which memory is not.
            ("depth", 2 * cpus * block + 2 * block + 2 * cpus + each(1))
        });
        let wants = [stacks, reserve, device].into_iter().flatten();
        wants.max_by_key(|(_, pages)| *pages)
    }
}

/// Pages that a kernel with `bytes` of memory has for its workload; not quite all.
fn free_pages(bytes: u64, cpus: u32) -> u64 {
    let frames = bytes / PAGE;
    let shared = Layout::new(frames, cpus).size as u64 / PAGE;
    let tables = frames.div_ceil(MAPPED);
    let records = (frames * FRAME_RECORD).div_ceil(PAGE);
    let kernel = KERNEL + EACH_CPU * u64::from(cpus);
    frames.saturating_sub(kernel + shared + tables + records)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What kernels said that were free, by memory and vCPUs (`exit` with a reserve beyond all bounds): never less than is
    /// counted on, and not much more.
    #[test]
    fn free_pages_are_nearly_those_that_a_guest_has() {
        for (mib, cpus, had) in [
            (16, 1, 2_723),
            (16, 4, 2_342),
            (16, 16, 818),
            (32, 48, 765),
            (64, 2, 14_821),
            (64, 48, 8_915),
            (512, 1, 129_048),
            (512, 16, 127_143),
        ] {
            let free = free_pages(mib << 20, cpus);
            assert!(
                (had - 128..=had).contains(&free),
                "{mib} MiB, {cpus} vCPUs: {free} of {had}"
            );
        }
    }
}
