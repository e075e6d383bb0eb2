//! The kernel at CPL 0: the processor's own instructions.

use super::kvm::{HC_SEND_IPI, SendIpi, send_ipi, was_sent};
use super::{Apic, PrivOps};
use crate::Cpu;
use core::arch::asm;
use underfoot_abi::{PORT_DOORBELL, PORT_EXIT, PORT_SERIAL};
use underfoot_firmware::{INTERRUPT_FLAG, VECTOR_IPI};

/// [`PrivOps`] by the instructions themselves.
pub struct Ring0;

impl Ring0 {
    /// Writes to the console.
    pub fn console(&self, bytes: &[u8]) {
        // SAFETY: writes the slice to the serial port and touches nothing else.
        unsafe {
            asm!("cld", "rep outsb", inout("rsi") bytes.as_ptr() => _, inout("rcx") bytes.len() => _,
                in("dx") PORT_SERIAL, options(nostack, readonly));
        }
    }
}

impl PrivOps for Ring0 {
    fn irq_save(&self, cpu: &Cpu) -> bool {
        let flags: u64;
        // SAFETY: at CPL 0 masking is always allowed; the push is balanced by the pop.
        unsafe { asm!("pushfq", "pop {flags}", "cli", flags = out(reg) flags) };
        let open = flags & INTERRUPT_FLAG != 0;
        if open {
            cpu.set_masked(true);
        }
        open
    }

    fn irq_restore(&self, cpu: &Cpu, open: bool) {
        if open {
            cpu.set_masked(false);
            // SAFETY: the caller had interrupts open before its `irq_save`.
            unsafe { asm!("sti", options(nostack)) };
            cpu.interrupts_opened();
        }
    }

    fn halt(&self, _cpu: &Cpu) {
        // SAFETY: `sti` takes effect after the next instruction, so that no interrupt falls between
        // the two.
        unsafe { asm!("sti", "hlt", "cli", options(nostack)) };
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
        unsafe { asm!("invlpg [{address}]", address = in(reg) address, options(nostack)) };
    }

    fn kick_many(&self, cpus: u64) -> bool {
        let Some(by) = send_ipi() else { return false };
        let mut result = HC_SEND_IPI;
        let vector = u64::from(VECTOR_IPI);
        // SAFETY: KVM says that it knows the hypercall, which interrupts CPUs and clobbers nothing
        // but RAX; RBX, which Rust keeps to itself, is put back.
        unsafe {
            match by {
                SendIpi::Intel => asm!("xchg rbx, {mask}", "vmcall", "xchg rbx, {mask}",
                    mask = inout(reg) cpus => _, inout("rax") result, in("rcx") 0, in("rdx") 0,
                    in("rsi") vector, options(nostack)),
                SendIpi::Amd => asm!("xchg rbx, {mask}", "vmmcall", "xchg rbx, {mask}",
                    mask = inout(reg) cpus => _, inout("rax") result, in("rcx") 0, in("rdx") 0,
                    in("rsi") vector, options(nostack)),
            }
        }
        was_sent(cpus, result)
    }

    fn flush_all(&self) {
        // SAFETY: loads the same page table again, which drops translations.
        unsafe { asm!("mov {0}, cr3", "mov cr3, {0}", out(reg) _, options(nostack)) };
    }

    fn cpuid(&self, leaf: u32) -> [u32; 4] {
        let result = core::arch::x86_64::__cpuid(leaf);
        [result.eax, result.ebx, result.ecx, result.edx]
    }

    unsafe fn write_msr(&self, msr: u32, value: u64) {
        // SAFETY: the caller's obligation.
        unsafe {
            asm!("wrmsr", in("ecx") msr, in("eax") value as u32, in("edx") (value >> 32) as u32,
                options(nostack));
        }
    }

    unsafe fn load_page_table(&self, root: usize) {
        // SAFETY: the caller's obligation: the table maps all that is in use.
        unsafe { asm!("mov cr3, {root}", root = in(reg) root, options(nostack)) };
    }

    fn doorbell(&self, value: u32) {
        out32(PORT_DOORBELL, value);
    }

    fn exit(&self, status: u32) -> ! {
        out32(PORT_EXIT, status);
        loop {
            // SAFETY: nothing is left to do on this CPU.
            unsafe { asm!("cli", "hlt", options(nostack, nomem)) };
        }
    }

    fn triple_fault(&self) -> ! {
        let empty = [0u64; 2];
        // SAFETY: dies on purpose; nothing runs afterwards.
        unsafe { asm!("lidt [{0}]", "ud2", in(reg) &raw const empty, options(noreturn)) }
    }
}

fn out32(port: u16, value: u32) {
    // SAFETY: the two ports that the ABI names have no effect on the guest's memory.
    unsafe { asm!("out dx, eax", in("dx") port, in("eax") value, options(nostack)) };
}
