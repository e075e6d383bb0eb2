//! The workload `idle`: next to nothing, to see what a guest costs that has nothing to do.

use super::audit::Audit;
use super::plan::{Workload, is_over};
use crate::{Cpu, record};

/// How long its one thread sleeps at a time.
const NAP_NS: u64 = 100_000_000;

/// One thread that wakes ten times a second.
pub struct Idle;

impl Workload for Idle {
    fn threads(&self, _cpus: usize) -> usize {
        1
    }

    fn run(&self, cpu: &'static Cpu, _number: usize) {
        while !is_over(cpu) {
            cpu.sched.sleep_ns(cpu, NAP_NS);
            record::operation(cpu);
        }
    }

    unsafe fn audit(&self, _cpu: &Cpu) -> Audit {
        Audit::default()
    }
}
