//! From reset to the guest's first Rust line, and the way back in on every trap.
//!
//! The boot code enters long mode from a PVH loader (32-bit protected mode, `ebx` = start info) or,
//! on application processors, from INIT-SIPI through a real-mode trampoline. It finds out by timing
//! whether ring 0 runs natively. Where it does, the kernel is entered at CPL 0; where it is
//! emulated (some 1.6 µs an instruction), at CPL 3, and ring 0 keeps only the trap layer.
//!
//! The trap layer is the same for both. Every gate switches to a stack of its own (IST), because
//! the kernel's code uses the red zone. The stub copies RIP, RFLAGS and RSP into the [`CpuHeader`]
//! and "returns" to an upcall at the kernel's own privilege level, which builds a [`TrapFrame`] on
//! the interrupted stack below the red zone, calls the kernel's `kernel_trap`, and goes back by
//! `popfq; ret`, without ring 0. At CPL 3 the interrupt flag cannot be cleared, so "interrupts off"
//! is [`CpuHeader::masked`], which the stub honours by leaving a bit in [`CpuHeader::pending`].
//!
//! KVM tells of a page that is away by a page fault, which can come wherever CPL 3 touches memory, the upcall
//! included. While interrupts are masked there is nobody to hand it to: the stub notes its token
//! ([`CpuHeader::dropped`]) and goes back to the access. KVM, which has told already, then halts the CPU until
//! the page is there.
//!
//! Upcalls: `kernel_entry` and `kernel_trap`, which the kernel defines.
#![no_std]

mod cpu_header;
#[cfg(feature = "image")]
mod descriptor;
#[cfg(feature = "image")]
mod image;
mod service;
mod trap_frame;

pub use cpu_header::{CpuHeader, DROPPED_TOKENS, PageEventWords};
#[cfg(feature = "image")]
pub use descriptor::{build_idt, descriptor_page, header_page, idt_page};
#[cfg(feature = "image")]
pub use image::{
    AP_TRAMPOLINE, Section, enter_ring3, kernel_cpl, ring0_ticks, sections, set_next_ap, trampoline,
};
pub use service::{Service, service, service_results};
pub use trap_frame::{
    INTERRUPT_FLAG, PENDING_IPI, PENDING_READY, PENDING_TIMER, TrapFrame, VECTOR_IPI,
    VECTOR_NOT_PRESENT, VECTOR_PENDING, VECTOR_READY, VECTOR_SPURIOUS, VECTOR_TIMER,
};
