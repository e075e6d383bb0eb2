//! The workload `fault`: threads fault pages in, in one address space.

use super::{
    Audit,
    plan::{Parameters, Workload, is_over},
    stage::{OWN, SpaceParts, Stage},
};
use crate::{
    Cpu,
    mm::watermark::Watermarks,
    record::{self, Span},
    space::{ChangeError, Protection, Space},
};
use underfoot_abi::{Metric, PAGE_SIZE};

const THREADS: usize = OWN;
const PAGES: usize = OWN + 1;
const MAPPERS: usize = OWN + 2;

/// Each thread's mapping lies so far from the next one's: it has leaf tables of its own, and shares
/// all others.
const APART: usize = 32 << 20;

/// One address space, and threads that each have a mapping in it.
pub struct Fault {
    stage: Stage,
    space: &'static Space,
    threads: usize,
    mappers: usize,
    pages: usize,
}

impl Fault {
    /// Builds it. `None` if there is too little memory.
    #[must_use]
    pub fn build(cpu: &Cpu, parts: SpaceParts, parameters: &Parameters) -> Option<Self> {
        let threads = match parameters[THREADS] as usize {
            0 => cpu.header.cpus as usize,
            threads => threads,
        };
        let stage = Stage::build(cpu, parts, parameters, 1, false)?;
        let space = stage.spaces.create(cpu).ok()?;
        let each = parameters[PAGES].max(1) as usize;
        for thread in 0..threads {
            let (start, len) = (thread * APART, each * PAGE_SIZE);
            let mapped = stage.spaces.map(cpu, space, start, len, Protection::Write);
            mapped.ok()?;
        }
        Some(Self {
            stage,
            space,
            threads,
            mappers: parameters[MAPPERS] as usize,
            pages: each,
        })
    }

    /// Faults a thread's pages in, and gives them back.
    fn fault(&self, cpu: &Cpu, start: usize, operations: &mut u64) {
        let spaces = self.stage.spaces;
        let len = self.pages * PAGE_SIZE;
        for address in (start..start + len).step_by(PAGE_SIZE) {
            let span = Span::start(cpu);
            // Why there was none the fault has counted; a want of memory it has reported.
            if spaces.access(cpu, self.space, address, true).is_ok() {
                span.finish(cpu, Metric::Operation);
                record::operation(cpu);
            }
            self.stage.between(cpu, operations);
            if is_over(cpu) {
                break;
            }
        }
        // The range is one of pages.
        let _ = spaces.discard(cpu, self.space, start, len);
    }

    /// Maps and unmaps a region beside the others: the mappings change, theirs do not.
    fn map(&self, cpu: &Cpu, start: usize, operations: &mut u64) {
        let spaces = self.stage.spaces;
        let mapped = spaces.map(cpu, self.space, start, PAGE_SIZE, Protection::Write);
        if mapped.is_ok() {
            let _ = spaces.access(cpu, self.space, start, true);
        }
        // Also what an earlier turn had no memory to unmap.
        let unmapped = spaces.unmap(cpu, self.space, start, PAGE_SIZE);
        if mapped.is_ok() && unmapped.is_ok() {
            self.stage.changed(cpu);
        }
        for why in [mapped, unmapped].into_iter().filter_map(Result::err) {
            // What is mapped already is from an earlier turn.
            if !matches!(why, ChangeError::Mapped { .. }) {
                self.stage.failed(cpu, "a change of mappings", why);
            }
        }
        self.stage.between(cpu, operations);
    }
}

impl Workload for Fault {
    fn threads(&self, _cpus: usize) -> usize {
        self.threads + self.mappers
    }

    fn run(&self, cpu: &'static Cpu, number: usize) {
        let mut operations = 0;
        while !is_over(cpu) {
            if number < self.threads {
                self.fault(cpu, number * APART, &mut operations);
            } else {
                self.map(cpu, number * APART, &mut operations);
            }
        }
    }

    fn memory(&self) -> Option<&'static Watermarks> {
        Some(self.stage.memory)
    }

    unsafe fn audit(&self, cpu: &Cpu) -> Audit {
        // SAFETY: the caller's promise.
        unsafe { self.stage.audit(cpu, core::iter::once(self.space)) }
    }
}
