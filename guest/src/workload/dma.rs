//! The workload `dma`: each CPU has a device copy its buffers, which migrate, and checks every word
//! that arrives.
//!
//! A thread on each CPU has one queue and, for each descriptor that it posts at a time, a source and a
//! target of whole pages. It fills part of the sources with words that it can compute again, posts the
//! descriptors, waits for the device, and compares the targets.

use super::audit::Audit;
use super::plan::{Parameters, Workload, is_over};
use crate::Cpu;
use crate::arch::tsc;
use crate::mm::PageAllocator;
use crate::random::{Random, mix};
use crate::record::{self, Span, access};
use core::ptr::from_ref;
use core::sync::atomic::{
    AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};
use underfoot_abi::{
    DMA_MAX_BYTES, DMA_RING, DmaDescriptor, DmaQueue, DmaStatus, MAX_CPUS, Metric, PAGE_SIZE,
    PageByte, PageKind,
};

/// Parameters, in the order of the contract. The device reads the others.
const DEPTH: usize = 0;
const BYTES: usize = 1;
/// Counters, in the order of the contract.
const COPIES: usize = 1;
const COPIED: usize = 2;
const SLEPT: usize = 3;

const WORDS: usize = PAGE_SIZE / size_of::<u64>();
/// What is remembered of a descriptor: how often it was posted, the key of its words, where they
/// begin in source and target.
const COUNT: usize = 0;
const KEY: usize = 1;
const SOURCE_AT: usize = 2;
const TARGET_AT: usize = 3;
const REMEMBERED: usize = 4;

/// How long a CPU spins for the device before it sleeps for a tick: the device may need that CPU.
const SPIN_NS: u64 = 200_000;
const SLEEP_NS: u64 = 100_000;
/// A descriptor that is not answered for so long is an error.
const LOST_NS: u64 = 4_000_000_000;

type Buffers = [&'static [AtomicU64]; MAX_CPUS];

/// The queues and buffers of all CPUs.
pub struct Dma {
    /// A page for each CPU.
    queues: &'static [AtomicU64],
    /// By CPU, for one descriptor after the other.
    sources: Buffers,
    targets: Buffers,
    memory: &'static [AtomicU64],
    depth: usize,
    /// Words that each descriptor copies.
    words: usize,
    seed: u64,
    /// What the kernel does after each operation.
    between: fn(&Cpu, u64),
}

/// The part of a descriptor's buffers that it uses this time.
struct Slice<'a> {
    remembered: &'a [AtomicU64],
    source: &'a [AtomicU64],
    target: &'a [AtomicU64],
}

impl Dma {
    /// Takes its pages. `None` if there are not enough.
    #[must_use]
    pub fn build(
        cpu: &Cpu,
        pages: &'static PageAllocator,
        parameters: &Parameters,
        between: fn(&Cpu, u64),
    ) -> Option<Self> {
        let cpus = cpu.header.cpus as usize;
        let depth = (parameters[DEPTH] as usize).clamp(1, DMA_RING);
        let bytes = parameters[BYTES].clamp(1, DMA_MAX_BYTES) as usize;
        let words = bytes.div_ceil(size_of::<u64>());
        // The device reaches them: it is a thread of the hypervisor's.
        let byte = PageByte::new(PageKind::Data, true);
        let buffers = || -> Option<Buffers> {
            let mut all: Buffers = [&[]; MAX_CPUS];
            for one in &mut all[..cpus] {
                *one = pages.zeroed_slice(cpu, depth * each(words), byte)?;
            }
            Some(all)
        };
        Some(Self {
            queues: pages.zeroed_slice(cpu, cpus * WORDS, byte)?,
            sources: buffers()?,
            targets: buffers()?,
            memory: pages.zeroed_slice(
                cpu,
                cpus * depth * REMEMBERED,
                PageByte::new(PageKind::Data, false),
            )?,
            depth,
            words,
            seed: cpu.header.seed,
            between,
        })
    }

    /// The queue of CPU `number`.
    fn queue(&self, number: usize) -> &DmaQueue {
        let page = from_ref(&self.queues[number * WORDS]);
        // SAFETY: a page of the slice, as long as this; a queue fits into a page, and is atomic words
        // throughout.
        unsafe { &*page.cast() }
    }

    /// Where the device finds it: addresses are physical too.
    fn queue_address(&self, number: usize) -> u64 {
        from_ref(self.queue(number)).expose_provenance() as u64
    }

