//! What a host was set to, and how busy it was.

use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// What figures depend on beside the experiment. What the kernel does not tell is null or empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Snapshot {
    /// The revision of the CPU's microcode.
    pub microcode: Option<String>,
    /// What the kernel does about each vulnerability of the CPU.
    pub mitigations: BTreeMap<String, String>,
    /// The kernel's command line.
    pub command_line: Option<String>,
    /// By module of KVM.
    pub kvm_parameters: BTreeMap<String, BTreeMap<String, String>>,
    /// When memory gets huge pages by itself; the choice in force in brackets.
    pub transparent_hugepages: Option<String>,
    /// Those of all CPUs, each once.
    pub governors: BTreeSet<String>,
    /// The kernel's.
    pub clocksource: Option<String>,
    /// Those that are online.
    pub numa_nodes: Option<String>,
    /// Bounds of this process's control groups, by file.
    pub cgroup: BTreeMap<String, String>,
    /// The latency that CPUs may take to wake up, as somebody asked for; 2,000,000,000 if nobody did, 0 if they do not sleep.
    pub cpu_dma_latency_us: Option<i32>,
}

/// How busy the host was from the control's begin to the moving phase's end, by the kernel's ticks.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct LoadRecord {
    /// The load average of a minute at the begin.
    pub load_1min_start: f64,
    /// And at the end.
    pub load_1min_end: f64,
    /// Share of the time of all CPUs that this process had, with its guest.
    pub own_share: f64,
    /// Share that all others had, the kernel's own threads among them.
    pub others_share: f64,
    /// Share that the hypervisor below took, as far as it says so.
    pub steal_share: f64,
}
