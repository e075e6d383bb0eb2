//! The first pages of the shared region.

use crate::{BacklogRing, MAX_PARAMETERS, MAX_THREADS, ReportKind, Reports, ThreadWords};
use core::sync::atomic::{AtomicU32, AtomicU64};

/// `"undrfoot"`, little-endian.
pub const MAGIC: u64 = u64::from_le_bytes(*b"undrfoot");

/// Version of this contract. The guest refuses any other.
pub const VERSION: u32 = 14;

/// What the run is doing, written by the host, read by the guest before each operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Phase {
    /// The guest works, nothing is recorded: before the control, and between it and the moving phase.
    Warmup = 0,
    /// The guest works and records; nothing moves.
    Control = 1,
    /// The guest works and records; its pages move.
    Moving = 2,
    /// The guest stops, audits its objects, reports and halts.
    Stop = 3,
}

/// How far the guest is, written by the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum GuestState {
    /// Not yet in its kernel.
    Booting = 0,
    /// The page map is published, and every thread of the workload can run.
    Running = 1,
    /// Stopped and audited.
    Done = 2,
    /// It gave up: see `message` and `crash`.
    Failed = 3,
    /// CPL 0 was demanded where ring 0 is emulated.
    RefusedCpl = 4,
    /// It gave up, having too little memory: `message` says for what.
    TooLittleMemory = 5,
}

/// The privilege level of the kernel proper.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Cpl {
    /// Ring 0.
    Zero = 0,
    /// Ring 3, with a trap layer in ring 0.
    Three = 3,
    /// Ring 0 where a few instructions there run at native speed, else ring 3.
    Auto = 255,
}

/// The shared region's first pages. Each word has one writer, named in its text.
#[repr(C, align(4096))]
pub struct Header {
    /// Host: [`MAGIC`].
    pub magic: u64,
    /// Host: [`VERSION`].
    pub version: u32,
    /// Host: vCPUs, 1 to [`MAX_CPUS`](crate::MAX_CPUS).
    pub cpus: u32,
    /// Host: guest frames that the page map covers, holes included.
    pub frames: u64,
    /// Host: seed of every random choice in the guest.
    pub seed: u64,
    /// Host: TSC frequency.
    pub tsc_khz: u32,
    /// Host: [`Cpl`] demanded.
    pub cpl: u32,
    /// Host: [`WorkloadId`](crate::WorkloadId).
    pub workload: u32,
    /// Host: [`Variant`](crate::Variant).
    pub variant: u32,
    /// Host: accesses that take longer are stalls.
    pub stall_threshold_ns: u32,
    /// Host: period of the paced probe.
    pub probe_period_ns: u32,
    /// Host: what the workload is told, in the order of
    /// [`WorkloadId::parameters`](crate::WorkloadId::parameters).
    pub parameters: [u64; MAX_PARAMETERS],
    /// Host: [`Mover`](crate::Mover).
    pub mover: u32,
    /// Host: the kinds that the guest's own mover moves, by [`PageKind::bit`](crate::PageKind::bit).
    pub mover_targets: u32,
    /// Host: pages per second that the guest's own mover moves; 0 as fast as it goes.
    pub mover_rate: u64,
    /// Host: 1 if the guest is to have KVM tell it of pages that are away, and to run another thread meanwhile.
    pub page_events: u32,
    /// Host, at run time: [`Phase`].
    pub phase: AtomicU32,
    /// Guest: [`GuestState`].
    pub state: AtomicU32,
    /// Guest: [`Cpl`] in force.
    pub cpl_in_force: AtomicU32,
    /// Guest: vCPUs that came up.
    pub cpus_up: AtomicU32,
    /// Guest: TSC at the trap layer's first instruction of ring-0 timing, and ticks that a fixed
    /// number of ring-0 instructions took there.
    pub ring0_ticks: AtomicU64,
    /// Guest: TSC when the first Rust line ran.
    pub entered_tsc: AtomicU64,
    /// Guest: TSC of the first workload operation.
    pub first_operation_tsc: AtomicU64,
    /// Guest, after [`Phase::Stop`]: pages and slabs that the audit has looked at so far.
    pub audited: AtomicU64,
    /// Guest, after [`Phase::Stop`]: check words that the audit verified.
    pub audit_checked: AtomicU64,
    /// Guest, after [`Phase::Stop`]: what the audit found wrong.
    pub audit_errors: AtomicU64,
    /// Guest, after [`Phase::Stop`]: updates found in the objects, to compare with what the vCPUs
    /// counted.
    pub audit_updates: AtomicU64,
    /// Guest: RCU stalls that the detector reported.
    pub rcu_stalls: AtomicU64,
    /// Guest: times that somebody made room, since memory was short.
    pub reclaims: AtomicU64,
    /// Guest: grace periods completed.
    pub grace_periods: AtomicU64,
    /// Host, at run time: the number that [`Self::grace_number`] is to come to.
    pub grace_wanted: AtomicU64,
    /// Guest: twice the number of grace periods of classic RCU that are over, and one more while one is in
    /// progress.
    pub grace_number: AtomicU64,
    /// Guest: the CPUs that the one in progress waited for when it began, a bit each. Those that have
    /// [`VcpuArea::grace_passed`](crate::VcpuArea::grace_passed) at its number are waited for no more.
    pub grace_cpus: AtomicU64,
    /// Guest: TSC when it began.
    pub grace_began_tsc: AtomicU64,
    /// Guest: vector, error code, RIP, RSP, CR2 and CPU of the trap that ended it.
    pub crash: [AtomicU64; 6],
    /// Guest: bytes of `message` in use.
    pub message_len: AtomicU32,
    /// Guest: why it failed, UTF-8.
    pub message: [core::sync::atomic::AtomicU8; 512],
    /// Guest: reports made, of all kinds, those for which there was no slot included.
    pub reports_made: AtomicU32,
    /// Guest: what was found, by [`ReportKind::index`].
    pub reports: [Reports; ReportKind::ALL.len()],
    /// Guest: its threads, by number.
    pub threads: [ThreadWords; MAX_THREADS],
    /// Guest: what waited for grace periods, in time, of the recorded phases.
    pub backlog: BacklogRing,
}

const _: () = assert!(size_of::<Header>().is_multiple_of(crate::PAGE_SIZE));
