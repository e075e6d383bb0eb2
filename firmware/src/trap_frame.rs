//! What the kernel sees of an interrupted context.

/// Vector of the local APIC's timer.
pub const VECTOR_TIMER: u8 = 0x40;
/// Vector of inter-processor interrupts.
pub const VECTOR_IPI: u8 = 0x41;
/// Vector of the interrupt by which KVM says that a page is there again.
pub const VECTOR_READY: u8 = 0x42;
/// Vector of the local APIC's spurious interrupt; the trap layer drops it.
pub const VECTOR_SPURIOUS: u8 = 0xff;
/// Not a vector: `kernel_trap` is called once more because [`CpuHeader::pending`] is not empty.
///
/// [`CpuHeader::pending`]: crate::CpuHeader::pending
pub const VECTOR_PENDING: u64 = 0x100;

/// Not a vector: KVM says that a page is away, by a page fault whose CR2 is the page's token. Never handed over
/// while interrupts are masked.
pub const VECTOR_NOT_PRESENT: u64 = 0x102;

/// The interrupt flag in [`TrapFrame::rflags`].
pub const INTERRUPT_FLAG: u64 = 1 << 9;

/// The timer's bit in [`CpuHeader::pending`](crate::CpuHeader::pending).
pub const PENDING_TIMER: u64 = 1;
/// The inter-processor interrupt's bit there.
pub const PENDING_IPI: u64 = 2;
/// The bit there of KVM's "ready".
pub const PENDING_READY: u64 = 4;

/// The interrupted registers, on the interrupted stack below its red zone. What the kernel changes
/// in it is loaded on return, but for `rsp`, which follows from where the frame lies.
#[repr(C)]
#[derive(Debug)]
pub struct TrapFrame {
    /// General registers, in the order in which the upcall pushed them last to first.
    pub r15: u64,
    /// See `r15`.
    pub r14: u64,
    /// See `r15`.
    pub r13: u64,
    /// See `r15`.
    pub r12: u64,
    /// See `r15`.
    pub r11: u64,
    /// See `r15`.
    pub r10: u64,
    /// See `r15`.
    pub r9: u64,
    /// See `r15`.
    pub r8: u64,
    /// See `r15`.
    pub rbp: u64,
    /// See `r15`.
    pub rdi: u64,
    /// See `r15`.
    pub rsi: u64,
    /// See `r15`.
    pub rdx: u64,
    /// See `r15`.
    pub rcx: u64,
    /// See `r15`.
    pub rbx: u64,
    /// See `r15`.
    pub rax: u64,
    /// Exception or interrupt vector, or [`VECTOR_PENDING`].
    pub vector: u64,
    /// Error code; 0 for vectors without one. Exceptions only.
    pub error: u64,
    /// CR2 at the trap. Exceptions only.
    pub cr2: u64,
    /// Whether interrupts were masked in software; restored on return.
    pub was_masked: u64,
    /// Code segment. Exceptions only.
    pub cs: u64,
    /// Interrupted stack pointer.
    pub rsp: u64,
    /// Interrupted flags.
    pub rflags: u64,
    /// Interrupted instruction.
    pub rip: u64,
}
