//! The kernel at CPL 3, above the firmware's trap layer.

use super::{Apic, PrivOps};
use crate::Cpu;
use core::sync::atomic::Ordering;
use core::sync::atomic::{Ordering::Relaxed, compiler_fence};
use underfoot_abi::{PORT_DOORBELL, PORT_EXIT};
use underfoot_firmware::{CpuHeader, Service, VECTOR_IPI, service, service_results};

/// [`PrivOps`] through the trap layer. One per CPU, because masking is a word in its header.
pub struct Ring3 {
    header: &'static CpuHeader,
    /// Handles the interrupts in the mask, given where the tick among them came; called masked.
    pending: fn(&Cpu, u64, u64),
}

impl Ring3 {
    /// For the CPU whose header this is. `pending` handles interrupts that came while masked, given
    /// their `PENDING_…` bits and where the tick, if it is one of them, interrupted the CPU.
    #[must_use]
    pub const fn new(header: &'static CpuHeader, pending: fn(&Cpu, u64, u64)) -> Self {
        Self { header, pending }
    }
}

impl PrivOps for Ring3 {
    fn irq_save(&self, cpu: &Cpu) -> bool {
        // Not a locked exchange: only this CPU's own trap layer looks at the word.
        let open = self.header.masked.load(Relaxed) == 0;
        if open {
            self.header.masked.store(1, Relaxed);
            compiler_fence(Ordering::SeqCst);
            cpu.set_masked(true);
        }
        open
    }

    fn irq_restore(&self, cpu: &Cpu, open: bool) {
        if !open {
            return;
        }
        loop {
            let bits = self.header.pending.swap(0, Relaxed);
            if bits != 0 {
                (self.pending)(cpu, bits, self.header.masked_rip.load(Relaxed));
            }
            cpu.set_masked(false);
            compiler_fence(Ordering::SeqCst);
            self.header.masked.store(0, Relaxed);
            compiler_fence(Ordering::SeqCst);
            // Whatever came before the store left its bit; whatever comes after is taken at once.
            if self.header.pending.load(Relaxed) == 0 {
                break;
            }
            self.header.masked.store(1, Relaxed);
            cpu.set_masked(true);
        }
        cpu.interrupts_opened();
    }

    fn halt(&self, cpu: &Cpu) {
        // SAFETY: the trap layer is in place since boot; it waits unless an interrupt is pending.
        unsafe { service(Service::Halt, 0, 0) };
        let bits = self.header.pending.swap(0, Relaxed);
        if bits != 0 {
            (self.pending)(cpu, bits, self.header.masked_rip.load(Relaxed));
        }
    }

    fn kick(&self, cpu: &Cpu, id: usize) {
        // Two writes, between which nobody else on this CPU may send.
        let open = self.irq_save(cpu);
        // SAFETY: every page table of this kernel maps the local APIC.
        unsafe { Apic::new() }.send(id, VECTOR_IPI);
        self.irq_restore(cpu, open);
    }

    fn flush_page(&self, address: usize) {
        // SAFETY: dropping a translation changes nothing but speed.
        unsafe { service(Service::FlushPage, address as u64, 0) };
    }

    fn flush_range(&self, address: usize, pages: usize) {
        // SAFETY: as in `flush_page`.
        unsafe { service(Service::FlushRange, address as u64, pages as u64) };
    }

    fn flush_all(&self) {
        // SAFETY: as in `flush_page`.
        unsafe { service(Service::FlushAll, 0, 0) };
    }

    unsafe fn load_page_table(&self, root: usize) {
        // SAFETY: the caller's obligation: the table maps all that is in use.
        unsafe { service(Service::LoadPageTable, root as u64, 0) };
    }

    fn cpuid(&self, leaf: u32) -> [u32; 4] {
        // SAFETY: CPUID changes nothing.
        unsafe { service_results(Service::Cpuid, u64::from(leaf), 0) }.map(|word| word as u32)
    }

    unsafe fn write_msr(&self, msr: u32, value: u64) {
        // SAFETY: the caller's obligation.
        unsafe { service(Service::WriteMsr, u64::from(msr), value) };
    }

    fn doorbell(&self, value: u32) {
        out_from_ring3(PORT_DOORBELL, value);
    }

    fn exit(&self, status: u32) -> ! {
        exit_from_ring3(status)
    }

    fn triple_fault(&self) -> ! {
        loop {
            // SAFETY: dies on purpose.
            unsafe { service(Service::TripleFault, 0, 0) };
        }
    }
}

/// Writes to the console from CPL 3, on whichever CPU this is.
pub fn console_from_ring3(bytes: &[u8]) {
    // SAFETY: the slice is readable for as long as the call takes.
    unsafe { service(Service::Console, bytes.as_ptr() as u64, bytes.len() as u64) };
}

/// Ends the guest from CPL 3, on whichever CPU this is.
pub fn exit_from_ring3(status: u32) -> ! {
    loop {
        // The host stops this CPU at the first write.
        out_from_ring3(PORT_EXIT, status);
    }
}

fn out_from_ring3(port: u16, value: u32) {
    // SAFETY: the two ports that the ABI names have no effect on the guest's memory.
    unsafe { service(Service::Out, u64::from(port), u64::from(value)) };
}
