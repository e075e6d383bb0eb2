//! What a guest counts that lets KVM tell it of pages that are away (its asynchronous page fault).

use core::sync::atomic::AtomicU64;

/// One vCPU's counts since it booted. Once nothing is away any more, `not_present` is `ready`, and is the sum of
/// `early`, `switched`, `halted` and `masked`; and `woken` is `switched`.
#[repr(C)]
#[derive(Default)]
pub struct PageEvents {
    /// Pages of which KVM said that they are away.
    pub not_present: AtomicU64,
    /// Pages of which it said, after that, that they are there.
    pub ready: AtomicU64,
    /// "Ready" was told before the thread slept, so that it did not sleep.
    pub early: AtomicU64,
    /// The thread slept, and the CPU ran another one or idled.
    pub switched: AtomicU64,
    /// Of these, the thread was woken.
    pub woken: AtomicU64,
    /// The thread could not sleep: back at its access, KVM halted the vCPU, interrupts open.
    pub halted: AtomicU64,
    /// The same with interrupts masked in software: those that ended a halt stayed pending.
    pub masked: AtomicU64,
    /// "Ready" for all that is waited for (KVM says so when it begins to tell).
    pub broadcasts: AtomicU64,
    /// Interrupts that told of no page.
    pub spurious: AtomicU64,
}
