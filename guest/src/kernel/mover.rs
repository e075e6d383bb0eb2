//! The guest as its own mover: its thread, its page-fault handler, and what may not move.

use super::memory::LOW_END;
use super::once::Once;
use super::shared::Shared;
use super::state::{self, Kernel};
use super::{fail, ipi, threads};
use core::ops::Range;
use core::sync::atomic::Ordering::Relaxed;
use underfoot_abi::{Metric, Mover, PAGE_SIZE, Phase, Wait};
use underfoot_firmware::{Section, TrapFrame, sections};
use underfoot_guest::arch::tsc;
use underfoot_guest::mm::{MapError, PageAllocator, PageTable, PteFlags};
use underfoot_guest::mover::{Frames, Job, Parts, Pick, give_up, wait_until_mapped};
use underfoot_guest::random::Random;
use underfoot_guest::sched::{Priority, ThreadId};
use underfoot_guest::workload::{is_over, movable_image};
use underfoot_guest::{Cpu, record};

/// Where the second mapping of all memory begins, far above RAM.
const DIRECT: usize = 1 << 41;
/// The CPU that the mover's thread belongs to: the one that starts and joins threads, so that none
/// comes or goes in a window.
pub const CPU: usize = 0;
/// Long beside a window, short beside a watchdog.
const PATIENCE_NS: u64 = 10_000_000;
/// A page is left alone for so long after it moved, or those who wait for it might never get on.
const REST_NS: u64 = 20_000;
/// The mover's stream of random numbers: no CPU has this number.
const STREAM: u64 = u64::MAX - 1;
/// The error code of a page fault says so if the entry was present (Intel SDM volume 3, 4.7).
const FAULT_PRESENT: u64 = 1;

static FRAMES: Once<Frames> = Once::new();
static JOB: Once<Job> = Once::new();

/// Whether the host wants the guest to move its pages.
pub fn is_wanted(shared: &Shared) -> bool {
    shared.header.mover == Mover::Guest as u32
}

/// Maps `ram` a second time, by 2 MiB entries, for the mover alone.
pub fn map_direct(
    cpu: &Cpu,
    pages: &PageAllocator,
    table: &PageTable,
    ram: impl Iterator<Item = Range<usize>>,
    flags: PteFlags,
) -> Result<(), MapError> {
    const LARGE: usize = PAGE_SIZE << underfoot_guest::mm::MAX_ORDER;
    let mut mapped = 0;
    for range in ram {
        for frame in (range.start / LARGE * LARGE..range.end).step_by(LARGE) {
            // Two ranges may share a block.
            if frame >= mapped {
                table.map(cpu, pages, DIRECT + frame, frame, true, flags)?;
                mapped = frame + LARGE;
            }
        }
    }
    Ok(())
}

/// Sets aside what the mover needs, and says what may not move. All memory is mapped at [`DIRECT`],
/// and no other CPU runs yet.
pub fn set_up(
    cpu: &Cpu,
    shared: &'static Shared,
    pages: &'static PageAllocator,
    table: &'static PageTable,
) -> &'static Frames {
    // SAFETY: mapped there by `map_direct`, and nobody else uses those addresses.
    let frames = unsafe { Frames::new(cpu, pages, table, DIRECT) };
    let frames = FRAMES.set(fail::wanted(frames, "the records of the mover's frames"));
    shared.mover.root.store(table.root() as u64, Relaxed);
    cpu.ops.flush_all();
    pin_image(frames);
    JOB.set(Job::new(Parts {
        pages,
        table,
        tlb: &ipi::TLB,
        frames,
        area: shared.mover,
        patience_ns: PATIENCE_NS,
    }));
    frames
}

/// Mover and fault handler run on the image's text, constants and statics, so only those of them may
/// move that no code but a workload's touches.
fn pin_image(frames: &Frames) {
    let parts = sections();
    let [(_, first), .., (_, last)] = &parts;
    frames.pin(first.start..last.end);
    for range in movable_image() {
        frames.unpin(range);
    }
    for (_, stack) in parts.iter().filter(|(part, _)| *part == Section::Stack) {
        frames.unpin(stack.clone());
        frames.set_own_stack(stack.clone(), true);
    }
}

