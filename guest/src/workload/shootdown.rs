//! The workload `shootdown`: page table entries change under readers, and no reader may use an old
//! one after its shootdown was reported done.
//!
//! Each test page has two frames. A *remap* fills the one that is not mapped, maps it, shoots the old
//! translation down, says so, and then poisons the old frame. A *protection* makes the entry
//! read-only in the same way. Readers note what was said to be done, and then read by the CPU's
//! software TLB, which forgets nothing by itself, and by the hardware where there is a page table.

use super::{
    audit::Audit,
    plan::{Parameters, Seat, Workload, is_over},
};
use crate::random::Random;
use crate::{
    Cpu,
    mm::{MapError, PageAllocator, PageTable, PteFlags, ZeroValid, frame_of},
    record,
    sched::Priority,
    tlb::{Batch, HostWords, Shot, Space, Tlb, Way},
};
use core::sync::atomic::{
    AtomicU64, AtomicUsize,
    Ordering::{Acquire, Relaxed, Release},
};
use underfoot_abi::{Mover, PAGE_SIZE, POISON_PAGE, PageByte, PageKind, ReportKind, WorkloadId};

/// Where the test pages lie: far above RAM.
const WINDOW: usize = 1 << 40;
/// Reads between two stretches without the space.
const BURST: usize = 256;
/// Turns of the longest of these stretches.
const REST: usize = 2_048;
const RECORDS: PageByte = PageByte::new(PageKind::Data, false);
/// Beside the number of remaps in [`TestPage::done`].
const PROTECTED: u64 = 1;

/// A page whose entry changes. One initiator writes it.
#[repr(C)]
struct TestPage {
    /// What is done, shootdown included: twice the number of remaps, plus [`PROTECTED`].
    done: AtomicU64,
    /// The frame that is mapped, and the other one.
    frames: [AtomicUsize; 2],
}

// SAFETY: atomics, of which zeroes are valid.
unsafe impl ZeroValid for TestPage {}

/// What the kernel has for it.
#[derive(Clone, Copy)]
pub struct ShootdownParts {
    /// The page table in which the test pages are mapped.
    pub table: &'static PageTable,
    /// All CPUs' state.
    pub tlb: &'static Tlb,
    /// The space of that table, for this workload alone.
    pub space: &'static Space,
    /// The words of a vCPU's hosts.
    pub words: fn(usize) -> Option<HostWords<'static>>,
    /// The table is what the processor translates by.
    pub hardware: bool,
}

/// The workload, shared by all threads.
pub struct Shootdown {
    parts: ShootdownParts,
    way: Way,
    /// Pages in one shootdown.
    batch: usize,
    initiators: usize,
    readers: usize,
    /// `batch` for each initiator.
    pages: &'static [TestPage],
}

/// What one thread keeps between its steps.
struct Thread {
    random: Random,
    role: Role,
}

enum Role {
    /// Shoots the pages from this index on; the number of the next operation.
    Initiator(usize, u64),
    Reader,
}

impl Shootdown {
    /// Maps the test pages.
    ///
    /// # Errors
    /// [`MapError`], also where there are no pages to be mapped.
    pub fn build(
        cpu: &Cpu,
        allocator: &PageAllocator,
        parts: ShootdownParts,
        parameters: &Parameters,
    ) -> Result<Self, MapError> {
        let [way, batch, initiators, readers] = allowed(parameters);
        let (batch, initiators) = (batch as usize, initiators as usize);
        let full = MapError::OutOfPages { address: WINDOW };
        let pages = allocator
            .zeroed_slice::<TestPage>(cpu, batch * initiators, RECORDS)
            .ok_or(full)?;
        // They are mapped here too: the guest's own mover knows of their own addresses alone.
        let frames = match cpu.header.mover == Mover::Guest as u32 {
            true => PageByte::new(PageKind::Reserved, false),
            false => RECORDS,
        };
        for (index, page) in pages.iter().enumerate() {
            for (number, frame) in page.frames.iter().enumerate() {
                let address = allocator.allocate_zeroed(cpu, 0, frames).ok_or(full)?;
                let content = [stamp(index, 0), POISON_PAGE][number];
                word(address).store(content, Relaxed);
                frame.store(address, Relaxed);
            }
            let frame = page.frames[0].load(Relaxed);
            let flags = flags(true);
            parts
                .table
                .map(cpu, allocator, address(index), frame, false, flags)?;
        }
        Ok(Self {
            parts,
            way: Way::from_number(way),
            batch,
            initiators,
            readers: readers as usize,
            pages,
        })
    }

