//! What the guest can run, what each workload can be told, and what it counts.

mod kernel;
mod mix;
mod spaces;

pub use mix::{MIX_PARTS, mix_counters};
pub use spaces::{
    CHANGES, DENIED, FAULT_OUTCOMES, MOVES, PRESSURE_COUNTERS, SHOTS, SPLITS, TABLE_SAMPLES,
    TABLES_REUSED,
};

use kernel::{CHASE, CHURN, DMA, IDLE, LOCK, ORDER, SHOOTDOWN, TORTURE, WALK};
pub use kernel::{
    DMA_CACHE, DMA_EXHAUSTED, DMA_LOOKUP, DMA_RANGES, DMA_RENEW, DMA_RENEW_BUSY, DMA_SLOTS,
    DMA_TRACKING, SNAPSHOTS,
};
use mix::MIX;
use spaces::{EXIT, FAULT, MMAP1, PRESSURE};

/// The most parameters that a workload has.
pub const MAX_PARAMETERS: usize = 16;
/// The most counters that a workload has.
pub const MAX_COUNTERS: usize = 80;

/// A number or a choice that a workload can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// What the user writes.
    pub name: &'static str,
    /// What it is, in one line, with the unit.
    pub about: &'static str,
    /// Least value allowed.
    pub least: u64,
    /// Greatest value allowed.
    pub most: u64,
    /// Value if the user says nothing.
    pub default: u64,
    /// Names of the values 0, 1, …; empty where the user writes a number.
    pub choices: &'static [&'static str],
}

impl Parameter {
    /// A number.
    #[must_use]
    pub const fn number(
        name: &'static str,
        about: &'static str,
        least: u64,
        most: u64,
        default: u64,
    ) -> Self {
        Self {
            name,
            about,
            least,
            most,
            default,
            choices: &[],
        }
    }

    /// One of `choices`; the first is the default.
    #[must_use]
    pub const fn choice(
        name: &'static str,
        about: &'static str,
        choices: &'static [&'static str],
    ) -> Self {
        Self {
            name,
            about,
            least: 0,
            most: choices.len() as u64 - 1,
            default: 0,
            choices,
        }
    }

    /// The defaults of `described`, at most [`MAX_PARAMETERS`]; 0 where there is none.
    #[must_use]
    pub const fn defaults(described: &[Self]) -> [u64; MAX_PARAMETERS] {
        let (mut values, mut index) = ([0; MAX_PARAMETERS], 0);
        while index < described.len() {
            values[index] = described[index].default;
            index += 1;
        }
        values
    }
}

/// Something that a workload counts, in each recorded phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counter {
    /// Its name in the results.
    pub name: &'static str,
    /// What is counted, in one line.
    pub about: &'static str,
}

impl Counter {
    /// A counter.
    #[must_use]
    pub const fn new(name: &'static str, about: &'static str) -> Self {
        Self { name, about }
    }
}

/// What every workload counts first: index 0 of its counters.
pub const OPERATIONS: Counter = Counter::new("operations", "operations done");

/// Which workload the guest runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum WorkloadId {
    /// RCU and sequence counts over a dentry-like tree, and touches of every kind of page.
    Walk = 0,
    /// Contended spinlocks.
    Lock = 1,
    /// A pointer chase, bandwidth and arithmetic: the baseline.
    Chase = 2,
    /// Next to nothing.
    Idle = 3,
    /// Copies by a device.
    Dma = 30,
    /// Pages left to RCU at a chosen rate.
    Churn = 5,
    /// A self-test of RCU.
    Torture = 10,
    /// The locks of the cycle that speculative page faults ran into.
    Order = 11,
    /// Several of the others side by side.
    Mix = 12,
    /// Remap and protect storms against readers.
    Shootdown = 4,
    /// Mappers and accessors of the same regions.
    Mmap1 = 20,
    /// Address spaces that come and go.
    Exit = 21,
    /// Page faults of many threads in one address space.
    Fault = 22,
    /// Fast-path page faults that take what ordinary allocations want.
    Pressure = 23,
}

/// One workload, described.
struct Description {
    name: &'static str,
    about: &'static str,
    parameters: &'static [Parameter],
    counters: &'static [Counter],
}

impl WorkloadId {
    /// All of them.
    pub const ALL: &'static [Self] = &[
        Self::Walk,
        Self::Lock,
        Self::Chase,
        Self::Idle,
        Self::Dma,
        Self::Churn,
        Self::Torture,
        Self::Order,
        Self::Mix,
        Self::Shootdown,
        Self::Mmap1,
        Self::Exit,
        Self::Fault,
        Self::Pressure,
    ];

    /// The workload with this number.
    #[must_use]
    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL.iter().copied().find(|id| *id as u32 == number)
    }

    /// What the user writes.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.description().name
    }

    /// What it does, in one line.
    #[must_use]
    pub const fn about(self) -> &'static str {
        self.description().about
    }

    /// What it can be told, at most [`MAX_PARAMETERS`]; the order is that of
    /// [`Header::parameters`](crate::Header::parameters).
    #[must_use]
    pub const fn parameters(self) -> &'static [Parameter] {
        self.description().parameters
    }

    /// What it is told if the user says nothing.
    #[must_use]
    pub const fn defaults(self) -> [u64; MAX_PARAMETERS] {
        Parameter::defaults(self.parameters())
    }

    /// What it counts, at most [`MAX_COUNTERS`]; the first is [`OPERATIONS`]. The order is that of
    /// [`VcpuArea::counters`](crate::VcpuArea::counters).
    #[must_use]
    pub const fn counters(self) -> &'static [Counter] {
        self.description().counters
    }

    const fn description(self) -> Description {
        match self {
            Self::Walk => WALK,
            Self::Lock => LOCK,
            Self::Chase => CHASE,
            Self::Idle => IDLE,
            Self::Dma => DMA,
            Self::Churn => CHURN,
            Self::Torture => TORTURE,
            Self::Order => ORDER,
            Self::Mix => MIX,
            Self::Shootdown => SHOOTDOWN,
            Self::Mmap1 => MMAP1,
            Self::Exit => EXIT,
            Self::Fault => FAULT,
            Self::Pressure => PRESSURE,
        }
    }
}

/// Whether locks are checked; what all workloads can be told but the one that is about it.
const LOCKDEP: Parameter = Parameter::choice(
    "lockdep",
    "whether the lock-order checker watches",
    &["off", "on"],
);

/// What most workloads can be told first.
const THREADS: Parameter = Parameter::number("threads", "threads on each CPU", 1, 4, 2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptions_fit_the_contract() {
        for id in WorkloadId::ALL {
            assert_eq!(WorkloadId::from_number(*id as u32), Some(*id));
            assert!(id.parameters().len() <= MAX_PARAMETERS, "{}", id.name());
            assert!(id.counters().len() <= MAX_COUNTERS, "{}", id.name());
            assert_eq!(id.counters()[0], OPERATIONS, "{}", id.name());
            for parameter in id.parameters() {
                let range = parameter.least..=parameter.most;
                assert!(range.contains(&parameter.default), "{}", parameter.name);
                assert!(
                    parameter.choices.is_empty()
                        || parameter.choices.len() as u64 == parameter.most + 1
                );
            }
        }
    }
}
