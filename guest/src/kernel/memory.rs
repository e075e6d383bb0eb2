//! From the loader's memory map to an allocator, page tables and a published page map.

use super::mover;
use super::shared::Shared;
use super::start_info::LoaderInfo;
use super::{console, fail};
use core::ops::Range;
use core::ptr::with_exposed_provenance_mut;
use core::sync::atomic::Ordering::Relaxed;
use underfoot_abi::{PAGE_SIZE, PageByte, PageKind};
use underfoot_firmware::{Section, descriptor_page, header_page, idt_page, sections};
use underfoot_guest::Cpu;
use underfoot_guest::arch::APIC_BASE;
use underfoot_guest::mm::{Frame, MAX_ORDER, PageAllocator, PageTable, PteFlags};

/// Below this lie the loader's data and the trampoline: not ours to give away.
pub const LOW_END: usize = 1 << 20;
/// What the boot code's own tables map.
const BOOT_MAPPED: usize = 4 << 30;
const LARGE: usize = PAGE_SIZE << MAX_ORDER;

/// The region that is mapped by 2 MiB entries, for pages of kind `large`.
pub type LargeRegion = Range<usize>;

/// The kernel's memory, as boot leaves it.
pub struct Memory {
    pub pages: PageAllocator,
    pub table: PageTable,
    pub large: LargeRegion,
}

/// Builds the allocator and the page tables, and loads these.
///
/// # Safety
/// Called once, by the boot CPU, on the boot code's page tables; `loader` tells the truth.
pub unsafe fn build(cpu: &Cpu, shared: &'static Shared, loader: &LoaderInfo) -> Memory {
    publish_image(shared);
    let records = frame_records(shared);
    let pages = PageAllocator::new(0, records, shared.page_map);
    let records_start = records.as_ptr() as usize;
    let free = |range: Range<usize>| usable(range, records_start);
    for range in loader
        .ram()
        .filter(|range| range.start < BOOT_MAPPED)
        .flat_map(free)
    {
        // SAFETY: RAM by the loader's word, mapped by the boot code; `usable` leaves out what is
        // taken already.
        unsafe { pages.add(cpu, range) };
    }
    let kind = PageByte::new(PageKind::PageTable, true);
    let table = fail::wanted(PageTable::new(cpu, &pages, kind), "a page table");
    let large = pages.allocate_zeroed(cpu, MAX_ORDER, PageByte::new(PageKind::Large, false));
    let large = fail::wanted(large, "a region of 2 MiB");
    let large = large..large + LARGE;
    map(cpu, &pages, &table, shared, loader, &large);
    // SAFETY: all RAM and the local APIC are mapped as before.
    unsafe { cpu.ops.load_page_table(table.root()) };
    for range in loader.ram().filter(|range| range.start >= BOOT_MAPPED) {
        // SAFETY: RAM by the loader's word, mapped just now; nothing of ours lies up there.
        unsafe { pages.add(cpu, range) };
    }
    Memory {
        pages,
        table,
        large,
    }
}

/// Records for every frame, directly below the shared region.
fn frame_records(shared: &Shared) -> &'static [Frame] {
    let count = shared.page_map.len();
    let bytes = (count * size_of::<Frame>()).next_multiple_of(PAGE_SIZE);
    let start = shared.range.0 - bytes;
    let records = with_exposed_provenance_mut::<Frame>(start);
    publish(
        shared,
        start..start + bytes,
        PageByte::new(PageKind::Data, false),
    );
    // SAFETY: RAM that the allocator does not get; zeroes are a valid `Frame`.
    unsafe {
        records.write_bytes(0, count);
        core::slice::from_raw_parts(records, count)
    }
}

/// The parts of a range of low RAM that nobody has: above the first MiB, outside of the image, below
/// the frame records and the shared region.
fn usable(ram: Range<usize>, end: usize) -> impl Iterator<Item = Range<usize>> {
    let image = sections();
    let (image_start, image_end) = (image[0].1.start, image[image.len() - 1].1.end);
    [LOW_END..image_start, image_end..end]
        .into_iter()
        .map(move |part| part.start.max(ram.start)..part.end.min(ram.end))
        .filter(|part| part.start < part.end)
}

fn map(
    cpu: &Cpu,
    pages: &PageAllocator,
    table: &PageTable,
    shared: &Shared,
    loader: &LoaderInfo,
    large: &LargeRegion,
) {
    // Open to CPL 3, whether or not the kernel runs there: one table for both.
    let flags = PteFlags::PRESENT
        | PteFlags::WRITABLE
        | PteFlags::USER
        | PteFlags::ACCESSED
        | PteFlags::DIRTY;
    for ram in loader.ram() {
        for small in [
            ram.start..large.start.min(ram.end),
            large.end.max(ram.start)..ram.end,
        ] {
            if small.start < small.end {
                table
                    .identity(cpu, pages, small, false, flags)
                    .expect("page tables");
            }
        }
    }
    table
        .identity(cpu, pages, large.clone(), true, flags)
        .expect("page tables");
    if !shared.standalone {
        // A host keeps it out of what it calls RAM.
        table
            .identity(cpu, pages, shared.range.0..shared.range.1, false, flags)
            .expect("page tables");
    }
    if mover::is_wanted(shared) {
        mover::map_direct(cpu, pages, table, loader.ram(), flags).expect("page tables");
    }
    let registers = APIC_BASE..APIC_BASE + PAGE_SIZE;
    table
        .identity(cpu, pages, registers, false, flags | PteFlags::NO_CACHE)
        .expect("page tables");
}

/// Says what lies in the image. What belongs to CPUs that are not there stays reserved.
fn publish_image(shared: &Shared) {
    for (section, range) in sections() {
        let byte = match section {
            Section::Trap => PageByte::new(PageKind::Text, true),
            Section::Text => PageByte::new(PageKind::Text, false),
            Section::Rodata => PageByte::new(PageKind::Rodata, false),
            Section::Data => PageByte::new(PageKind::Data, false),
            Section::Stack => PageByte::new(PageKind::Stack, false),
            Section::BootTable | Section::Descriptor | Section::Header => continue,
        };
        publish(shared, range, byte);
    }
    let page = |address, kind| {
        publish(
            shared,
            address..address + PAGE_SIZE,
            PageByte::new(kind, true),
        );
    };
    page(idt_page(), PageKind::Descriptor);
    page(console::buffer_page(), PageKind::PerCpu);
    for id in 0..shared.areas.len() {
        page(descriptor_page(id), PageKind::Descriptor);
        page(header_page(id), PageKind::PerCpu);
    }
}

fn publish(shared: &Shared, range: Range<usize>, byte: PageByte) {
    for entry in &shared.page_map[range.start / PAGE_SIZE..range.end / PAGE_SIZE] {
        entry.store(byte.0, Relaxed);
    }
}
