//! Why there is no machine.

use crate::boot::BootError;
use crate::event_loop::EventLoopError;
use crate::memory::MemoryError;
use crate::placement::PlacementError;
use crate::stats::StatsError;
use crate::wait::WaitKind;
use std::io;
use std::path::PathBuf;

/// Why there is no machine, or why it cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    /// /dev/kvm cannot be opened.
    #[error("{} cannot be opened: load the kvm modules, or ask for access (group kvm)", .path.display())]
    OpenKvm {
        /// The path tried.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A call of KVM failed.
    #[error("KVM refused {what}")]
    Kvm {
        /// The call.
        what: &'static str,
        /// What it said.
        #[source]
        source: io::Error,
    },
    /// The host lacks what the wait policy needs.
    #[error(
        "wait policy {policy} needs KVM_CAP_X86_DISABLE_EXITS for HLT, which this host lacks: use --wait halt"
    )]
    WaitPolicy {
        /// The policy.
        policy: WaitKind,
    },
    /// A number of vCPUs that cannot be.
    #[error("{cpus} vCPUs cannot be made: 1 to {max}")]
    Cpus {
        /// What was asked for.
        cpus: u32,
        /// The most that KVM and the guest contract carry.
        max: u32,
    },
    /// Guest memory.
    #[error("guest memory cannot be set up")]
    Memory(#[from] MemoryError),
    /// The image.
    #[error("the guest cannot be booted")]
    Boot(#[from] BootError),
    /// A vCPU thread cannot be placed.
    #[error("a vCPU thread cannot be placed")]
    Placement(#[from] PlacementError),
    /// A thread cannot be started.
    #[error("a thread for vCPU {vcpu} cannot be started")]
    Thread {
        /// Which vCPU.
        vcpu: u32,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// KVM's statistics.
    #[error("KVM's statistics cannot be read")]
    Stats(#[from] StatsError),
    /// The event loop.
    #[error("the event loop failed")]
    EventLoop(#[from] EventLoopError),
}

pub(crate) fn kvm_error(what: &'static str) -> impl FnOnce(kvm_ioctls::Error) -> MachineError {
    move |error| MachineError::Kvm {
        what,
        source: io::Error::from_raw_os_error(error.errno()),
    }
}

pub(crate) fn io_error(what: &'static str) -> impl FnOnce(io::Error) -> MachineError {
    move |source| MachineError::Kvm { what, source }
}