    /// The buffers of descriptor `nth` of CPU `number`, as far as `words` go from where they are
    /// remembered to begin.
    fn slice(&self, number: usize, nth: usize) -> Slice<'_> {
        let slice = number * self.depth + nth;
        let remembered = &self.memory[slice * REMEMBERED..(slice + 1) * REMEMBERED];
        let part = |buffers: &Buffers, which: usize| {
            let room = each(self.words);
            let free = room - self.words + 1;
            let first = nth * room + remembered[which].load(Relaxed) as usize % free;
            &buffers[number][first..first + self.words]
        };
        Slice {
            remembered,
            source: part(&self.sources, SOURCE_AT),
            target: part(&self.targets, TARGET_AT),
        }
    }

    fn operation(&self, cpu: &Cpu, number: usize, random: &mut Random) {
        let queue = self.queue(number);
        let first = cpu.area.dma_posted.load(Relaxed);
        for nth in 0..self.depth {
            self.prepare(cpu, number, nth, random);
            let slice = self.slice(number, nth);
            let descriptor = descriptor(queue, first, nth);
            let physical = |words: &[AtomicU64]| words.as_ptr().addr() as u64;
            descriptor.source.store(physical(slice.source), Relaxed);
            descriptor.target.store(physical(slice.target), Relaxed);
            let bytes = size_of_val(slice.source) as u64;
            descriptor.bytes.store(bytes, Relaxed);
            // Release: pairs with the device's acquire; what is to be copied is there.
            descriptor.status.store(DmaStatus::Posted as u64, Release);
        }
        let span = Span::start(cpu);
        // Release: the descriptors are there.
        cpu.area
            .dma_posted
            .store(first + self.depth as u64, Release);
        let began = tsc();
        let wait = |nth: usize| await_answer(cpu, descriptor(queue, first, nth), began);
        // Each of them, whatever became of another: the ring is free then. Nothing is posted over one that
        // is not answered, or the device would copy by one descriptor and answer the next.
        if (0..self.depth).filter(|nth| wait(*nth)).count() < self.depth {
            return;
        }
        span.finish(cpu, Metric::Operation);
        for nth in 0..self.depth {
            verify(cpu, &self.slice(number, nth));
            record::updated(cpu);
        }
        record::operation(cpu);
        record::count(cpu, COPIES, self.depth as u64);
        record::count(
            cpu,
            COPIED,
            (self.depth * self.words * size_of::<u64>()) as u64,
        );
    }

    /// Chooses a part of the buffers, and fills the source.
    fn prepare(&self, cpu: &Cpu, number: usize, nth: usize, random: &mut Random) {
        let remembered = self.slice(number, nth).remembered;
        for which in [KEY, SOURCE_AT, TARGET_AT] {
            remembered[which].store(random.bits(), Relaxed);
        }
        remembered[COUNT].store(remembered[COUNT].load(Relaxed).wrapping_add(1), Relaxed);
        let key = remembered[KEY].load(Relaxed);
        for (index, word) in self.slice(number, nth).source.iter().enumerate() {
            let value = expected(key, index);
            if index % WORDS == 0 {
                access(cpu, from_ref(word).addr(), || word.store(value, Relaxed));
            } else {
                word.store(value, Relaxed);
            }
        }
    }
}

/// Words of a buffer that holds `words` at any place of its first page.
const fn each(words: usize) -> usize {
    (words.div_ceil(WORDS) + 1) * WORDS
}

/// Word `index` of what goes with `key`.
fn expected(key: u64, index: usize) -> u64 {
    mix(key ^ index as u64)
}

fn descriptor(queue: &DmaQueue, first: u64, nth: usize) -> &DmaDescriptor {
    &queue.descriptors[(first as usize + nth) % DMA_RING]
}

/// Waits until the device has done with `descriptor`, posted at `began`, or the run is over; whether it did
/// as it was told. An answer other than "done" is an error, and so is one that is late.
fn await_answer(cpu: &Cpu, descriptor: &DmaDescriptor, began: u64) -> bool {
    let address = from_ref(&descriptor.status).addr();
    let mut late = false;
    loop {
        // Acquire: pairs with the device's release; what was copied is there.
        let status = access(cpu, address, || descriptor.status.load(Acquire));
        if status == DmaStatus::Done as u64 {
            return !late;
        }
        if status != DmaStatus::Posted as u64 {
            record::error(cpu, address, status);
            return false;
        }
        let waited = cpu.ns(tsc().saturating_sub(began));
        if waited > LOST_NS && !late {
            late = true;
            record::error(cpu, address, status);
        }
        if late && is_over(cpu) {
            return false;
        }
        if waited > SPIN_NS {
            record::count(cpu, SLEPT, 1);
            cpu.sched.sleep_ns(cpu, SLEEP_NS);
        } else {
            core::hint::spin_loop();
        }
    }
}

/// Compares every word that arrived.
fn verify(cpu: &Cpu, slice: &Slice<'_>) {
    let key = slice.remembered[KEY].load(Relaxed);
    for (index, word) in slice.target.iter().enumerate() {
        let address = from_ref(word).addr();
        let found = if index % WORDS == 0 {
            access(cpu, address, || word.load(Relaxed))
        } else {
            word.load(Relaxed)
        };
        if found != expected(key, index) {
            record::error(cpu, address, found);
        }
    }
    record::checked(cpu, slice.target.len() as u64);
}

/// A thread on each CPU.
impl Workload for Dma {
    fn threads(&self, cpus: usize) -> usize {
        cpus
    }

    fn run(&self, cpu: &'static Cpu, number: usize) {
        let mut random = Random::new(self.seed, number as u64);
        cpu.area
            .dma_queue
            .store(self.queue_address(number), Relaxed);
        let mut operations = 0;
        while !is_over(cpu) {
            self.operation(cpu, number, &mut random);
            operations += 1;
            (self.between)(cpu, operations);
        }
    }

    unsafe fn audit(&self, cpu: &Cpu) -> Audit {
        let before = cpu.area.errors.load(Relaxed);
        let (slices, mut audit) = (self.memory.len() / REMEMBERED, Audit::default());
        for slice in 0..slices {
            let slice = self.slice(slice / self.depth, slice % self.depth);
            let count = slice.remembered[COUNT].load(Relaxed);
            if count == 0 {
                continue;
            }
            verify(cpu, &slice);
            let source = Slice {
                target: slice.source,
                ..slice
            };
            verify(cpu, &source);
            audit.checked += 2 * self.words as u64;
            audit.updates = audit.updates.wrapping_add(count);
        }
        audit.errors = cpu.area.errors.load(Relaxed) - before;
        audit
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
