//! The page through which ring 0 and the kernel hand traps to each other.

use core::sync::atomic::{AtomicU32, AtomicU64};

/// Tokens of pages that KVM told of while interrupts were masked: more than it tells of at one time (64).
pub const DROPPED_TOKENS: usize = 128;

/// Where KVM tells one CPU of pages that are away (`struct kvm_vcpu_pv_apf_data`, Documentation/virt/kvm/x86/msr.rst,
/// MSR_KVM_ASYNC_PF_EN).
#[repr(C, align(64))]
pub struct PageEventWords {
    /// 1 with the page fault that says that a page is away; the stub puts it back to 0.
    pub flags: AtomicU32,
    /// The token of the page that is there again; KVM tells of no other before it is 0.
    pub token: AtomicU32,
    reserved: [u8; 56],
}

/// One CPU's page: words shared with the trap layer, then the trap layer's two stacks.
///
/// All of it is touched by the hypervisor where ring 0 is emulated. The words are atomics because
/// the stubs write them behind the compiler's back; they are never shared between CPUs.
#[repr(C, align(4096))]
pub struct CpuHeader {
    /// Interrupts are held back (CPL 3), or a trap is being handled.
    pub masked: AtomicU32,
    /// The CPU's number.
    pub id: AtomicU32,
    /// Interrupts that came while masked: [`PENDING_TIMER`](crate::PENDING_TIMER),
    /// [`PENDING_IPI`](crate::PENDING_IPI), [`PENDING_READY`](crate::PENDING_READY).
    pub pending: AtomicU64,
    /// Where the tick came that is in `pending`, if one is (RIP).
    pub masked_rip: AtomicU64,
    /// The kernel's own pointer for this CPU.
    pub cpu: AtomicU64,
    /// The trap being handed over. Valid only until the upcall has copied it.
    pub(crate) vector: AtomicU64,
    pub(crate) error: AtomicU64,
    pub(crate) cr2: AtomicU64,
    pub(crate) was_masked: AtomicU64,
    pub(crate) cs: AtomicU64,
    pub(crate) rsp: AtomicU64,
    pub(crate) rflags: AtomicU64,
    pub(crate) rip: AtomicU64,
    pub(crate) rax: AtomicU64,
    pub(crate) rbx: AtomicU64,
    /// What `iretq` pops to reach the upcall: RIP, CS, RFLAGS, RSP (the address of this very field,
    /// by which the upcall finds the header), SS.
    pub(crate) upcall: [AtomicU64; 5],
    /// Where KVM tells of pages that are away.
    pub page_event: PageEventWords,
    /// Pages of which it told while interrupts were masked.
    pub dropped: AtomicU32,
    /// The tokens of the last of these, by their number modulo [`DROPPED_TOKENS`].
    pub dropped_tokens: [AtomicU32; DROPPED_TOKENS],
    reserved: [u8; Self::SERVICE_TOP - 1024 - 192 - 64 - 4 - 4 * DROPPED_TOKENS],
    service_stack: [u8; 1024],
    trap_stack: [u8; 1024],
}

impl CpuHeader {
    /// Offset of the top of the stack on which services (`int3`) run: IST 2.
    pub const SERVICE_TOP: usize = 3072;
    /// Offset of the top of the stack on which interrupts and exceptions arrive: IST 1.
    pub const TRAP_TOP: usize = 4096;
}

const _: () = assert!(size_of::<CpuHeader>() == 4096);
