//! Who stole the time.

use serde::Serialize;
use std::collections::BTreeMap;

/// Nanoseconds by cause.
pub type Causes = BTreeMap<&'static str, u64>;

/// The stalls of one phase by what caused them.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct AttributionRecord {
    /// All stalled time.
    pub stalled_ns: u64,
    /// Stalls that were told one by one.
    pub stalls: u64,
    /// Those whose parts did not add up to the whole: always 0, or the tool is wrong.
    pub wrong: u64,
    /// Parts of `stalled_ns`, which they add up to.
    pub causes: Causes,
    /// What windows at other times would have explained; null where nothing moved for long enough.
    pub placebo: Option<PlaceboRecord>,
    /// By vCPU.
    pub by_vcpu: Vec<VcpuAttribution>,
    /// The longest thousandth; null where there was no stall.
    pub tail: Option<TailRecord>,
}

/// The part of one vCPU.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct VcpuAttribution {
    /// Its stalled time.
    pub stalled_ns: u64,
    /// Parts of it.
    pub causes: Causes,
}

/// What windows explain by chance: all of them said to have been later, by times drawn from the seed.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct PlaceboRecord {
    /// Stalled time for which it was tried.
    pub stalled_ns: u64,
    /// The share (0 to 1) of that which windows at other times would have explained.
    pub share: f64,
    /// The share that the real ones explain.
    pub real_share: f64,
    /// The first share, by cause in ns.
    pub causes: Causes,
    /// The second.
    pub real: Causes,
}

/// The longest stalls of a phase: one in a thousand.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TailRecord {
    /// The shortest of them.
    pub from_ns: u64,
    /// How many.
    pub stalls: u64,
    /// Their time.
    pub stalled_ns: u64,
    /// Parts of it.
    pub causes: Causes,
}

/// How the clock of the kernel's records was brought to the TSC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ClockRecord {
    /// The mapping was never more wrong than this: the uncertainty of a reading, and how far it lay from what earlier
    /// ones foretold.
    pub error_ns: u64,
    /// How much faster the TSC ran than KVM says, in parts of 10^9.
    pub drift_ppb: i64,
    /// Between the first reading and the last.
    pub measured_ns: u64,
}

/// What two sources say of the time in which one vCPU's thread wanted a CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct AgreementRecord {
    /// Which vCPU.
    pub vcpu: u32,
    /// By the kernel's records: times that began with the loss of the CPU. Null where the host gives none.
    pub preempted_ns: Option<u64>,
    /// By its schedstat: those, and waits after a wake-up. Null where the kernel has none.
    pub run_delay_ns: Option<u64>,
}

/// A stall with its parts, whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StallLine {
    /// `control` or `moving`.
    pub phase: &'static str,
    /// Whose.
    pub vcpu: u32,
    /// When it began, since the control phase did.
    pub start_ns: u64,
    /// How long it was.
    pub stall_ns: u64,
    /// The address accessed.
    pub gva: u64,
    /// The kind of its page; null beyond the guest's memory.
    pub kind: Option<&'static str>,
    /// The page of the code that accessed it, by number.
    pub code_page: u32,
    /// The page of its stack, by number.
    pub stack_page: u32,
    /// Depth of RCU read sections.
    pub rcu_depth: u8,
    /// Locks held.
    pub locks: u8,
    /// Interrupts were masked.
    pub masked: bool,
    /// It was an interrupt handler's.
    pub in_interrupt: bool,
    /// Parts of `stall_ns`, in ns each rounded down.
    pub causes: Causes,
    /// The same in the order of time: cause, and when it began, in ns from the begin of the stall. Each lasts until the next
    /// begins, the last to the end.
    pub pieces: Vec<(&'static str, u64)>,
}

/// Everything about who stole the time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Attribution {
    /// The moving phase.
    pub moving: AttributionRecord,
    /// The control phase.
    pub control: AttributionRecord,
    /// How clocks were brought together; `None` where there was nothing to bring.
    pub clock: Option<ClockRecord>,
    /// By vCPU.
    pub agreement: Vec<AgreementRecord>,
    /// Records that came too fast, by source.
    pub lost: BTreeMap<&'static str, u64>,
    /// The longest stalls of both phases.
    pub longest: Vec<StallLine>,
    /// Stalls that are not among them.
    pub left_out: u64,
}
