//! The kernel's RCU, a machine of each kind.

use underfoot_abi::RCU_STALL_NS;
use underfoot_guest::sync::{BacklogSampler, PreemptRcu, Rcu, RcuFlavour, RcuStall, SrcuDomain};

/// There from the start.
pub static RCU: Rcu = Rcu::new(RCU_STALL_NS, RcuStall::report);
/// The preemptible kind.
pub static PREEMPT_RCU: PreemptRcu = PreemptRcu::new(RCU_STALL_NS, RcuStall::report);
/// The domain of workloads that read under the sleepable kind.
pub static SRCU: SrcuDomain = SrcuDomain::new(RCU_STALL_NS, RcuStall::report);

/// All of them, by [`RcuKind`](underfoot_guest::sync::RcuKind): every hook is called for each.
pub static FLAVOURS: [RcuFlavour<'static>; 3] = [
    RcuFlavour::Classic(&RCU),
    RcuFlavour::Preemptible(&PREEMPT_RCU),
    RcuFlavour::Sleepable(&SRCU),
];

/// Tells the host what waits for all of them.
pub static SAMPLER: BacklogSampler = BacklogSampler::new();
