//! What the workloads over address spaces share: where the spaces come from, and the audit.

use super::{Audit, Parameters};
use crate::{
    Cpu,
    mm::{
        PageAllocator,
        fragment::{TableAllocator, TableKind},
        watermark::{AfterGracePeriod, Levels, Watermarks},
    },
    record,
    space::{
        ChangeError, Fallback, Outcome, Path, Rules, Space, SpaceReclaim, Spaces, Translations,
    },
    sync::Rcu,
    tlb::{HostWords, Tlb, Way},
};
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use underfoot_abi::{
    CHANGES, PageByte, PageKind, ReportKind, TABLE_SAMPLES, TABLES_REUSED, Variant,
};

/// Parameters that all of them have, in the order of the contract.
const TABLES: usize = 0;
const PATH: usize = 1;
const FALLBACK: usize = 2;
const RESERVE: usize = 3;
const SHOOTDOWN: usize = 5;
/// The first of a workload's own.
pub(super) const OWN: usize = 6;

/// What the kernel has for workloads over address spaces.
#[derive(Clone, Copy)]
pub struct SpaceParts {
    /// Where all memory comes from.
    pub pages: &'static PageAllocator,
    /// What readers are in sections of.
    pub rcu: &'static Rcu,
    /// All CPUs' translations.
    pub tlb: &'static Tlb,
    /// The words of a vCPU's hosts.
    pub words: fn(usize) -> Option<HostWords<'static>>,
    /// What follows each of a thread's operations, with the number of them.
    pub between: fn(&Cpu, u64),
}

/// How long a busted form rests: a grace period is over by then, and its callbacks have run.
const GRACE_NS: u64 = 5_000_000;
/// How long a thread rests that found no memory.
const OUT_OF_MEMORY_NS: u64 = 1_000_000;

/// Address spaces, as the parameters want them.
pub(super) struct Stage {
    pub(super) spaces: &'static Spaces,
    pub(super) memory: &'static Watermarks,
    parts: SpaceParts,
    /// Changes are shot down.
    shoots: bool,
    /// What of the allocator's totals of reused tables was counted.
    reused: [AtomicU64; 2],
}

impl Stage {
    /// For at most about `most` address spaces at a time. `None` if there is too little memory.
    pub(super) fn build(
        cpu: &Cpu,
        parts: SpaceParts,
        parameters: &Parameters,
        most: usize,
        wait_at_exit: bool,
    ) -> Option<Self> {
        let SpaceParts { pages, rcu, .. } = parts;
        let data = PageByte::new(PageKind::Data, false);
        let reclaimer = SpaceReclaim::new(AfterGracePeriod { rcu });
        let reclaimer = pages.place(cpu, data, reclaimer)?;
        let levels = Levels::with_reserve(parameters[RESERVE] as usize);
        // Else nothing but emergencies would ever be given a page.
        if levels.high >= pages.free_pages(cpu) {
            return None;
        }
        let memory = pages.place(cpu, data, Watermarks::new(pages, levels, reclaimer))?;
        let kind = match parameters[TABLES] {
            0 => TableKind::Fragments,
            _ => TableKind::Whole,
        };
        let rules = Rules {
            path: match parameters[PATH] {
                0 => Path::MmapLock,
                1 => Path::VmaLock,
                _ => Path::Speculative,
            },
            fallback: match parameters[FALLBACK] {
                0 => Fallback::Reclaim,
                1 => Fallback::Classic,
                _ => Fallback::Ordinary,
            },
            wait_at_exit,
        };
        // Memory runs out before pages of tables do; owners are taken back at once.
        let tables = pages.free_pages(cpu);
        let tables = TableAllocator::build(cpu, memory, rcu, kind, tables, 4 * most)?;
        let translations = parameters[SHOOTDOWN]
            .checked_sub(1)
            .map(|way| Translations {
                tlb: parts.tlb,
                words: parts.words,
                way: Way::from_number(way),
            });
        let spaces = Spaces::build(cpu, memory, rcu, tables, rules, translations, most)?;
        reclaimer.attach(spaces);
        Some(Self {
            spaces,
            memory,
            parts,
            shoots: parameters[SHOOTDOWN] != 0,
            reused: [const { AtomicU64::new(0) }; 2],
        })
    }