/// The stack `range` is that of a thread of CPU `on` from now on, or of none.
pub fn note_stack(on: Option<usize>, range: Range<usize>) {
    if let Some(frames) = FRAMES.get() {
        frames.set_own_stack(range, on == Some(CPU));
    }
}

/// Makes the mover's thread, if the guest is to move its pages.
pub fn prepare(kernel: &Kernel, cpu: &Cpu) -> Option<ThreadId> {
    JOB.get()?;
    let thread = threads::prepare(kernel, cpu, CPU, Priority::NORMAL, run, 0);
    Some(fail::wanted(thread, "the mover's thread"))
}

/// Looks whether every page is where it should be. The mover has ended.
pub fn audit(shared: &Shared) {
    if let Some(job) = JOB.get() {
        job.audit(LOW_END..shared.range.0);
    }
}

fn run(cpu: &'static Cpu, _: usize) {
    let kernel = state::kernel().expect("threads start once the kernel is whole");
    let job = JOB.get().expect("it is set up before its thread starts");
    let header = kernel.shared.header;
    let here = 0u8;
    let stack = threads::stack_around(core::ptr::from_ref(core::hint::black_box(&here)).addr());
    job.frames().set_own_stack(stack, false);
    let mut pick = Pick::new(header.mover_targets, Random::new(header.seed, STREAM));
    let mut pace = Pace::new(header.mover_rate);
    let mut last = (0, 0);
    while !is_over(cpu) {
        if header.phase.load(Relaxed) != Phase::Moving as u32 || pace.is_early(cpu) {
            cpu.sched.sleep_ns(cpu, 0);
            continue;
        }
        let Some((page, kind)) = pick.next(kernel.pages, job.frames()) else {
            if pick.has_none() {
                cpu.sched.sleep_ns(cpu, 0);
            }
            continue;
        };
        let rested = page != last.0 || cpu.ns(tsc().saturating_sub(last.1)) >= REST_NS;
        if rested {
            job.move_page(cpu, page, kind);
            last = (page, tsc());
            pace.moved();
        }
    }
}

/// Keeps the mover to its rate, to the tick: what was missed in one is caught up with in the next.
struct Pace {
    rate: u64,
    began_tsc: u64,
    moved: u64,
}

impl Pace {
    /// `rate` pages a second, 0 as fast as it goes, from the first page on.
    const fn new(rate: u64) -> Self {
        Self {
            rate,
            began_tsc: 0,
            moved: 0,
        }
    }

    fn is_early(&mut self, cpu: &Cpu) -> bool {
        if self.rate == 0 {
            return false;
        }
        if self.began_tsc == 0 {
            self.began_tsc = tsc();
        }
        let ns = cpu.ns(tsc().saturating_sub(self.began_tsc));
        u128::from(self.moved) * 1_000_000_000 > u128::from(ns) * u128::from(self.rate)
    }

    const fn moved(&mut self) {
        self.moved += 1;
    }
}

/// The page-fault handler, with interrupts masked: spins until the page is mapped again, and says so in
/// the context word, which the caller restores. `false` if nobody has the page in flight, so that the fault
/// is a fault of the kernel's.
///
/// Its stack, this code and all that it touches never move; a CPU that met another fault in here would
/// be lost.
pub fn page_fault(cpu: &Cpu, frame: &TrapFrame) -> bool {
    let Some(job) = JOB.get() else { return false };
    if frame.error & FAULT_PRESENT != 0 {
        return false;
    }
    let began = tsc();
    let Some(entry) = job.entry(frame.cr2 as usize) else {
        return false;
    };
    cpu.waits_for(Wait::Window, (frame.cr2 as usize / PAGE_SIZE) as u32);
    let mapped = wait_until_mapped(entry, || {
        if cpu.id == CPU {
            // An interrupt in the mover's own window needs the page: nobody else would map it.
            assert!(give_up(entry), "the mover needs the page that it copies");
        }
        ipi::TLB.poll(cpu);
        core::hint::spin_loop();
    });
    if mapped.is_none() {
        return false;
    }
    if let Some(phase) = record::phase(cpu) {
        // Of these, one at a time is on a CPU.
        let ns = cpu.ns(tsc().saturating_sub(began));
        cpu.area.histograms[phase as usize][Metric::PageFault as usize].record(ns);
    }
    true
}
