//! The boot and trap code, and what the kernel may ask of it.

use crate::{CpuHeader, TrapFrame, trap_frame};
use core::arch::global_asm;
use core::mem::offset_of;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use underfoot_abi::{Cpl, MAX_CPUS, PORT_EXIT, PORT_SERIAL};

/// Where the real-mode trampoline must lie: below 1 MiB, on a page boundary.
pub const AP_TRAMPOLINE: usize = 0x8000;

/// More TSC ticks than this for 32 ring-0 instructions (some 2 µs at 4 GHz) is emulation: natively
/// they take about ten, emulated more than a hundred thousand.
const RING0_NATIVE_TICKS: u64 = 8192;

global_asm!(
    include_str!("boot.S"),
    TRAMPOLINE = const AP_TRAMPOLINE,
    NATIVE_TICKS = const RING0_NATIVE_TICKS,
    MAX_CPUS = const MAX_CPUS,
    MASKED = const offset_of!(CpuHeader, masked),
    ID = const offset_of!(CpuHeader, id),
    UPCALL = const offset_of!(CpuHeader, upcall),
    TRAP_TOP = const CpuHeader::TRAP_TOP,
    SERVICE_TOP = const CpuHeader::SERVICE_TOP,
    options(att_syntax)
);

global_asm!(
    include_str!("trap.S"),
    MASKED = const offset_of!(CpuHeader, masked),
    PENDING = const offset_of!(CpuHeader, pending),
    MASKED_RIP = const offset_of!(CpuHeader, masked_rip),
    VECTOR = const offset_of!(CpuHeader, vector),
    ERROR = const offset_of!(CpuHeader, error),
    CR2 = const offset_of!(CpuHeader, cr2),
    WAS_MASKED = const offset_of!(CpuHeader, was_masked),
    CS = const offset_of!(CpuHeader, cs),
    RSP = const offset_of!(CpuHeader, rsp),
    RFLAGS = const offset_of!(CpuHeader, rflags),
    RIP = const offset_of!(CpuHeader, rip),
    RAX = const offset_of!(CpuHeader, rax),
    RBX = const offset_of!(CpuHeader, rbx),
    UPCALL = const offset_of!(CpuHeader, upcall),
    PAGE_EVENT = const offset_of!(CpuHeader, page_event.flags),
    DROPPED = const offset_of!(CpuHeader, dropped),
    DROPPED_TOKEN = const offset_of!(CpuHeader, dropped_tokens),
    DROPPED_TOKENS = const crate::DROPPED_TOKENS,
    TRAP_TOP = const CpuHeader::TRAP_TOP,
    SERVICE_TOP = const CpuHeader::SERVICE_TOP,
    VECTOR_TIMER = const trap_frame::VECTOR_TIMER,
    VECTOR_IPI = const trap_frame::VECTOR_IPI,
    VECTOR_READY = const trap_frame::VECTOR_READY,
    VECTOR_PENDING = const trap_frame::VECTOR_PENDING,
    VECTOR_NOT_PRESENT = const trap_frame::VECTOR_NOT_PRESENT,
    PENDING_TIMER = const trap_frame::PENDING_TIMER,
    PENDING_IPI = const trap_frame::PENDING_IPI,
    PENDING_READY = const trap_frame::PENDING_READY,
    FRAME_VECTOR = const offset_of!(TrapFrame, vector),
    FRAME_WAS_MASKED = const offset_of!(TrapFrame, was_masked),
    PORT_SERIAL = const PORT_SERIAL,
    PORT_EXIT = const PORT_EXIT,
    options(att_syntax)
);

unsafe extern "C" {
    static firmware_kernel_cpl: AtomicU32;
    static firmware_ring0_ticks: AtomicU64;
    static firmware_ap_cpu: AtomicU32;
    static firmware_ap_stack: AtomicU64;
    static firmware_page_table: AtomicU32;
    static firmware_trampoline_start: u8;
    static firmware_trampoline_end: u8;
    static __trap_start: u8;
    static __text_start: u8;
    static __rodata_start: u8;
    static __descriptor_start: u8;
    static __boot_table_start: u8;
    static __data_start: u8;
    static __stack_start: u8;
    static __header_start: u8;
    static __image_end: u8;
}