    /// One operation of an initiator, or some reads of a reader.
    fn step(&self, cpu: &Cpu, thread: &mut Thread) {
        match &mut thread.role {
            Role::Initiator(first, number) => {
                let pages = *first..*first + self.batch;
                if *number % 2 == 0 {
                    self.remap(cpu, pages);
                } else {
                    self.protect(cpu, pages);
                }
                *number += 1;
                record::operation(cpu);
            }
            Role::Reader => self.burst(cpu, &mut thread.random),
        }
    }

    /// Moves the pages to their other frames, writable, and poisons those that they had.
    fn remap(&self, cpu: &Cpu, pages: core::ops::Range<usize>) {
        for index in pages.clone() {
            let page = &self.pages[index];
            let remaps = page.done.load(Relaxed) / 2;
            // Before the entry is writable: readers look at this after the entry too.
            page.done.store(remaps * 2, Release);
            let frame = page.frames[1].load(Relaxed);
            word(frame).store(stamp(index, remaps + 1), Relaxed);
            self.replace(cpu, index, frame, true);
        }
        self.shoot(cpu, pages.clone());
        for index in pages {
            let page = &self.pages[index];
            let [old, new] = page.frames.each_ref().map(|frame| frame.load(Relaxed));
            page.done.fetch_add(2, Release);
            word(old).store(POISON_PAGE, Relaxed);
            page.frames[0].store(new, Relaxed);
            page.frames[1].store(old, Relaxed);
            record::updated(cpu);
        }
    }

    /// Makes the pages read-only.
    fn protect(&self, cpu: &Cpu, pages: core::ops::Range<usize>) {
        for index in pages.clone() {
            let frame = self.pages[index].frames[0].load(Relaxed);
            self.replace(cpu, index, frame, false);
        }
        self.shoot(cpu, pages.clone());
        for page in &self.pages[pages] {
            page.done.fetch_add(PROTECTED, Release);
        }
    }

    fn replace(&self, cpu: &Cpu, index: usize, frame: usize, writable: bool) {
        let address = address(index);
        let table = self.parts.table;
        if table.replace(address, frame, flags(writable)).is_none() {
            record::error(cpu, address, 0);
        }
    }

    fn shoot(&self, cpu: &Cpu, pages: core::ops::Range<usize>) {
        let mut batch = Batch::new();
        pages.clone().for_each(|index| batch.add(address(index), 1));
        let ShootdownParts { tlb, space, .. } = self.parts;
        let shot = tlb.shoot_with(cpu, space, &batch, self.way, self.parts.words);
        self.count(cpu, &shot, &batch, pages.len());
    }

    fn count(&self, cpu: &Cpu, shot: &Shot, batch: &Batch, pages: usize) {
        let refused = self.way == Way::Hypercall && shot.sent != 0 && !shot.hypercall;
        let counts = [
            pages as u64,
            u64::from(shot.asked),
            u64::from(shot.sent),
            u64::from(shot.asked - shot.sent),
            u64::from(shot.lazy),
            u64::from(shot.notes_held),
            u64::from(shot.notes_preempted),
            u64::from(shot.hypercall),
            u64::from(refused),
            u64::from(batch.is_all()),
        ];
        for (index, n) in counts.into_iter().enumerate() {
            // Operations are counted elsewhere.
            record::count(cpu, 1 + index, n);
        }
    }

    /// Uses the space for some reads, and then does without it for a while, as a kernel thread does
    /// between `kthread_use_mm` and `kthread_unuse_mm`.
    fn burst(&self, cpu: &Cpu, random: &mut Random) {
        cpu.preempt_disable();
        self.parts.tlb.activate(cpu, None, self.parts.space);
        for _ in 0..BURST {
            self.read(cpu, random.below(self.pages.len()));
        }
        self.parts.tlb.be_lazy(cpu);
        let reads = BURST as u64 * (1 + u64::from(self.parts.hardware));
        record::checked(cpu, reads);
        record::count(cpu, Self::READS, reads);
        // A CPU on which there are only readers gets on too.
        let progress = &cpu.area.progress;
        progress.store(progress.load(Relaxed) + 1, Relaxed);
        cpu.preempt_enable();
        for _ in 0..random.below(REST) {
            core::hint::spin_loop();
        }
    }

    const READS: usize = WorkloadId::Shootdown.counters().len() - 1;

    fn read(&self, cpu: &Cpu, index: usize) {
        let (page, virt) = (&self.pages[index], address(index));
        // Acquire pairs with the release after the shootdown: what follows is later than that.
        let before = page.done.load(Acquire);
        let walk = || self.parts.table.walk(virt).map(|leaf| leaf.entry.value);
        let by = |entry: u64| (entry, word(frame_of(entry)).load(Relaxed));
        match self.parts.tlb.soft(cpu).access(cpu, virt, walk, by) {
            Some((entry, found)) => {
                verify(cpu, index, found, before, "the cached translation");
                // Only if it stayed protected throughout.
                let writable = PteFlags::WRITABLE.are_in(entry);
                if writable && before & PROTECTED != 0 && page.done.load(Acquire) == before {
                    stale(cpu, index, entry, before, "a writable translation");
                }
            }
            None => stale(cpu, index, 0, before, "no translation"),
        }
        if self.parts.hardware {
            let before = page.done.load(Acquire);
            let found = record::access(cpu, virt, || word(virt).load(Relaxed));
            verify(cpu, index, found, before, "the hardware's translation");
        }
    }
}

