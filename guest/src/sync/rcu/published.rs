//! What the host is told of the grace periods of classic RCU, in the shared region: which is in progress,
//! and for whom it waits. Each pair of a grace period and a CPU is waited for once at most, so that the host
//! needs no other sequence.

use crate::{Cpu, arch::tsc};
use core::sync::atomic::Ordering::{Relaxed, Release};

/// The grace period with this odd number waits for `cpus`. By the CPU that began it, which it waits for too.
pub(super) fn began(cpu: &Cpu, number: u64, cpus: u64) {
    let header = cpu.header;
    header.grace_cpus.store(cpus, Release);
    header.grace_began_tsc.store(tsc(), Release);
    // Release, all three: the host reads the number, the others and the number again; who reads one of the
    // others sees the grace period before it over.
    header.grace_number.store(number, Release);
}

/// That CPU holds up this one no more.
pub(super) fn passed(cpu: &Cpu, number: u64) {
    cpu.area.grace_passed.store(number, Relaxed);
}

/// It is over. Release: whoever reads this sees its sections over.
pub(super) fn over(cpu: &Cpu, number: u64) {
    cpu.header.grace_number.store(number + 1, Release);
}

/// The number that the host wants, if that is beyond `number`.
pub(super) fn wanted(cpu: &Cpu, number: u64) -> Option<u64> {
    let wanted = cpu.header.grace_wanted.load(Relaxed);
    (wanted > number).then_some(wanted)
}
