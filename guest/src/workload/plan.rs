//! What every workload is to the kernel.

use super::Audit;
use crate::{Cpu, mm::watermark::Watermarks, sched::Priority};
use core::sync::atomic::Ordering::Relaxed;
use underfoot_abi::{MAX_PARAMETERS, Phase};

/// What a workload is told, in the order of its description; 0 where there is no parameter.
pub type Parameters = [u64; MAX_PARAMETERS];

/// Where a thread of a workload runs, and how urgent it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seat {
    /// The CPU, below the number of CPUs.
    pub cpu: usize,
    /// Its priority.
    pub priority: Priority,
}

/// A workload: threads that work until the host says stop, and an audit of what they leave.
pub trait Workload: Sync {
    /// How many threads it wants on `cpus` CPUs.
    fn threads(&self, cpus: usize) -> usize;

    /// Where thread `number` runs; the CPUs by turns unless the workload knows better.
    fn seat(&self, number: usize, cpus: usize) -> Seat {
        Seat {
            cpu: number % cpus,
            priority: Priority::NORMAL,
        }
    }

    /// What thread `number` does until [`is_over`]. 32 KiB of stack are there.
    fn run(&self, cpu: &'static Cpu, number: usize);

    /// The memory that a thread of its own keeps room in while the others work, if it needs that.
    fn memory(&self) -> Option<&'static Watermarks> {
        None
    }

    /// Verifies everything that the threads left. Whether as many updates are found as they counted
    /// is for the caller to see, who knows what else counted some.
    ///
    /// # Safety
    /// Its threads have ended, and no CPU is in a read section or will be until this returns.
    unsafe fn audit(&self, cpu: &Cpu) -> Audit;
}

/// Whether the host has said stop.
#[inline]
#[must_use]
pub fn is_over(cpu: &Cpu) -> bool {
    cpu.header.phase.load(Relaxed) == Phase::Stop as u32
}
