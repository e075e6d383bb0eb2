//! What every workload is to the kernel.

use super::Audit;
use crate::{Cpu, sched::Priority};
use core::sync::atomic::Ordering::Relaxed;
use underfoot_abi::Phase;

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

    /// Verifies everything that the threads left; `updates` is what they counted, all together.
    ///
    /// # Safety
    /// Its threads have ended, and no CPU is in a read section or will be until this returns.
    unsafe fn audit(&self, cpu: &Cpu, updates: u64) -> Audit;
}

/// Whether the host has said stop.
#[inline]
#[must_use]
pub fn is_over(cpu: &Cpu) -> bool {
    cpu.header.phase.load(Relaxed) == Phase::Stop as u32
}