/// A part of the loaded image, by what it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    /// Boot code and trap layer.
    Trap,
    /// Kernel code.
    Text,
    /// Constants.
    Rodata,
    /// IDT, GDTs and TSSs.
    Descriptor,
    /// The page tables of the boot code, until the kernel has its own.
    BootTable,
    /// Static data.
    Data,
    /// The boot CPU's stack.
    Stack,
    /// The [`CpuHeader`]s.
    Header,
}

/// The image's parts as address ranges, in order and without gaps.
#[must_use]
pub fn sections() -> [(Section, core::ops::Range<usize>); 8] {
    let edges = [
        &raw const __trap_start,
        &raw const __text_start,
        &raw const __rodata_start,
        &raw const __boot_table_start,
        &raw const __data_start,
        &raw const __descriptor_start,
        &raw const __stack_start,
        &raw const __header_start,
        &raw const __image_end,
    ]
    .map(|edge| edge as usize);
    [
        (Section::Trap, edges[0]..edges[1]),
        (Section::Text, edges[1]..edges[2]),
        (Section::Rodata, edges[2]..edges[3]),
        (Section::BootTable, edges[3]..edges[4]),
        (Section::Data, edges[4]..edges[5]),
        (Section::Descriptor, edges[5]..edges[6]),
        (Section::Stack, edges[6]..edges[7]),
        (Section::Header, edges[7]..edges[8]),
    ]
}

/// The privilege level at which kernels are entered from now on.
#[must_use]
pub fn kernel_cpl() -> Cpl {
    // SAFETY: an aligned word in the boot code's data, written before any Rust ran or atomically.
    match unsafe { firmware_kernel_cpl.load(Ordering::Relaxed) } {
        0 => Cpl::Zero,
        _ => Cpl::Three,
    }
}

/// TSC ticks that 32 instructions took in ring 0, the least of three tries.
#[must_use]
pub fn ring0_ticks() -> u64 {
    // SAFETY: as in `kernel_cpl`.
    unsafe { firmware_ring0_ticks.load(Ordering::Relaxed) }
}

/// The real-mode code to be copied to [`AP_TRAMPOLINE`].
#[must_use]
pub fn trampoline() -> &'static [u8] {
    let start = &raw const firmware_trampoline_start;
    // SAFETY: the two symbols delimit initialised, immutable bytes of the image.
    unsafe {
        let end = &raw const firmware_trampoline_end;
        core::slice::from_raw_parts(start, end.offset_from_unsigned(start))
    }
}

/// Says which number, stack (its top) and page table (its root, below 4 GiB, which must map the image
/// to itself) the next application processor gets. They start one at a time: call this again only
/// after the previous one has reached `kernel_entry`.
///
/// # Panics
/// If the page table lies above 4 GiB: it is loaded in protected mode.
pub fn set_next_ap(id: u32, stack_top: usize, page_table: usize) {
    let root = u32::try_from(page_table).expect("a page table below 4 GiB");
    // SAFETY: aligned words in the boot code's data; the processor that reads them is not yet
    // running.
    unsafe {
        firmware_ap_stack.store(stack_top as u64, Ordering::Relaxed);
        firmware_page_table.store(root, Ordering::Relaxed);
        firmware_ap_cpu.store(id, Ordering::Release);
    }
}

/// Drops the kernel from CPL 0 to CPL 3, on the same stack, for good, application processors that
/// start later too.
///
/// # Safety
/// At CPL 0 with interrupts off, on a stack and in code that CPL 3 may use; `header` is this CPU's.
pub unsafe fn enter_ring3(header: &CpuHeader) {
    const CODE: u64 = 0x1b;
    const DATA: u64 = 0x23;
    const FLAGS: u64 = 0x202;
    header.upcall[1].store(CODE, Ordering::Relaxed);
    header.upcall[2].store(FLAGS, Ordering::Relaxed);
    header.upcall[4].store(DATA, Ordering::Relaxed);
    // SAFETY: the selectors are those of the boot code's GDT; the caller vouches for the rest.
    unsafe {
        firmware_kernel_cpl.store(3, Ordering::Relaxed);
        core::arch::asm!(
            "mov {stack}, rsp",
            "push {data}",
            "push {stack}",
            "push {flags}",
            "push {code}",
            "lea {stack}, [rip + 2f]",
            "push {stack}",
            "iretq",
            "2:",
            stack = out(reg) _,
            data = const DATA,
            flags = const FLAGS,
            code = const CODE,
        );
    }
}
