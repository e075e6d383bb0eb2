//! The one contract between the guest kernel and whoever runs it.
//!
//! The host sets a *shared region* aside in guest memory, writes a [`Header`] at its start and
//! names its guest physical address on the kernel's command line (`underfoot=0x…`, see
//! [`CMDLINE_KEY`]). Everything that the two sides tell each other at run time lies in that region,
//! in words that each have exactly one writer. The region itself is never migrated.
//!
//! Layout: the header page, the page map (one byte a guest frame), then one [`VcpuArea`] per vCPU, then the
//! [`MoverArea`]; [`Layout`] computes the offsets on both sides.
#![cfg_attr(not(test), no_std)]

mod backlog;
mod context;
mod dma;
mod header;
mod histogram;
mod interrupt;
mod kind;
mod layout;
mod mover;
mod page_event;
mod port;
mod report;
mod ring;
mod stall;
mod thread;
mod touch;
mod variant;
mod vcpu;
mod workload;

pub use backlog::{BACKLOG_PERIOD_NS, BACKLOG_RING, BacklogRing, BacklogSample};
pub use context::{Context, Wait};
pub use dma::{DMA_ALIGN, DMA_MAX_BYTES, DMA_RING, DmaDescriptor, DmaQueue, DmaStatus};
pub use header::{Cpl, GuestState, Header, MAGIC, Phase, VERSION};
pub use histogram::{BUCKETS, Histogram, MAX_TRACKABLE, SUB_BUCKETS, bucket_index, bucket_low};
pub use interrupt::{INTERRUPT_RING, InterruptRecord, InterruptRing};
pub use kind::{POISON_LIMBO, POISON_OBJECT, POISON_PAGE, PageByte, PageKind};
pub use layout::{Layout, PAGE_SIZE};
pub use mover::{MoveCounts, Mover, MoverArea, MoverMetric, WindowRecord, WindowRing, refusal};
pub use page_event::PageEvents;
pub use port::{PORT_DOORBELL, PORT_EXIT, PORT_SERIAL};
pub use report::{FIRST_REPORTS, RCU_STALL_NS, REPORT_TEXT, Report, ReportKind, Reports};
pub use stall::{STALL_RING, StallRecord, StallRing};
pub use thread::{Holds, MAX_THREADS, ThreadWords};
pub use touch::{TOUCHES, Touches};
pub use variant::{Idle, Variant};
pub use vcpu::{
    MAX_CPUS, Metric, PLACE_BYTES, RecordedPhase, StealTime, VCPU_FLUSH_TLB, VCPU_PREEMPTED,
    VcpuArea,
};
pub use workload::{
    CHANGES, Counter, DENIED, DMA_CACHE, DMA_EXHAUSTED, DMA_LOOKUP, DMA_RANGES, DMA_RENEW,
    DMA_RENEW_BUSY, DMA_SLOTS, DMA_TRACKING, FAULT_OUTCOMES, MAX_COUNTERS, MAX_PARAMETERS,
    MIX_PARTS, MOVES, OPERATIONS, PRESSURE_COUNTERS, Parameter, SHOTS, SNAPSHOTS, SPLITS,
    TABLE_SAMPLES, TABLES_REUSED, WorkloadId, mix_counters,
};

/// The kernel command-line key whose hexadecimal value is the GPA of the shared region.
///
/// Without it the guest runs its self-test and leaves through [`PORT_EXIT`].
pub const CMDLINE_KEY: &str = "underfoot=";
