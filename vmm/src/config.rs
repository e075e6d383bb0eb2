//! What machine to make.

use crate::boot::Boot;
use crate::console::Console;
use crate::memory::{Backing, MemorySize};
use crate::placement::Placement;
use crate::shared::HeaderInit;
use crate::wait::WaitKind;
use std::path::PathBuf;

/// What machine to make.
#[derive(Debug)]
pub struct MachineConfig<'a> {
    /// Where KVM is: `/dev/kvm`.
    pub kvm: PathBuf,
    /// RAM.
    pub memory: MemorySize,
    /// What it lies in.
    pub backing: Backing,
    /// The largest slot that KVM is to know RAM by, in bytes: a multiple of 2 MiB. Then the shared region
    /// has a slot of its own. Without it each range of RAM is one slot.
    pub slot_size: Option<u64>,
    /// vCPUs, 1 to 64.
    pub cpus: u32,
    /// What to boot.
    pub boot: Boot<'a>,
    /// What the guest is told; `tsc_khz` is filled in from KVM when it is 0.
    pub header: HeaderInit,
    /// Where its serial output goes.
    pub console: Console,
    /// What a vCPU does that meets a page in flight.
    pub wait: WaitKind,
    /// Where the vCPU threads run.
    pub placement: Placement,
    /// Whether SIGINT and SIGTERM wake [`Machine::wait`](crate::Machine::wait) instead of ending the process. They are
    /// then blocked in the calling thread until the machine is dropped.
    pub signals: bool,
}
