//! The workload `chase`: a pointer chase, memory bandwidth and plain arithmetic, without a lock: the
//! baseline. What it computes is known, so that a register or a line lost in a preemption or a move
//! is seen.

use super::audit::Audit;
use super::plan::{Workload, is_over};
use super::tick;
use crate::Cpu;
use crate::mm::PageAllocator;
use crate::random::{Random, mix};
use crate::record::{self, Probe, Span, access};
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use underfoot_abi::{MAX_CPUS, Metric, PAGE_SIZE, PageByte, PageKind};

/// Parameters, in the order of the contract.
const THREADS: usize = 0;
const PAGES: usize = 1;
const TICKS: usize = 2;
/// Counters, in the order of the contract.
const HOPS: usize = 1;
const BYTES: usize = 2;

const WORDS: usize = PAGE_SIZE / size_of::<u64>();
/// Hops and rounds of arithmetic in one operation.
const HOPS_EACH: usize = 64;
const ROUNDS: usize = 256;
/// Sums in vector registers, and in general ones.
const FLOATS: usize = 8;
const INTEGERS: usize = 4;

/// A ring of pages, linked in an order that depends on the seed, for all threads to read; and a page
/// of its own for each thread to write.
pub struct Chase {
    ring: &'static [AtomicU64],
    own: &'static [AtomicU64],
    threads_each: usize,
    /// Ticks are timed.
    ticks: bool,
    seed: u64,
    /// What the kernel does after each operation.
    between: fn(&Cpu, u64),
}

impl Chase {
    /// Takes its pages, and links them. `None` if there are not enough.
    #[must_use]
    pub fn build(cpu: &Cpu, pages: &'static PageAllocator, between: fn(&Cpu, u64)) -> Option<Self> {
        let header = cpu.header;
        let threads_each = header.parameters[THREADS] as usize;
        let byte = PageByte::new(PageKind::Data, false);
        let count = header.parameters[PAGES] as usize;
        let threads = threads_each * header.cpus as usize;
        let chase = Self {
            ring: pages.zeroed_slice(cpu, count * WORDS, byte)?,
            own: pages.zeroed_slice(cpu, threads * WORDS, byte)?,
            threads_each,
            ticks: header.parameters[TICKS] != 0,
            seed: header.seed,
            between,
        };
        chase.link();
        Some(chase)
    }

    fn pages(&self) -> usize {
        self.ring.len() / WORDS
    }

    /// Makes one cycle of all pages (Sattolo's algorithm). The first word of a page names the next,
    /// the others can be computed.
    fn link(&self) {
        let next = |page: usize| &self.ring[page * WORDS];
        (0..self.pages()).for_each(|page| next(page).store(page as u64, Relaxed));
        let mut random = Random::new(self.seed, MAX_CPUS as u64);
        for page in (1..self.pages()).rev() {
            let other = random.below(page);
            let (a, b) = (next(page).load(Relaxed), next(other).load(Relaxed));
            next(page).store(b, Relaxed);
            next(other).store(a, Relaxed);
        }
        for (index, word) in self.ring.iter().enumerate().filter(|(i, _)| i % WORDS != 0) {
            word.store(mix(self.seed ^ index as u64), Relaxed);
        }
    }

    /// Follows the ring from `page`; each page's word is verified on the way.
    fn hop(&self, cpu: &Cpu, mut page: usize, random: &mut Random) -> usize {
        for _ in 0..HOPS_EACH {
            let index = page * WORDS + 1 + random.below(WORDS - 1);
            let word = &self.ring[index];
            let address = core::ptr::from_ref(word).addr();
            let found = access(cpu, address, || word.load(Relaxed));
            verify(cpu, address, found, mix(self.seed ^ index as u64));
            page = self.ring[page * WORDS].load(Relaxed) as usize % self.pages();
        }
        page
    }

    /// The probe's access: some word of the ring.
    fn probe(&self, cpu: &Cpu, probe: &mut Probe, random: &mut Random) {
        let page = random.below(self.pages());
        probe.run(cpu, || {
            let index = page * WORDS + 1;
            let word = &self.ring[index];
            let address = core::ptr::from_ref(word).addr();
            verify(
                cpu,
                address,
                word.load(Relaxed),
                mix(self.seed ^ index as u64),
            );
        });
    }

    /// Thread `number`'s own page.
    fn own(&self, number: usize) -> &[AtomicU64] {
        &self.own[number * WORDS..(number + 1) * WORDS]
    }

