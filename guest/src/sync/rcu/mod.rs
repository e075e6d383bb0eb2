//! Read-copy-update in three kinds, for the number of CPUs that one word holds.
//!
//! What is taken from Linux: the grace-period number with its "in progress" bit and the snapshot
//! arithmetic (Documentation/RCU/Design/Data-Structures/Data-Structures.rst, `->gp_seq`), one mask of
//! CPUs that still have to report instead of its tree of `rcu_node`s, idle CPUs as extended quiescent
//! states (Documentation/RCU/Design/Requirements/Requirements.rst, "Interrupts and NMIs" and
//! "Energy Efficiency"), callbacks in segments by the grace period that they wait for, and the stall
//! detector's report (Documentation/RCU/stallwarn.rst).
//!
//! | kind | a section | a grace period waits for | machine |
//! | --- | --- | --- | --- |
//! | classic | is not preempted | every CPU to be out of sections | [`Rcu`] |
//! | preemptible | may be preempted | every CPU, and each reader that was switched out | [`PreemptRcu`] |
//! | sleepable | may sleep | the readers counted under two indices in turn | [`SrcuDomain`] |
//!
//! `sequence` numbers the grace periods, `callbacks` queues what waits for them, `stall` watches them,
//! for all kinds; `periods` is the mask of CPUs that the first two kinds wait for. [`RcuFlavour`] is
//! any of them.

mod backlog;
mod callbacks;
mod classic;
mod flavour;
mod head;
mod periods;
mod preempt;
mod published;
mod readers;
mod sampler;
mod sequence;
mod sleepable;
mod stall;
mod waiters;

pub use backlog::Backlog;
pub use classic::{Rcu, RcuGuard};
pub use flavour::{FlavourGuard, RcuFlavour, RcuKind};
pub use head::{RcuCallback, RcuHead};
pub use preempt::{PreemptGuard, PreemptRcu};
pub use readers::ReaderState;
pub use sampler::BacklogSampler;
pub use sleepable::{SrcuDomain, SrcuGuard};
pub use stall::{RcuStall, StalledReader};

use super::TicketLock;
use crate::Cpu;

/// CPUs that the masks hold; a model makes no more than it needs.
const CPUS: usize = if cfg!(loom) {
    3
} else {
    underfoot_abi::MAX_CPUS
};

/// The bit of `cpu` in the masks.
#[inline]
const fn bit(cpu: &Cpu) -> u64 {
    1 << cpu.id
}

#[cfg(all(test, loom))]
mod loom_models;
#[cfg(test)]
pub(crate) mod rig;
#[cfg(all(test, not(loom)))]
mod tests;
