//! Address spaces on the host.

mod faults;
mod mappings;
mod reclaim;
mod shootdowns;
mod slots;
mod threads;

use super::*;
use crate::{
    Cpu,
    fixture::{self, Fixture},
    mm::{
        fragment::{TableAllocator, TableKind},
        watermark::{AfterGracePeriod, Levels, NoReclaim, Reclaim, Reclaimable, Watermarks},
    },
    sync::{Rcu, RcuStall},
    tlb::{Tlb, Way},
};
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};
use underfoot_abi::{PAGE_SIZE, PageByte, PageKind, ReportKind, Variant};

const RULES: Rules = Rules {
    path: Path::MmapLock,
    fallback: Fallback::Classic,
    wait_at_exit: false,
};

const PATHS: [Path; 3] = [Path::MmapLock, Path::VmaLock, Path::Speculative];

fn silent(_: &Cpu, _: &RcuStall) {}

/// A reclaimer that needs what is made after the memory that it is for.
#[derive(Default)]
struct LateReclaim(std::sync::OnceLock<SpaceReclaim>);

impl Reclaim for LateReclaim {
    fn reclaim(&self, cpu: &Cpu, pages: usize) -> usize {
        self.0.get().map_or(0, |late| late.reclaim(cpu, pages))
    }

    fn reclaimable(&self) -> Reclaimable {
        self.0
            .get()
            .map_or_else(Reclaimable::default, Reclaim::reclaimable)
    }
}

/// A guest with address spaces.
struct Rig {
    fixture: Fixture,
    spaces: &'static Spaces,
    rcu: &'static Rcu,
    memory: &'static Watermarks,
    tlb: &'static Tlb,
    /// Pages that are free, or slabs, before the first space.
    spare_pages: usize,
}

impl Rig {
    fn new(path: Path) -> (Self, Cpu) {
        Self::with(
            1,
            Variant::None,
            Rules { path, ..RULES },
            TableKind::Fragments,
            &NoReclaim,
            None,
        )
    }

    fn with(
        cpus: u32,
        variant: Variant,
        rules: Rules,
        kind: TableKind,
        reclaimer: &'static dyn Reclaim,
        way: Option<Way>,
    ) -> (Self, Cpu) {
        let fixture = Fixture::with(cpus, variant);
        let cpu = fixture.cpu(0);
        let pages = fixture::allocator(&cpu, 2048);
        let levels = Levels::with_reserve(64);
        let memory: &Watermarks = Box::leak(Box::new(Watermarks::new(pages, levels, reclaimer)));
        let rcu: &Rcu = Box::leak(Box::new(Rcu::new(u64::MAX, silent)));
        let tables = TableAllocator::build(&cpu, memory, rcu, kind, 512, 32).expect("memory");
        let tlb: &Tlb = Box::leak(Box::default());
        fixture.interrupt_by(|cpu| tlb.poll(cpu));
        let words = |_| None;
        let shots = way.map(|way| Translations { tlb, words, way });
        let spaces = Spaces::build(&cpu, memory, rcu, tables, rules, shots, 32).expect("memory");
        let mut rig = Self {
            fixture,
            spaces,
            rcu,
            memory,
            tlb,
            spare_pages: 0,
        };
        rig.spare_pages = rig.spare(&cpu);
        (rig, cpu)
    }

    /// One whose pages are taken away when there are too few.
    fn reclaiming(rules: Rules, way: Option<Way>) -> (Self, Cpu) {
        let late: &'static LateReclaim = Box::leak(Box::default());
        let (rig, cpu) = Self::with(1, Variant::None, rules, TableKind::Fragments, late, way);
        let reclaim = SpaceReclaim::new(AfterGracePeriod { rcu: rig.rcu });
        reclaim.attach(rig.spaces);
        assert!(late.0.set(reclaim).is_ok());
        (rig, cpu)
    }

    /// Pages that are free, or slabs, which are never given back.
    fn spare(&self, cpu: &Cpu) -> usize {
        let pages = self.memory.pages;
        let slabs = pages
            .covers()
            .step_by(PAGE_SIZE)
            .filter(|page| pages.kind(*page).kind() == PageKind::Slab)
            .count();
        slabs + pages.free_pages(cpu)
    }

    /// Destroys a space that nobody uses any more, and lets all callbacks run.
    fn destroy(&self, cpu: &Cpu, space: &'static Space) {
        // SAFETY: the tests' threads are done with it.
        self.answered(cpu, || unsafe { self.spaces.destroy(cpu, space) });
        self.settle(cpu);
    }

    /// Does this on `cpu` while the others, which do nothing, take interrupts.
    fn answered<T>(&self, cpu: &Cpu, work: impl FnOnce() -> T) -> T {
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for id in (0..self.fixture.areas.len()).filter(|id| *id != cpu.id) {
                let (other, over) = (self.fixture.cpu(id), &over);
                scope.spawn(move || {
                    while !over.load(Relaxed) {
                        other.sched.yield_now(&other);
                    }
                });
            }
            let result = work();
            over.store(true, Relaxed);
            result
        })
    }

    /// All grace periods are over.
    fn settle(&self, cpu: &Cpu) {
        // SAFETY: no CPU is in a read section. Twice, as a head may be queued again.
        unsafe {
            self.rcu.drain(cpu);
            self.rcu.drain(cpu);
        }
    }

    /// Nothing was found wrong, and everything came back.
    fn assert_clean(&self, cpu: &Cpu) {
        self.memory.pages.audit(cpu);
        assert_eq!(self.fixture.errors(), 0);
        assert_eq!(self.fixture.header.reports_made.load(Relaxed), 0);
        assert_eq!(self.spaces.tables().usage().pages, 0);
        assert_eq!(self.spaces.vmas.audit(cpu).live, 0);
        assert_eq!(self.spaces.nodes.audit(cpu).live, 0);
        assert_eq!(self.spare(cpu), self.spare_pages);
        assert_eq!(self.spaces.written_back(), self.fixture.updates());
    }

    fn ranges(&self, space: &Space) -> Vec<(usize, usize, Protection)> {
        let page = |address: usize| address / PAGE_SIZE;
        let all = self.spaces.tree(space).overlapping(&(0..usize::MAX));
        all.map(|vma| {
            (
                page(vma.range().start),
                page(vma.range().end),
                vma.protection(),
            )
        })
        .collect()
    }

    fn report_kind(&self) -> Option<ReportKind> {
        self.fixture.first_report()
    }
}
