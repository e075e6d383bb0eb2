//! What the kernel asks of the processor.

mod apic;
mod kvm;
mod ring0;
mod ring3;
mod switch;

pub use apic::{APIC_BASE, Apic};
pub use kvm::Kvm;
pub use ring0::Ring0;
pub use ring3::{Ring3, console_from_ring3, exit_from_ring3};
pub use switch::{new_stack, switch};

/// What differs between a kernel at CPL 0 and one at CPL 3 above a ring-0 trap layer.
pub trait PrivOps: Sync {
    /// Masks interrupts on this CPU; returns whether they were open before.
    fn irq_save(&self, cpu: &crate::Cpu) -> bool;
    /// Opens interrupts again if `open`, taking those that were held back meanwhile.
    fn irq_restore(&self, cpu: &crate::Cpu, open: bool);
    /// Waits for an interrupt with interrupts masked on entry and open during the wait; returns with
    /// them masked. An interrupt that came between the caller's last check and this call ends it at
    /// once.
    fn halt(&self, cpu: &crate::Cpu);
    /// Interrupts CPU `id`, so that its [`Self::halt`] ends.
    fn kick(&self, cpu: &crate::Cpu, id: usize);
    /// Interrupts every CPU of `cpus` (a bit each) by one hypercall. `false` if KVM does not take it, or is
    /// never asked, as at CPL 3: then perhaps not all were interrupted, and the caller falls back to [`Self::kick`].
    fn kick_many(&self, _cpus: u64) -> bool {
        false
    }
    /// Drops this CPU's translation of the page at `address`.
    fn flush_page(&self, address: usize);
    /// Drops this CPU's translations of `pages` pages, one at least, from that at `address` on.
    fn flush_range(&self, address: usize, pages: usize) {
        for page in 0..pages {
            self.flush_page(address + page * underfoot_abi::PAGE_SIZE);
        }
    }
    /// Drops all translations of this CPU but global ones, which this kernel does not make.
    fn flush_all(&self);
    /// Makes the page table at `root` this CPU's own, dropping all its translations.
    ///
    /// # Safety
    /// The table must map everything that this CPU goes on using, as it is mapped now.
    unsafe fn load_page_table(&self, root: usize);
    /// EAX, EBX, ECX and EDX of a CPUID leaf, as ring 0 sees it.
    fn cpuid(&self, _leaf: u32) -> [u32; 4] {
        [0; 4]
    }
    /// Writes a model-specific register.
    ///
    /// # Safety
    /// The processor has the register, and the value is sound for it.
    unsafe fn write_msr(&self, msr: u32, value: u64);
    /// Tells the host that the shared header has changed.
    fn doorbell(&self, value: u32);
    /// Ends the guest.
    fn exit(&self, status: u32) -> !;
    /// Resets the processor in the crudest way, for the variant that does it on purpose.
    fn triple_fault(&self) -> !;
}

/// Where this code and the top of its stack lie.
#[inline(always)]
#[must_use]
pub fn place() -> [u64; 2] {
    let (code, stack): (u64, u64);
    // SAFETY: two register moves; nothing is written but their results.
    unsafe {
        core::arch::asm!("lea {}, [rip]", "mov {}, rsp", out(reg) code, out(reg) stack,
            options(nomem, nostack, preserves_flags));
    }
    [code, stack]
}

/// Now, in TSC ticks, not before earlier loads and not after later ones.
#[inline(always)]
#[must_use]
pub fn tsc() -> u64 {
    // SAFETY: both instructions are part of baseline x86-64 and touch no memory.
    unsafe {
        core::arch::x86_64::_mm_lfence();
        let now = core::arch::x86_64::_rdtsc();
        core::arch::x86_64::_mm_lfence();
        now
    }
}
