//! What a vCPU that is held out of the guest is to the guest: one that does not run.
//!
//! The protocol of KVM's steal time (`record_steal_time` in arch/x86/kvm/x86.c), between guest and
//! VMM: another vCPU that would have this one flush its TLB leaves a note instead of waiting for it.

use crate::shared::SharedRegion;
use kvm_ioctls::{Error, VcpuFd};
use std::sync::atomic::{AtomicU8, Ordering};
use underfoot_abi::{VCPU_FLUSH_TLB, VCPU_PREEMPTED};

/// Global pages, by which KVM decides nothing but whether to start its own tables anew.
const CR4_PGE: u64 = 1 << 7;

/// The word in which vCPU `index` is said to be held.
pub(crate) struct HeldWord {
    pub(crate) region: SharedRegion,
    pub(crate) index: u32,
}

impl HeldWord {
    fn word(&self) -> &AtomicU8 {
        &self.region.vcpu(self.index).held
    }

    /// The vCPU is out of KVM_RUN, and stays out until [`Self::resume`].
    pub(crate) fn out(&self) {
        // Release: what the vCPU did comes before what is done to it while it is held.
        self.word().store(VCPU_PREEMPTED, Ordering::Release);
    }

    /// The vCPU is about to run: does what the note asks for, if there is one.
    pub(crate) fn resume(&self, vcpu: &VcpuFd) -> Result<(), Error> {
        // One step: a note is seen here, or its writer sees that the vCPU runs. Acquire: with the
        // note comes the page table that it was left for.
        if self.word().swap(0, Ordering::AcqRel) & VCPU_FLUSH_TLB == 0 {
            return Ok(());
        }
        flush_tlb(vcpu)
    }
}

/// Has KVM flush the vCPU's TLB: it does when a paging-related bit of CR4 changes
/// (`kvm_set_sregs` resets the MMU).
fn flush_tlb(vcpu: &VcpuFd) -> Result<(), Error> {
    let registers = vcpu.get_sregs()?;
    let mut other = registers;
    other.cr4 ^= CR4_PGE;
    vcpu.set_sregs(&other)?;
    vcpu.set_sregs(&registers)
}
