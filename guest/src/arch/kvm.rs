//! What KVM offers its guests beyond a processor (Documentation/virt/kvm/x86/cpuid.rst, msr.rst and
//! hypercalls.rst).

use super::PrivOps;
use crate::Cpu;
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};
use underfoot_firmware::PageEventWords;

const LEAF_VENDOR: u32 = 0;
const LEAF_SIGNATURE: u32 = 0x4000_0000;
const LEAF_FEATURES: u32 = 0x4000_0001;
/// `KVMKVMKVM` in EBX, ECX and EDX.
const SIGNATURE: [u32; 3] = [0x4b4d_564b, 0x564b_4d56, 0x4d];
/// `Auth` and `Hygo`: the vendors whose processors have vmmcall.
const AMD: [u32; 2] = [0x6874_7541, 0x6f67_7948];

const ASYNC_PAGE_FAULT: u32 = 1 << 4;
const STEAL_TIME: u32 = 1 << 5;
const PV_TLB_FLUSH: u32 = 1 << 9;
const PV_SEND_IPI: u32 = 1 << 11;
const ASYNC_PAGE_FAULT_INTERRUPT: u32 = 1 << 14;

/// The hypercall that interrupts many CPUs.
pub(super) const HC_SEND_IPI: u64 = 10;

const MSR_ASYNC_PAGE_FAULT: u32 = 0x4b56_4d02;
const MSR_STEAL_TIME: u32 = 0x4b56_4d03;
const MSR_ASYNC_PAGE_FAULT_VECTOR: u32 = 0x4b56_4d06;
const MSR_ASYNC_PAGE_FAULT_ACK: u32 = 0x4b56_4d07;
const ENABLE: u64 = 1;
/// At CPL 0 too.
const SEND_ALWAYS: u64 = 1 << 1;
/// "Ready" is an interrupt.
const AS_INTERRUPT: u64 = 1 << 3;

/// The instruction that interrupts many CPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SendIpi {
    Intel,
    Amd,
}

static SEND_IPI: AtomicU32 = AtomicU32::new(0);

/// The instruction, where there is one: after [`Kvm::detect`].
pub(super) fn send_ipi() -> Option<SendIpi> {
    match SEND_IPI.load(Relaxed) {
        1 => Some(SendIpi::Intel),
        2 => Some(SendIpi::Amd),
        _ => None,
    }
}

/// Whether the hypercall that was to interrupt `cpus` did, by its `result`: how many it interrupted.
/// One that did not is not tried again.
pub(super) fn was_sent(cpus: u64, result: u64) -> bool {
    let all = result == u64::from(cpus.count_ones());
    if !all {
        SEND_IPI.store(0, Relaxed);
    }
    all
}

/// What the KVM below offers, if there is one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kvm {
    features: u32,
    amd: bool,
}

impl Kvm {
    /// Asks the processor.
    #[must_use]
    pub fn detect(ops: &dyn PrivOps) -> Self {
        let [_, a, b, c] = ops.cpuid(LEAF_SIGNATURE);
        if [a, b, c] != SIGNATURE {
            return Self::default();
        }
        Self {
            features: ops.cpuid(LEAF_FEATURES)[0],
            amd: AMD.contains(&ops.cpuid(LEAF_VENDOR)[1]),
        }
    }

    /// Whether it takes a note from one vCPU for another, that it flush it before it runs it again.
    #[must_use]
    pub const fn flushes(self) -> bool {
        self.features & (STEAL_TIME | PV_TLB_FLUSH) == STEAL_TIME | PV_TLB_FLUSH
    }

    /// Has KVM write `cpu`'s steal time to its area of the shared region; whether it does.
    pub fn record_steal_time(self, cpu: &Cpu) -> bool {
        if self.features & STEAL_TIME == 0 {
            return false;
        }
        let address = core::ptr::from_ref(&cpu.area.steal_time).addr();
        // SAFETY: KVM says that it has the register. The record lies in the shared region, at its
        // physical address since memory is mapped to itself, stays there, and is all atomics.
        unsafe { cpu.ops.write_msr(MSR_STEAL_TIME, address as u64 | ENABLE) };
        true
    }

    /// Has KVM tell `cpu` of pages that are away, by `words`: "not present" by a page fault, "ready" by the interrupt
    /// `vector`; whether it does. A "ready" for all comes first.
    pub fn tell_of_pages(self, cpu: &Cpu, words: &'static PageEventWords, vector: u8) -> bool {
        const WANTED: u32 = ASYNC_PAGE_FAULT | ASYNC_PAGE_FAULT_INTERRUPT;
        if self.features & WANTED != WANTED {
            return false;
        }
        let address = core::ptr::from_ref(words).addr() as u64;
        // SAFETY: KVM says that it has the registers. The words lie at their physical address since memory is mapped
        // to itself, aligned to 64 bytes by their type, stay there, and are all atomics.
        unsafe {
            cpu.ops
                .write_msr(MSR_ASYNC_PAGE_FAULT_VECTOR, vector.into());
            let how = AS_INTERRUPT | SEND_ALWAYS | ENABLE;
            cpu.ops.write_msr(MSR_ASYNC_PAGE_FAULT, address | how);
        }
        true
    }

    /// Lets KVM tell of the next page that is ready.
    pub fn take_next_page(cpu: &Cpu) {
        // SAFETY: whoever was told of a page had the register before.
        unsafe { cpu.ops.write_msr(MSR_ASYNC_PAGE_FAULT_ACK, 1) };
    }

    /// Lets [`PrivOps::kick_many`] use KVM's hypercall, in a kernel at CPL 0. Not at CPL 3: kvm-pvm,
    /// which emulates ring 0, offers the hypercall, and a CPU that makes it from there was seen
    /// never to come back.
    pub fn allow_send_ipi(self) {
        if self.features & PV_SEND_IPI != 0 {
            SEND_IPI.store(1 + u32::from(self.amd), Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_kvm_s() {
        let bytes: Vec<u8> = SIGNATURE.iter().flat_map(|w| w.to_le_bytes()).collect();
        assert_eq!(bytes, b"KVMKVMKVM\0\0\0");
        assert_eq!(AMD[0].to_le_bytes(), *b"Auth");
        assert_eq!(AMD[1].to_le_bytes(), *b"Hygo");
    }
}
