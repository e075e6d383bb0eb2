//! The workload `lock`: contended spinlocks, with critical sections of a chosen length that touch
//! pages which migrate.

use super::audit::Audit;
use super::plan::{Workload, is_over};
use super::random::Random;
use crate::Cpu;
use crate::arch::tsc;
use crate::mm::PageAllocator;
use crate::record::{self, Span, access};
use crate::sync::TicketLock;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use underfoot_abi::{Metric, PAGE_SIZE, PageByte, PageKind};

/// Parameters, in the order of the contract.
const THREADS: usize = 0;
const LOCKS: usize = 1;
const SECTION_NS: usize = 2;
const TOUCHES: usize = 3;

const WORDS: usize = PAGE_SIZE / size_of::<u64>();
/// Pages that each lock protects.
const PAGES_EACH: usize = 8;
/// Locks at most; the contract's bound.
const MOST_LOCKS: usize = 64;

/// The locks, and the pages that they protect: in each page, all words are the same number.
pub struct Lock {
    locks: [TicketLock<()>; MOST_LOCKS],
    pages: &'static [AtomicU64],
    threads_each: usize,
    count: usize,
    section_ns: u64,
    touches: usize,
    seed: u64,
}

impl Lock {
    /// Takes its pages. `None` if there are not enough.
    #[must_use]
    pub fn build(cpu: &Cpu, pages: &'static PageAllocator) -> Option<Self> {
        let parameters = &cpu.header.parameters;
        let count = (parameters[LOCKS] as usize).clamp(1, MOST_LOCKS);
        let byte = PageByte::new(PageKind::Data, false);
        Some(Self {
            locks: [const { TicketLock::new(()) }; MOST_LOCKS],
            pages: pages.zeroed_slice(cpu, count * PAGES_EACH * WORDS, byte)?,
            threads_each: parameters[THREADS] as usize,
            count,
            section_ns: parameters[SECTION_NS],
            touches: parameters[TOUCHES] as usize,
            seed: cpu.header.seed,
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
        {
            let _held = self.locks[number].lock(cpu);
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

    /// Verifies two words of a page and moves them on, and all others with them now and then: only
    /// who holds the lock may see them differ.
    fn touch(&self, cpu: &Cpu, page: &[AtomicU64], random: &mut Random) {
        let (first, last) = (&page[0], &page[WORDS - 1]);
        let address = core::ptr::from_ref(first).addr();
        let (a, b) = access(cpu, address, || {
            let pair = (first.load(Relaxed), last.load(Relaxed));
            first.store(pair.0.wrapping_add(1), Relaxed);
            pair
        });
        last.store(a.wrapping_add(1), Relaxed);
        record::updated(cpu);
        record::checked(cpu, 1);
        if a != b {
            record::error(cpu, address, b);
        }
        if random.below(64) == 0 {
            page.iter()
                .for_each(|word| word.store(a.wrapping_add(1), Relaxed));
        }
    }
}

/// As many threads on each CPU as the host asked for.
impl Workload for Lock {
    fn threads(&self, cpus: usize) -> usize {
        self.threads_each * cpus
    }

    fn run(&self, cpu: &'static Cpu, number: usize) {
        let mut random = Random::new(self.seed, number as u64);
        while !is_over(cpu) {
            self.operation(cpu, &mut random);
        }
    }

    unsafe fn audit(&self, cpu: &Cpu, updates: u64) -> Audit {
        let before = cpu.area.errors.load(Relaxed);
        let mut found = 0u64;
        for page in self.pages.as_chunks::<WORDS>().0 {
            let [first, last] = [0, WORDS - 1].map(|word| page[word].load(Relaxed));
            found = found.wrapping_add(first);
            if first != last {
                record::error(cpu, page.as_ptr().addr(), last);
            }
        }
        if found != updates {
            record::error(cpu, self.pages.as_ptr().addr(), found);
        }
        Audit {
            checked: 1 + (self.pages.len() / WORDS) as u64,
            errors: cpu.area.errors.load(Relaxed) - before,
            updates: found,
        }
    }
}
