//! The workload `lock`: contended spinlocks, with critical sections of a chosen length that touch
//! pages which migrate.

use super::audit::Audit;
use super::plan::{Parameters, Workload, is_over};
use super::spinlock::{Spinlock, TestLock};
use crate::Cpu;
use crate::arch::tsc;
use crate::mm::PageAllocator;
use crate::random::Random;
use crate::record::{self, Span, access};
use crate::sync::SeqLock;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use underfoot_abi::{Metric, PAGE_SIZE, PageByte, PageKind, SNAPSHOTS, Variant};

/// Parameters, in the order of the contract.
const THREADS: usize = 0;
const LOCKS: usize = 1;
const SECTION_NS: usize = 2;
const TOUCHES: usize = 3;
const KIND: usize = 4;

const WORDS: usize = PAGE_SIZE / size_of::<u64>();
/// Pages that each lock protects.
const PAGES_EACH: usize = 8;
/// Locks at most; the contract's bound.
const MOST_LOCKS: usize = 64;
/// Attempts of a reader beside writers before it keeps them out.
const ATTEMPTS: usize = 8;

/// The locks, and the pages that they protect.
pub struct Lock {
    locks: [Spinlock; MOST_LOCKS],
    pages: &'static [AtomicU64],
    threads_each: usize,
    count: usize,
    section_ns: u64,
    touches: usize,
    seed: u64,
    /// What the kernel does after each operation.
    between: fn(&Cpu, u64),
    /// [`Variant::NoLock`]: the pages are touched without their lock.
    unlocked: bool,
}

impl Lock {
    /// Takes its pages. `None` if there are not enough.
    #[must_use]
    pub fn build(
        cpu: &Cpu,
        pages: &'static PageAllocator,
        parameters: &Parameters,
        between: fn(&Cpu, u64),
    ) -> Option<Self> {
        let count = (parameters[LOCKS] as usize).clamp(1, MOST_LOCKS);
        let byte = PageByte::new(PageKind::Data, false);
        Some(Self {
            locks: core::array::from_fn(|_| Spinlock::of_kind(parameters[KIND])),
            pages: pages.zeroed_slice(cpu, count * PAGES_EACH * WORDS, byte)?,
            threads_each: parameters[THREADS] as usize,
            count,
            section_ns: parameters[SECTION_NS],
            touches: parameters[TOUCHES] as usize,
            seed: cpu.header.seed,
            between,
            unlocked: cpu.header.variant == Variant::NoLock as u32,
        })
    }

    /// Page `nth` of those that lock `number` protects.
    fn page(&self, number: usize, nth: usize) -> &[AtomicU64] {
        let start = (number * PAGES_EACH + nth) * WORDS;
        &self.pages[start..start + WORDS]
    }

    fn operation(&self, cpu: &Cpu, random: &mut Random) {
        let span = Span::start(cpu);
        let number = random.below(self.count);
        if let Spinlock::Sequence(lock) = &self.locks[number]
            && random.below(2) == 0
        {
            for _ in 0..self.touches {
                self.read(cpu, lock, self.page(number, random.below(PAGES_EACH)));
            }
        } else {
            let _held = (!self.unlocked).then(|| self.locks[number].lock(cpu));
            let entered = tsc();
            for _ in 0..self.touches {
                self.touch(cpu, self.page(number, random.below(PAGES_EACH)), random);
            }
            while cpu.ns(tsc().saturating_sub(entered)) < self.section_ns {
                core::hint::spin_loop();
            }
        }
        span.finish(cpu, Metric::Operation);
        record::operation(cpu);
    }

    /// Reads a page beside the writers of `lock`: both ends are of one touch.
    fn read(&self, cpu: &Cpu, lock: &SeqLock<true, TestLock>, page: &[AtomicU64]) {
        let (first, last) = (&page[0], &page[WORDS - 1]);
        let address = core::ptr::from_ref(first).addr();
        let ends = || access(cpu, address, || [first, last].map(|end| end.load(Relaxed)));
        let attempt = || {
            let seq = lock.read_begin(cpu);
            let found = ends();
            (!lock.read_retry(seq)).then_some(found)
        };
        let [before, after] = (0..ATTEMPTS)
            .find_map(|_| {
                let found = attempt();
                record::count(cpu, SNAPSHOTS + usize::from(found.is_none()), 1);
                found
            })
            .unwrap_or_else(|| {
                let _alone = lock.read_exclusive(cpu);
                ends()
            });
        record::checked(cpu, 1);
        if before != after {
            record::error(cpu, core::ptr::from_ref(last).addr(), after);
        }
    }

    /// Verifies a page and moves it on. Its first and last word count the touches; those between
    /// are rewritten now and then, all to the count of that time, and verified before.
    fn touch(&self, cpu: &Cpu, page: &[AtomicU64], random: &mut Random) {
        let (first, last) = (&page[0], &page[WORDS - 1]);
        let address = core::ptr::from_ref(first).addr();
        let before = access(cpu, address, || {
            let before = first.load(Relaxed);
            first.store(before.wrapping_add(1), Relaxed);
            before
        });
        verify(cpu, last, before);
        last.store(before.wrapping_add(1), Relaxed);
        record::updated(cpu);
        if random.below(64) == 0 {
            verify_middle(cpu, page);
            let middle = &page[1..WORDS - 1];
            middle.iter().for_each(|word| word.store(before, Relaxed));
        }
    }
}

/// The words between the first and the last are the same.
fn verify_middle(cpu: &Cpu, page: &[AtomicU64]) {
    let right = page[1].load(Relaxed);
    page[2..WORDS - 1]
        .iter()
        .for_each(|word| verify(cpu, word, right));
}

fn verify(cpu: &Cpu, word: &AtomicU64, right: u64) {
    let found = word.load(Relaxed);
    record::checked(cpu, 1);
    if found != right {
        record::error(cpu, core::ptr::from_ref(word).addr(), found);
    }
}

/// As many threads on each CPU as the host asked for.
impl Workload for Lock {
    fn threads(&self, cpus: usize) -> usize {
        self.threads_each * cpus
    }

    fn run(&self, cpu: &'static Cpu, number: usize) {
        let mut random = Random::new(self.seed, number as u64);
        let mut operations = 0;
        while !is_over(cpu) {
            self.operation(cpu, &mut random);
            operations += 1;
            (self.between)(cpu, operations);
        }
    }

    unsafe fn audit(&self, cpu: &Cpu) -> Audit {
        let before = cpu.area.errors.load(Relaxed);
        let mut found = 0u64;
        for page in self.pages.as_chunks::<WORDS>().0 {
            let first = page[0].load(Relaxed);
            found = found.wrapping_add(first);
            verify(cpu, &page[WORDS - 1], first);
            verify_middle(cpu, page);
        }
        Audit {
            checked: self.pages.len() as u64,
            errors: cpu.area.errors.load(Relaxed) - before,
            updates: found,
        }
    }
}