    /// What follows each of a thread's operations.
    pub(super) fn between(&self, cpu: &Cpu, operations: &mut u64) {
        *operations += 1;
        self.parts.rcu.quiescent(cpu);
        if cpu.header.variant == Variant::FreedListed as u32 {
            // Widens its race: a listed page's free half is mostly taken before the other one's
            // callback comes, and such a page is not given back.
            cpu.sched.sleep_ns(cpu, GRACE_NS);
        }
        (self.parts.between)(cpu, *operations);
    }

    /// Reports why `what`, which nobody else can have been in the way of, could not be done, and rests
    /// where something is scarce.
    pub(super) fn failed(&self, cpu: &Cpu, what: &str, why: ChangeError) {
        match why {
            ChangeError::OutOfMemory => self.out_of_memory(cpu, what),
            ChangeError::TooMany => {
                let text = format_args!("no slot for {what}: {why}");
                record::report(cpu, ReportKind::Exhausted, [0; 4], text);
                self.rest(cpu);
            }
            ChangeError::BadRange { start, .. }
            | ChangeError::Mapped { start }
            | ChangeError::NotMapped { start } => record::error(cpu, start, 0),
        }
    }

    /// No memory was left for `what`, which is counted and reported as a fault's want is.
    fn out_of_memory(&self, cpu: &Cpu, what: &str) {
        record::count(cpu, Outcome::OutOfMemory.counter(), 1);
        self.memory.out_of_memory(cpu, what);
        self.rest(cpu);
    }

    /// Waits until no CPU uses what a change has forbidden: shootdowns have seen to that, else a grace
    /// period does.
    pub(super) fn settle(&self, cpu: &Cpu) {
        if !self.shoots {
            self.parts.rcu.synchronize(cpu);
        }
    }

    /// Lets callbacks give something back, where memory is short.
    pub(super) fn rest(&self, cpu: &Cpu) {
        cpu.sched.sleep_ns(cpu, OUT_OF_MEMORY_NS);
    }

    /// Counts a change of mappings, and what the tables take at the moment.
    pub(super) fn changed(&self, cpu: &Cpu) {
        let usage = self.spaces.tables().usage();
        record::count(cpu, CHANGES, 1);
        let sample = [1, usage.pages, usage.tables, usage.pending, usage.wasted()];
        for (index, value) in sample.into_iter().enumerate() {
            record::count(cpu, TABLE_SAMPLES + index, value);
        }
        let totals = [usage.reused, usage.beside_pending];
        for (index, (counted, total)) in self.reused.iter().zip(totals).enumerate() {
            // Each is counted once, whichever thread comes first.
            let before = counted.fetch_max(total, Relaxed);
            record::count(cpu, TABLES_REUSED + index, total.saturating_sub(before));
        }
    }

    /// Verifies and destroys what is left of `spaces`, and that nothing is left of all tables.
    ///
    /// # Safety
    /// As for [`Workload::audit`](super::Workload::audit).
    pub(super) unsafe fn audit(
        &self,
        cpu: &Cpu,
        spaces: impl Iterator<Item = &'static Space>,
    ) -> Audit {
        let [errors, checked] =
            [&cpu.area.errors, &cpu.area.checked].map(|word| word.load(Relaxed));
        for space in spaces {
            self.spaces.audit(cpu, space);
            // SAFETY: the workload's threads have ended, and nobody else knows it.
            unsafe { self.spaces.destroy(cpu, space) };
        }
        // Twice: a page of tables has one callback head, which its halves use by turns.
        for _ in 0..2 {
            // SAFETY: no CPU is in a read section, by the caller's promise.
            unsafe { self.parts.rcu.drain(cpu) };
        }
        let left = self.spaces.tables().usage().pages;
        if left != 0 {
            record::error(cpu, 0, left);
        }
        let pages = self.parts.pages.audit(cpu);
        Audit {
            checked: pages + cpu.area.checked.load(Relaxed) - checked,
            errors: cpu.area.errors.load(Relaxed) - errors,
            updates: self.spaces.written_back(),
        }
    }
}
