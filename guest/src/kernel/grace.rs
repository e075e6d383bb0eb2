//! The kernel's grace-period machine, and what it says when a grace period does not end.

use super::fail;
use underfoot_guest::Cpu;
use underfoot_guest::sync::{Rcu, RcuStall};

/// A grace period this old is reported as stalled: far beyond any time slice of a busy host.
const STALL_NS: u64 = 1_000_000_000;

/// There from the start.
pub static RCU: Rcu = Rcu::new(STALL_NS, report);

fn report(cpu: &Cpu, stall: &RcuStall) {
    fail::print(format_args!(
        "rcu: INFO: CPU {} detected a stall: grace period {} is {} ms old, waiting for CPUs {:#x}; here: rip {:#x}",
        cpu.id,
        stall.grace_period,
        stall.age_ns / 1_000_000,
        stall.waiting,
        stall.position
    ));
}