impl Workload for Shootdown {
    fn threads(&self, cpus: usize) -> usize {
        self.initiators + self.readers * cpus
    }

    fn seat(&self, number: usize, cpus: usize) -> Seat {
        // Readers come after the initiators, and begin with the first CPU too.
        let turn = number.checked_sub(self.initiators).unwrap_or(number);
        Seat {
            cpu: turn % cpus,
            priority: Priority::NORMAL,
        }
    }

    fn run(&self, cpu: &'static Cpu, number: usize) {
        let mut thread = Thread::new(self, cpu, number);
        while !is_over(cpu) {
            self.step(cpu, &mut thread);
        }
    }

    unsafe fn audit(&self, cpu: &Cpu) -> Audit {
        let errors_before = cpu.area.errors.load(Relaxed);
        let mut audit = Audit::default();
        let mut agree = |at: usize, found: u64, right: u64| {
            audit.checked += 1;
            if found != right {
                record::error(cpu, at, found);
            }
        };
        for (index, page) in self.pages.iter().enumerate() {
            let remaps = page.done.load(Acquire) / 2;
            let [mapped, other] = page.frames.each_ref().map(|frame| frame.load(Relaxed));
            let leaf = self.parts.table.walk(address(index));
            let found = leaf.map_or(0, |leaf| leaf.physical);
            agree(address(index), found as u64, mapped as u64);
            agree(mapped, word(mapped).load(Relaxed), stamp(index, remaps));
            agree(other, word(other).load(Relaxed), POISON_PAGE);
            audit.updates += remaps;
        }
        audit.errors = cpu.area.errors.load(Relaxed) - errors_before;
        audit
    }
}

impl Thread {
    fn new(workload: &Shootdown, cpu: &Cpu, number: usize) -> Self {
        Self {
            random: Random::new(cpu.header.seed, number as u64),
            role: if number < workload.initiators {
                Role::Initiator(number * workload.batch, 0)
            } else {
                Role::Reader
            },
        }
    }
}

/// The workload's parameters; what the host left out, or got wrong, is what it is by default.
fn allowed<const N: usize>(parameters: &Parameters) -> [u64; N] {
    let known = WorkloadId::Shootdown.parameters();
    core::array::from_fn(|index| {
        let given = parameters[index];
        let allowed = known[index].least..=known[index].most;
        if allowed.contains(&given) {
            given
        } else {
            known[index].default
        }
    })
}

const fn address(index: usize) -> usize {
    WINDOW + index * PAGE_SIZE
}

fn flags(writable: bool) -> PteFlags {
    let flags = PteFlags::PRESENT | PteFlags::USER | PteFlags::ACCESSED | PteFlags::DIRTY;
    if writable {
        flags | PteFlags::WRITABLE
    } else {
        flags
    }
}

/// What the first word of a page holds after so many remaps.
const fn stamp(index: usize, remaps: u64) -> u64 {
    (index as u64) << 48 | remaps
}

/// The first word of a test page or of one of its frames.
fn word(address: usize) -> &'static AtomicU64 {
    // SAFETY: frames were allocated for this and are never freed; the pages are mapped to them for
    // ever. All of it is accessed as atomics.
    unsafe { &*core::ptr::with_exposed_provenance(address) }
}

/// Whether `found` is what page `index` held when `done` was done, or later.
fn verify(cpu: &Cpu, index: usize, found: u64, done: u64, by: &str) {
    let oldest = stamp(index, done / 2);
    let next_page = stamp(index + 1, 0);
    if !(oldest..next_page).contains(&found) {
        stale(cpu, index, found, done, by);
    }
}

#[cold]
fn stale(cpu: &Cpu, index: usize, found: u64, done: u64, by: &str) {
    let address = address(index);
    // The first of each CPU says it all.
    if cpu.area.errors.load(Relaxed) == 0 {
        let words = [address as u64, found, done, cpu.id as u64];
        record::report(
            cpu,
            ReportKind::Translation,
            words,
            format_args!(
                "CPU {} used {by} of {address:#x} after its shootdown was done: found {found:#x}, {} remaps were done",
                cpu.id,
                done / 2
            ),
        );
    }
    record::error(cpu, address, found);
}

#[cfg(test)]
mod tests;
