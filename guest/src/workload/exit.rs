//! The workload `exit`: address spaces are made, populated and torn down.

use super::{
    Audit,
    plan::{Parameters, Workload, is_over},
    stage::{OWN, SpaceParts, Stage},
};
use crate::{
    Cpu,
    mm::watermark::Watermarks,
    record::{self, Span},
    space::{Protection, Space},
};
use underfoot_abi::{Metric, PAGE_SIZE};

const THREADS: usize = OWN;
const REGIONS: usize = OWN + 1;
const PAGES: usize = OWN + 2;
const FREE: usize = OWN + 3;

/// Regions lie so far apart: each has a leaf and a middle table of its own.
const APART: usize = 257 << 20;

/// Threads that each make one address space after the other.
pub struct Exit {
    stage: Stage,
    threads_each: usize,
    regions: usize,
    pages: usize,
}

impl Exit {
    /// Builds it. `None` if there is too little memory.
    #[must_use]
    pub fn build(cpu: &Cpu, parts: SpaceParts, parameters: &Parameters) -> Option<Self> {
        let threads_each = parameters[THREADS].max(1) as usize;
        let most = threads_each * cpu.header.cpus as usize;
        let wait = parameters[FREE] != 0;
        Some(Self {
            stage: Stage::build(cpu, parts, parameters, most, wait)?,
            threads_each,
            regions: parameters[REGIONS].max(1) as usize,
            pages: parameters[PAGES].max(1) as usize,
        })
    }

    /// The life of one address space. It counts if there was memory for all of it.
    fn live(&self, cpu: &Cpu) {
        let spaces = self.stage.spaces;
        let span = Span::start(cpu);
        match spaces.create(cpu) {
            Ok(space) => {
                let whole = self.populate(cpu, space);
                self.stage.changed(cpu);
                // SAFETY: nobody else knows the space.
                unsafe { spaces.destroy(cpu, space) };
                if whole {
                    span.finish(cpu, Metric::Operation);
                    record::operation(cpu);
                } else {
                    self.stage.rest(cpu);
                }
            }
            Err(refused) => self.stage.failed(cpu, "an address space", refused.into()),
        }
    }

    /// Maps all regions and accesses all of their pages; whether there was memory for all.
    fn populate(&self, cpu: &Cpu, space: &'static Space) -> bool {
        let spaces = self.stage.spaces;
        let len = self.pages * PAGE_SIZE;
        for start in (0..self.regions).map(|region| region * APART) {
            let mapped = spaces.map(cpu, space, start, len, Protection::Write);
            if let Err(why) = mapped {
                self.stage.failed(cpu, "a mapping", why);
                return false;
            }
            for address in (start..start + len).step_by(PAGE_SIZE) {
                // Reclaim may make each of them a long one.
                if spaces.access(cpu, space, address, true).is_err() || is_over(cpu) {
                    return false;
                }
            }
        }
        true
    }
}

impl Workload for Exit {
    fn threads(&self, cpus: usize) -> usize {
        self.threads_each * cpus
    }

    fn run(&self, cpu: &'static Cpu, _number: usize) {
        let mut operations = 0;
        while !is_over(cpu) {
            self.live(cpu);
            self.stage.between(cpu, &mut operations);
        }
    }

    fn memory(&self) -> Option<&'static Watermarks> {
        Some(self.stage.memory)
    }

    unsafe fn audit(&self, cpu: &Cpu) -> Audit {
        // SAFETY: the caller's promise.
        unsafe { self.stage.audit(cpu, core::iter::empty()) }
    }
}
