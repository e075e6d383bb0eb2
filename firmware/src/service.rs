//! What a kernel at CPL 3 asks of ring 0, by `int3`.

/// A service of the trap layer. `int3` because it is the one software interrupt that gets from
/// CPL 3 to CPL 0 on every host (kvm-pvm breaks `int n` and `syscall`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Service {
    /// Wait for an interrupt unless one is pending. Call it masked.
    Halt = 0,
    /// Write `b` bytes at address `a` to the console.
    Console = 1,
    /// Write the 32-bit value `b` to port `a`.
    Out = 2,
    /// Load `a` into CR3.
    LoadPageTable = 3,
    /// Drop the translation of address `a`.
    FlushPage = 4,
    /// Load an empty IDT and trap: a triple fault, on purpose.
    TripleFault = 5,
    /// Drop the translations of `b` pages, one at least, from address `a` on.
    FlushRange = 6,
    /// Drop all translations that are not global.
    FlushAll = 7,
    /// Write `b` to model-specific register `a`.
    WriteMsr = 8,
    /// CPUID leaf `a`.
    Cpuid = 9,
}

/// Calls the trap layer.
///
/// # Safety
/// The CPU must run the trap layer's IDT, and the arguments must be sound for the service: a page
/// table that maps the running code, memory that may be read.
#[inline]
pub unsafe fn service(service: Service, a: u64, b: u64) {
    // SAFETY: the caller's promise.
    unsafe { service_results(service, a, b) };
}

/// As [`service`]; RAX, RSI, RCX and RDX as the service leaves them. For [`Service::Cpuid`] they are
/// EAX, EBX, ECX and EDX.
///
/// # Safety
/// As for [`service`].
#[inline]
pub unsafe fn service_results(service: Service, a: u64, b: u64) -> [u64; 4] {
    let (rax, rsi, rcx, rdx);
    // SAFETY: the gate saves nothing but what is named here; the caller vouches for the arguments.
    unsafe {
        core::arch::asm!(
            "int3",
            inlateout("rax") service as u64 => rax,
            inlateout("rdi") a => _,
            inlateout("rsi") b => rsi,
            lateout("rcx") rcx,
            lateout("rdx") rdx,
        );
    }
    [rax, rsi, rcx, rdx]
}
