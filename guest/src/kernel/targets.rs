//! The memory that the workload touches beside its tree.

use super::fail;
use super::memory::{LOW_END, LargeRegion};
use super::once::Once;
use super::shared::Shared;
use core::ptr::with_exposed_provenance;
use core::sync::atomic::AtomicU64;
use underfoot_abi::{PAGE_SIZE, PageByte, PageKind};
use underfoot_firmware::{descriptor_page, idt_page};
use underfoot_guest::Cpu;
use underfoot_guest::mm::{PageAllocator, PageTable};
use underfoot_guest::mover::Frames;
use underfoot_guest::workload::{DATA, Targets};

/// Words of a GDT that never change: all but the TSS descriptor, whose busy bit the processor sets.
const GDT_WORDS: usize = 5;
/// Pages of per-CPU data that the workload counts in, for each CPU.
const PERCPU_PAGES: usize = 4;
const PAGE_WORDS: usize = PAGE_SIZE / size_of::<u64>();

type Words = &'static [AtomicU64];

static DESCRIPTORS: Once<[Words; 2]> = Once::new();

/// The IDT, the boot CPU's GDT, the static data and the large region.
pub fn new(
    shared: &Shared,
    pages: &'static PageAllocator,
    table: &'static PageTable,
    large: LargeRegion,
    frames: Option<&'static Frames>,
    cpu: &Cpu,
) -> Targets {
    // The GDTs of CPUs that have yet to start are still empty: the boot CPU's stands for them.
    let tables = [
        words(idt_page(), PAGE_WORDS),
        words(descriptor_page(0), GDT_WORDS),
    ];
    let descriptors = DESCRIPTORS.set(tables);
    let words_of_all = shared.areas.len() * PERCPU_PAGES * PAGE_WORDS;
    let percpu = pages.zeroed_slice(cpu, words_of_all, PageByte::new(PageKind::PerCpu, false));
    Targets {
        pages,
        table,
        frames,
        identity: LOW_END..shared.range.0,
        data: &DATA,
        percpu: fail::wanted(percpu, "per-CPU data"),
        large: words(large.start, large.len() / size_of::<u64>()),
        descriptors_sum: Targets::checksum(descriptors),
        descriptors,
    }
}

fn words(address: usize, count: usize) -> Words {
    // SAFETY: only called for aligned RAM that stays what it is: tables of the image, and a region
    // that was allocated for this. All of it is accessed as words.
    unsafe { core::slice::from_raw_parts(with_exposed_provenance(address), count) }
}
