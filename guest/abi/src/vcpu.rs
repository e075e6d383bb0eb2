//! What each vCPU writes about itself.

use crate::{Histogram, Holds, InterruptRing, MAX_COUNTERS, PageEvents, StallRing, Touches};
use core::sync::atomic::{AtomicU8, AtomicU32, AtomicU64};

/// The most vCPUs that the contract carries.
pub const MAX_CPUS: usize = 64;

/// Bytes of a source file's path that the contract carries.
pub const PLACE_BYTES: usize = 44;

/// What the guest measures. The discriminants index [`VcpuArea::histograms`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Metric {
    /// Every timed access.
    Access = 0,
    /// Those above the threshold.
    Stall = 1,
    /// The paced probe, counted from when it should have begun.
    Probe = 2,
    /// Length of RCU read sections.
    RcuRead = 3,
    /// Length of grace periods.
    GracePeriod = 4,
    /// Spinlock hold times.
    LockHold = 5,
    /// Spinlock wait times.
    LockWait = 6,
    /// TLB shootdowns, from request to the last acknowledgement.
    Shootdown = 7,
    /// From a thread's wake-up to its first instruction.
    Sched = 8,
    /// Page faults of the guest's own address spaces.
    Fault = 9,
    /// The workload's operations.
    Operation = 10,
    /// RCU callbacks, from queued to run.
    Callback = 11,
    /// What a timer tick took from the thread that it interrupted.
    Tick = 12,
    /// Page faults of the kernel itself, on pages that its own mover has in flight: from the handler's
    /// first line to its last.
    PageFault = 13,
}

impl Metric {
    /// All of them, by discriminant.
    pub const ALL: [Self; 14] = [
        Self::Access,
        Self::Stall,
        Self::Probe,
        Self::RcuRead,
        Self::GracePeriod,
        Self::LockHold,
        Self::LockWait,
        Self::Shootdown,
        Self::Sched,
        Self::Fault,
        Self::Operation,
        Self::Callback,
        Self::Tick,
        Self::PageFault,
    ];

    /// The name under `histograms` in the results.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Access => "guest.access",
            Self::Stall => "guest.stall",
            Self::Probe => "guest.probe",
            Self::RcuRead => "guest.rcu.read",
            Self::GracePeriod => "guest.rcu.grace_period",
            Self::LockHold => "guest.lock.hold",
            Self::LockWait => "guest.lock.wait",
            Self::Shootdown => "guest.tlb.shootdown",
            Self::Sched => "guest.sched",
            Self::Fault => "guest.fault",
            Self::Operation => "guest.operation",
            Self::Callback => "guest.rcu.callback",
            Self::Tick => "guest.tick",
            Self::PageFault => "guest.page_fault",
        }
    }
}

/// The phases that are recorded, each in histograms of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum RecordedPhase {
    /// Nothing moves.
    Control = 0,
    /// Pages move.
    Moving = 1,
}

/// KVM's record of the time stolen from a vCPU (Documentation/virt/kvm/x86/msr.rst,
/// MSR_KVM_STEAL_TIME). KVM writes it; guests only leave a note in `preempted`.
#[repr(C, align(64))]
pub struct StealTime {
    /// Nanoseconds in which the vCPU was ready to run and did not.
    pub steal: AtomicU64,
    /// Odd while KVM writes.
    pub version: AtomicU32,
    /// Always 0.
    pub flags: AtomicU32,
    /// [`VCPU_PREEMPTED`] and [`VCPU_FLUSH_TLB`].
    pub preempted: AtomicU8,
    reserved: [u8; 47],
}

const _: () = assert!(size_of::<StealTime>() == 64);

/// The vCPU does not run (KVM_VCPU_PREEMPTED). Its host sets it, and clears the whole byte when the
/// vCPU runs again.
pub const VCPU_PREEMPTED: u8 = 1;
/// Set by another vCPU beside [`VCPU_PREEMPTED`]: flush this one's TLB before it runs again
/// (KVM_VCPU_FLUSH_TLB).
pub const VCPU_FLUSH_TLB: u8 = 2;

/// One vCPU's part of the shared region. The vCPU writes, the host reads.
#[repr(C, align(4096))]
pub struct VcpuArea {
    /// The context word, see [`Context`](crate::Context).
    pub context: AtomicU64,
    /// The number of the thread that runs.
    pub thread: AtomicU32,
    /// The spinlocks that it holds.
    pub holds: Holds,
    /// Workload operations done.
    pub progress: AtomicU64,
    /// Timer ticks taken.
    pub ticks: AtomicU64,
    /// Inter-processor interrupts taken.
    pub ipis: AtomicU64,
    /// Check words verified.
    pub checked: AtomicU64,
    /// Check words found wrong, each counted once.
    pub errors: AtomicU64,
    /// Updates that this vCPU made to shared objects, to be found again by the audit.
    pub updates: AtomicU64,
    /// TSC when the vCPU reached Rust.
    pub entered_tsc: AtomicU64,
    /// GVA and found value of the first wrong check word.
    pub first_error: [AtomicU64; 2],
    /// Who found it: the line, and the end of the source file's path, padded with zeroes.
    pub first_error_line: AtomicU32,
    /// See [`Self::first_error_line`].
    pub first_error_file: [AtomicU8; PLACE_BYTES],
    /// TLB shootdowns for which this vCPU's answer was the last, by [`RecordedPhase`].
    pub last_answers: [AtomicU64; 2],
    /// What KVM writes of the vCPU, once the guest asked for it.
    pub steal_time: StealTime,
    /// The same as [`StealTime::preempted`], for a vCPU that the VMM itself holds out of the guest.
    pub held: AtomicU8,
    /// GPA of this vCPU's [`DmaQueue`](crate::DmaQueue), page-aligned; 0 if it has none.
    pub dma_queue: AtomicU64,
    /// Descriptors that this vCPU has posted ever: the doorbell.
    pub dma_posted: AtomicU64,
    /// The last grace period of classic RCU that this vCPU let pass, by the number that
    /// [`Header::grace_number`](crate::Header::grace_number) had.
    pub grace_passed: AtomicU64,
    /// TSC when the timed access began that this vCPU is in the middle of; 0 if it is in none.
    pub access_began_tsc: AtomicU64,
    /// GVA of that access.
    pub access_gva: AtomicU64,
    /// What KVM told the vCPU of pages that are away.
    pub page_events: PageEvents,
    /// RCU callbacks queued and run.
    pub callbacks: [AtomicU64; 2],
    /// What the workload counts: by [`RecordedPhase`], then in the order of
    /// [`WorkloadId::counters`](crate::WorkloadId::counters).
    pub counters: [[AtomicU64; MAX_COUNTERS]; 2],
    /// By [`RecordedPhase`], then by [`Metric`].
    pub histograms: [[Histogram; Metric::ALL.len()]; 2],
    /// Stalls, drained by the host while the guest runs.
    pub stalls: StallRing,
    /// Interrupts in the midst of timed accesses, drained as those are.
    pub interrupts: InterruptRing,
    /// When it last touched which page.
    pub touches: Touches,
}

const _: () = assert!(size_of::<VcpuArea>().is_multiple_of(crate::PAGE_SIZE));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_index_themselves() {
        for (index, metric) in Metric::ALL.into_iter().enumerate() {
            assert_eq!(metric as usize, index);
        }
    }
}
