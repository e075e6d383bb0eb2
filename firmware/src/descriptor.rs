//! The descriptor tables, as the kernel fills and finds them.

use crate::{VECTOR_IPI, VECTOR_READY, VECTOR_SPURIOUS, VECTOR_TIMER};
use core::sync::atomic::{AtomicU64, Ordering};

const GATES: usize = 256;
const EXCEPTIONS: usize = 32;
const KERNEL_CODE: u64 = 0x08;
const INTERRUPT_GATE: u64 = 0x8e;
const DPL3: u64 = 0x60;
const IST_TRAP: u64 = 1;
const IST_SERVICE: u64 = 2;
const BREAKPOINT: usize = 3;

unsafe extern "C" {
    static firmware_idt: [[AtomicU64; 2]; GATES];
    static firmware_descriptor_pages: u8;
    static firmware_headers: u8;
    static firmware_exception_stubs: [u64; EXCEPTIONS];
    fn firmware_service();
    fn firmware_timer();
    fn firmware_ipi();
    fn firmware_ready();
    fn firmware_spurious();
    fn firmware_stray();
}

/// Fills the IDT that every CPU has loaded. Until then every trap is a triple fault.
pub fn build_idt() {
    // SAFETY: the IDT is a page of the image, written here by the boot CPU alone, in words; stubs
    // are constants of the image.
    let (idt, stubs) = unsafe { (&firmware_idt, &firmware_exception_stubs) };
    for (vector, gate) in idt.iter().enumerate() {
        let (stub, ist, dpl) = match vector {
            BREAKPOINT => (firmware_service as *const () as u64, IST_SERVICE, DPL3),
            0..EXCEPTIONS => (stubs[vector], IST_TRAP, 0),
            _ if vector == usize::from(VECTOR_TIMER) => {
                (firmware_timer as *const () as u64, IST_TRAP, 0)
            }
            _ if vector == usize::from(VECTOR_IPI) => {
                (firmware_ipi as *const () as u64, IST_TRAP, 0)
            }
            _ if vector == usize::from(VECTOR_READY) => {
                (firmware_ready as *const () as u64, IST_TRAP, 0)
            }
            _ if vector == usize::from(VECTOR_SPURIOUS) => {
                (firmware_spurious as *const () as u64, IST_TRAP, 0)
            }
            _ => (firmware_stray as *const () as u64, IST_TRAP, 0),
        };
        let low = (stub & 0xffff)
            | KERNEL_CODE << 16
            | ist << 32
            | (INTERRUPT_GATE | dpl) << 40
            | (stub >> 16 & 0xffff) << 48;
        gate[1].store(stub >> 32, Ordering::Relaxed);
        gate[0].store(low, Ordering::Relaxed);
    }
}

/// Address of the page that holds the IDT.
#[must_use]
pub fn idt_page() -> usize {
    &raw const firmware_idt as usize
}

/// Address of the page that holds CPU `id`'s GDT (from its start) and TSS (from byte 256).
#[must_use]
pub fn descriptor_page(id: usize) -> usize {
    &raw const firmware_descriptor_pages as usize + id * 4096
}

/// Address of CPU `id`'s [`CpuHeader`](crate::CpuHeader): a page.
#[must_use]
pub fn header_page(id: usize) -> usize {
    &raw const firmware_headers as usize + id * 4096
}