    /// Writes a whole page of this thread's own and reads it back.
    fn stream(&self, cpu: &Cpu, number: usize, value: u64) {
        let own = self.own(number);
        for (index, word) in own.iter().enumerate() {
            word.store(value ^ index as u64, Relaxed);
        }
        for (index, word) in own.iter().enumerate() {
            let found = word.load(Relaxed);
            if found != value ^ index as u64 {
                record::error(cpu, core::ptr::from_ref(word).addr(), found);
            }
        }
        record::checked(cpu, own.len() as u64);
    }

    fn operation(&self, cpu: &Cpu, number: usize, page: &mut usize, random: &mut Random) {
        let span = Span::start(cpu);
        *page = self.hop(cpu, *page, random);
        self.stream(cpu, number, random.bits());
        arithmetic(cpu, self.own(number), random.bits());
        span.finish(cpu, Metric::Operation);
        record::operation(cpu);
        record::count(cpu, HOPS, HOPS_EACH as u64);
        record::count(cpu, BYTES, 2 * PAGE_SIZE as u64);
    }
}

/// As many threads on each CPU as the host asked for: more than one has them preempted.
impl Workload for Chase {
    fn threads(&self, cpus: usize) -> usize {
        self.threads_each * cpus
    }

    fn run(&self, cpu: &'static Cpu, number: usize) {
        let mut random = Random::new(self.seed, number as u64);
        let mut page = random.below(self.pages());
        let mut probe = Probe::new(cpu);
        let mut operations = 0;
        while !is_over(cpu) {
            self.operation(cpu, number, &mut page, &mut random);
            self.probe(cpu, &mut probe, &mut random);
            if self.ticks {
                tick::look(cpu);
            }
            operations += 1;
            (self.between)(cpu, operations);
        }
    }

    unsafe fn audit(&self, cpu: &Cpu) -> Audit {
        let before = cpu.area.errors.load(Relaxed);
        let mut page = 0;
        for length in 1..=self.pages() {
            let word = &self.ring[page * WORDS];
            page = word.load(Relaxed) as usize % self.pages();
            // One cycle: it comes back to the first page only at its end.
            if (page == 0) != (length == self.pages()) {
                record::error(cpu, core::ptr::from_ref(word).addr(), page as u64);
            }
        }
        for (index, word) in self.ring.iter().enumerate().filter(|(i, _)| i % WORDS != 0) {
            let (address, found) = (core::ptr::from_ref(word).addr(), word.load(Relaxed));
            verify(cpu, address, found, mix(self.seed ^ index as u64));
        }
        Audit {
            checked: self.ring.len() as u64,
            errors: cpu.area.errors.load(Relaxed) - before,
            updates: 0,
        }
    }
}

fn verify(cpu: &Cpu, address: usize, found: u64, right: u64) {
    record::checked(cpu, 1);
    if found != right {
        record::error(cpu, address, found);
    }
}

/// Sums in vector registers and in general ones, over so many rounds that preemptions fall into
/// them: a register that is not as it was makes a sum wrong. The sums are kept at `own`.
fn arithmetic(cpu: &Cpu, own: &[AtomicU64], seed: u64) {
    let first = core::hint::black_box((seed >> 44) as f64);
    let mut floats: [f64; FLOATS] = core::array::from_fn(|lane| first + lane as f64);
    let mut integers: [u64; INTEGERS] = core::array::from_fn(|lane| seed ^ lane as u64);
    for round in 0..ROUNDS {
        for (lane, sum) in floats.iter_mut().enumerate() {
            *sum += (round + lane) as f64;
        }
        // Opaque, or the compiler would know the sums without adding.
        for integer in &mut integers {
            *integer = core::hint::black_box(*integer).wrapping_add(round as u64);
        }
    }
    let added = (ROUNDS * (ROUNDS - 1) / 2) as u64;
    // Whole numbers below 2^53: no rounding anywhere.
    let right = |lane: usize| first + lane as f64 + added as f64 + (ROUNDS * lane) as f64;
    let floats = floats.into_iter().enumerate();
    let floats = floats.map(|(lane, sum)| (sum.to_bits(), right(lane).to_bits()));
    let integers = integers.into_iter().enumerate();
    let integers = integers.map(|(lane, sum)| (sum, (seed ^ lane as u64).wrapping_add(added)));
    for (word, (sum, right)) in own.iter().zip(floats.chain(integers)) {
        word.store(sum, Relaxed);
        verify(cpu, core::ptr::from_ref(word).addr(), sum, right);
    }
}
