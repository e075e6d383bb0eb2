//! The kernel's statics, each filled once.

use super::boot::TICK_HZ;
use super::fail;
use super::once::Once;
use super::shared::Shared;
use core::sync::atomic::Ordering::Relaxed;
use underfoot_abi::{Cpl, Header, MAX_CPUS, PageByte, PageKind};
use underfoot_firmware::{CpuHeader, kernel_cpl};
use underfoot_guest::arch::{Apic, PrivOps, Ring0, Ring3};
use underfoot_guest::mm::{PageAllocator, PageTable};
use underfoot_guest::workload::Workload;
use underfoot_guest::{Cpu, Hold, Sightings, TickPhase};

/// All that the CPUs share.
pub struct Kernel {
    pub shared: &'static Shared,
    pub apic: Apic,
    pub pages: &'static PageAllocator,
    pub table: &'static PageTable,
    pub workload: &'static dyn Workload,
}

static SHARED: Once<Shared> = Once::new();
static KERNEL: Once<Kernel> = Once::new();
static PAGES: Once<PageAllocator> = Once::new();
static TABLE: Once<PageTable> = Once::new();
static SIGHTINGS: Sightings = Sightings::new();
static CPUS: [Once<Cpu>; MAX_CPUS] = [const { Once::new() }; MAX_CPUS];
static RING3: [Once<Ring3>; MAX_CPUS] = [const { Once::new() }; MAX_CPUS];

/// Publishes the shared region to the rest of the kernel.
pub fn set_shared(shared: Shared) -> &'static Shared {
    SHARED.set(shared)
}

/// The shared region's header, once it is known.
pub fn header() -> Option<&'static Header> {
    SHARED.get().map(|shared| shared.header)
}

/// The shared region.
pub fn shared() -> &'static Shared {
    SHARED
        .get()
        .expect("the boot CPU has found the shared region")
}

/// Gives the allocator and the page tables a place to stay.
pub fn set_memory(
    pages: PageAllocator,
    table: PageTable,
) -> (&'static PageAllocator, &'static PageTable) {
    (PAGES.set(pages), TABLE.set(table))
}

/// Publishes the kernel.
pub fn set_kernel(kernel: Kernel) -> &'static Kernel {
    KERNEL.set(kernel)
}

/// The kernel, once it is whole.
pub fn kernel() -> Option<&'static Kernel> {
    KERNEL.get()
}

/// CPU `id`, once it has come up.
pub fn cpu(id: usize) -> Option<&'static Cpu> {
    CPUS.get(id).and_then(Once::get)
}

/// Makes this CPU known, with the operations of the level at which the kernel runs. At CPL 3,
/// `pending` handles the interrupts that came while they were masked.
pub fn add_cpu(
    id: usize,
    trap_header: &'static CpuHeader,
    pending: fn(&Cpu, u64, u64),
) -> &'static Cpu {
    let shared = shared();
    let ops: &'static dyn PrivOps = match kernel_cpl() {
        Cpl::Zero => {
            // The interrupt flag is the mask here.
            trap_header.masked.store(0, Relaxed);
            &Ring0
        }
        Cpl::Three | Cpl::Auto => RING3[id].set(Ring3::new(trap_header, pending)),
    };
    CPUS[id].set(Cpu {
        id,
        ops,
        header: shared.header,
        area: &shared.areas[id],
        ns_per_tick_q32: (1_000_000 << 32) / u64::from(shared.header.tsc_khz),
        sched: &super::threads::SCHEDULER,
        sightings: &SIGHTINGS,
        tick_phase: TickPhase::new(u64::from(shared.header.tsc_khz) * 1000 / u64::from(TICK_HZ)),
        console: super::console::write,
        hold: Hold::new(),
    })
}

impl Kernel {
    /// A stack of 2^`order` pages; returns its lowest address.
    pub fn allocate_stack(&self, cpu: &Cpu, order: usize) -> usize {
        let byte = PageByte::new(PageKind::Stack, false);
        fail::wanted(self.pages.allocate(cpu, order, byte), "a stack")
    }
}
