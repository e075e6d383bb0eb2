//! The note left for a vCPU that its host keeps from running.

use crate::sync::atomic::{
    AtomicU8,
    Ordering::{AcqRel, Relaxed},
};
use underfoot_abi::{VCPU_FLUSH_TLB, VCPU_PREEMPTED};

/// Leaves the note if the vCPU does not run; whether it was left. Then the host flushes the vCPU's
/// TLB before it runs again (`kvm_flush_tlb_multi` in arch/x86/kernel/kvm.c and
/// `record_steal_time` in arch/x86/kvm/x86.c are the two sides). `announce` is called before, if the
/// vCPU seems not to run: what it stores, the vCPU sees before its next instruction.
pub(super) fn leave(word: &AtomicU8, announce: impl FnOnce()) -> bool {
    let found = word.load(Relaxed);
    if found & VCPU_PREEMPTED == 0 {
        return false;
    }
    announce();
    // Fails if the vCPU runs again by now. Release pairs with the host's exchange: after its flush
    // the vCPU finds the page table as it is now. Acquire pairs with the host's store of the flag:
    // the vCPU's accesses by old translations came before.
    word.compare_exchange(found, found | VCPU_FLUSH_TLB, AcqRel, Relaxed)
        .is_ok()
}
