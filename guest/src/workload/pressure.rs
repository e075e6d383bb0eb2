//! The workload `pressure`: page faults take what memory there is, and ordinary allocations want
//! some too ("Memory allocation on speculative fastpaths", 2022-05).
//!
//! Faulters access pages of more memory than there is, in one address space: each page that they get
//! was somebody's. Allocators take single pages as the kernel does for itself, hold some, and give
//! them back. Who finds too few pages free makes room, by the rules of
//! [`Mode`](crate::mm::watermark::Mode).

use super::{
    Audit, page_words,
    plan::{Parameters, Workload, is_over},
    stage::{OWN, SpaceParts, Stage},
};
use crate::{
    Cpu,
    mm::watermark::{Mode, Watermarks},
    random::Random,
    record::{self, Span},
    space::{Protection, Space},
};
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use underfoot_abi::{Metric, PAGE_SIZE, PRESSURE_COUNTERS, PageByte, PageKind};

const FAULTERS: usize = OWN;
const ALLOCATORS: usize = OWN + 1;
const DEMAND: usize = OWN + 2;
const HELD: usize = OWN + 3;
const BURST: usize = OWN + 4;

/// Counters, in the order of the contract.
const ALLOCATIONS: usize = PRESSURE_COUNTERS;
const STALLED: usize = PRESSURE_COUNTERS + 1;
const ROUNDS: usize = PRESSURE_COUNTERS + 2;
const FREED: usize = PRESSURE_COUNTERS + 3;
const FAILED: usize = PRESSURE_COUNTERS + 4;
const TOTALS: usize = PRESSURE_COUNTERS + 5;

/// The most pages that an allocator holds.
const MOST_HELD: usize = 256;
/// How far the faulters' mappings lie from each other.
const APART: usize = 1 << 36;
/// A rest: the next tick ends it.
const REST_NS: u64 = 1_000_000;

const BYTE: PageByte = PageByte::new(PageKind::Data, false);

/// Faulters in one address space, and allocators beside them.
pub struct Pressure {
    stage: Stage,
    space: &'static Space,
    faulters: usize,
    allocators: usize,
    /// Pages of each faulter's mapping.
    pages: usize,
    held: usize,
    burst: usize,
    /// What of the totals of all memory was counted.
    counted: [AtomicU64; 3],
    seed: u64,
}

impl Pressure {
    /// Builds it. `None` if there is too little memory.
    #[must_use]
    pub fn build(cpu: &Cpu, parts: SpaceParts, parameters: &Parameters) -> Option<Self> {
        let [faulters, allocators, demand, held, burst] =
            [FAULTERS, ALLOCATORS, DEMAND, HELD, BURST].map(|index| parameters[index] as usize);
        let stage = Stage::build(cpu, parts, parameters, 1, false)?;
        let space = stage.spaces.create(cpu).ok()?;
        let wanted = parts.pages.free_pages(cpu) / 100 * demand / faulters.max(1);
        let wanted = wanted.clamp(1, APART / PAGE_SIZE);
        for faulter in 0..faulters {
            let (start, len) = (faulter * APART, wanted * PAGE_SIZE);
            let mapped = stage.spaces.map(cpu, space, start, len, Protection::Write);
            mapped.ok()?;
        }
        Some(Self {
            stage,
            space,
            faulters,
            allocators,
            pages: wanted,
            held: held.clamp(1, MOST_HELD),
            burst,
            counted: [const { AtomicU64::new(0) }; 3],
            seed: cpu.header.seed,
        })
    }

    /// Accesses pages at random, half of them to write.
    fn fault(&self, cpu: &Cpu, number: usize) {
        let mut random = Random::new(self.seed, number as u64);
        let mut operations = 0;
        while !is_over(cpu) {
            let address = number * APART + random.below(self.pages) * PAGE_SIZE;
            let write = random.below(2) == 0;
            let spaces = self.stage.spaces;
            // Without a page it has come to an end too, which the fault has counted.
            if spaces.access(cpu, self.space, address, write).is_ok() {
                record::operation(cpu);
            }
            self.stage.between(cpu, &mut operations);
            if self.burst != 0 && operations.is_multiple_of(self.burst as u64) {
                cpu.sched.sleep_ns(cpu, REST_NS);
            }
        }
    }

    /// Allocates as many pages as it may hold, one after the other, gives them back, and rests: what
    /// it gave back is others' by then.
    fn allocate(&self, cpu: &Cpu) {
        let mut held = [0; MOST_HELD];
        let held = &mut held[..self.held];
        let mut operations = 0;
        while !is_over(cpu) {
            for page in held.iter_mut() {
                *page = self.take(cpu);
                self.stage.between(cpu, &mut operations);
            }
            for page in held.iter() {
                self.release(cpu, *page);
            }
            self.count_totals(cpu);
            cpu.sched.sleep_ns(cpu, REST_NS);
        }
    }

    /// An ordinary allocation, timed; 0 if no page was left.
    fn take(&self, cpu: &Cpu) -> usize {
        let span = Span::start(cpu);
        let memory = self.stage.memory;
        let (page, paid) = memory.allocate_paying(cpu, BYTE, Mode::Kernel);
        span.finish(cpu, Metric::Operation);
        record::count(cpu, STALLED, u64::from(paid.rounds > 0));
        record::count(cpu, ROUNDS, paid.rounds);
        record::count(cpu, FREED, paid.pages);
        let Ok(page) = page else {
            record::count(cpu, FAILED, 1);
            return 0;
        };
        record::operation(cpu);
        record::count(cpu, ALLOCATIONS, 1);
        page_words::write(cpu, page);
        page
    }

    /// Verifies a page and gives it back, if it is one.
    fn release(&self, cpu: &Cpu, page: usize) {
        if page == 0 {
            return;
        }
        page_words::verify(cpu, page);
        // SAFETY: `take` allocated it, and only this thread knows it.
        unsafe { self.stage.memory.pages.free(cpu, page, 0) };
    }

    /// Counts what all of memory has counted since somebody did.
    fn count_totals(&self, cpu: &Cpu) {
        let pressure = &self.stage.memory.pressure;
        let totals = [
            pressure.wakes.load(Relaxed),
            pressure.background.load(Relaxed),
            self.stage.spaces.evicted(),
        ];
        for (index, (counted, total)) in self.counted.iter().zip(totals).enumerate() {
            // Each is counted once, whichever thread comes first.
            let before = counted.fetch_max(total, Relaxed);
            record::count(cpu, TOTALS + index, total.saturating_sub(before));
        }
    }
}

/// The faulters, then the allocators, on the CPUs by turns.
impl Workload for Pressure {
    fn threads(&self, _cpus: usize) -> usize {
        self.faulters + self.allocators
    }

    fn run(&self, cpu: &'static Cpu, number: usize) {
        if number < self.faulters {
            self.fault(cpu, number);
        } else {
            self.allocate(cpu);
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
