//! The boot CPU's way from the first Rust line to a kernel that is whole.

use super::grace::FLAVOURS;
use super::memory::{self, Memory};
use super::shared::Shared;
use super::start_info::LoaderInfo;
use super::state::{self, Kernel};
use super::workloads::{self, Ground};
use super::{fail, ipi, mover, page_event, smp, targets, threads, trap};
use core::sync::atomic::Ordering::{Relaxed, Release};
use underfoot_abi::{Cpl, GuestState, Header, PAGE_SIZE};
use underfoot_firmware::{CpuHeader, build_idt, enter_ring3, kernel_cpl, ring0_ticks};
use underfoot_guest::Cpu;
use underfoot_guest::arch::{Apic, tsc};

/// Timer ticks a second, on every CPU. Where ring 0 is emulated a tick costs some 30 µs.
pub const TICK_HZ: u32 = 250;

/// Status with which the guest leaves when the level demanded can't be had.
const EXIT_REFUSED: u32 = 4;

/// Boots; returns on the boot CPU when every CPU is up.
pub fn boot(trap_header: &'static CpuHeader, start_info: usize) -> (&'static Kernel, &'static Cpu) {
    let entered_tsc = tsc();
    build_idt();
    // SAFETY: the boot code hands over what the loader passed.
    let loader = unsafe { LoaderInfo::read(start_info) }.expect("a PVH start info");
    let shared = state::set_shared(find_shared(&loader));
    shared.header.entered_tsc.store(entered_tsc, Relaxed);
    shared.header.ring0_ticks.store(ring0_ticks(), Relaxed);
    choose_level(shared.header, trap_header);
    let cpu = state::add_cpu(0, trap_header, trap::pending);
    cpu.area.entered_tsc.store(entered_tsc, Relaxed);
    FLAVOURS.iter().for_each(|rcu| rcu.idle_exit(cpu));
    // SAFETY: this is the boot CPU, once, still on the boot code's tables.
    let memory = unsafe { memory::build(cpu, shared, &loader) };
    let kernel = state::set_kernel(assemble(cpu, shared, memory));
    threads::start_on(kernel, cpu);
    open_interrupts(kernel, cpu);
    shared.header.cpus_up.store(1, Release);
    let up = smp::start(kernel, cpu, shared.header.cpus);
    shared.header.cpus_up.store(up, Release);
    (kernel, cpu)
}

/// An application processor's way into the kernel.
pub fn join(id: usize, trap_header: &'static CpuHeader) -> (&'static Kernel, &'static Cpu) {
    let entered_tsc = tsc();
    let kernel = state::kernel().expect("the boot CPU starts others once the kernel is whole");
    let cpu = state::add_cpu(id, trap_header, trap::pending);
    cpu.area.entered_tsc.store(entered_tsc, Relaxed);
    FLAVOURS.iter().for_each(|rcu| rcu.idle_exit(cpu));
    threads::start_on(kernel, cpu);
    open_interrupts(kernel, cpu);
    // Pairs with the acquire in `smp`: this CPU no longer needs the boot mailbox.
    kernel.shared.header.cpus_up.store(id as u32 + 1, Release);
    (kernel, cpu)
}

fn find_shared(loader: &LoaderInfo) -> Shared {
    if let Some(address) = loader.shared_region() {
        // SAFETY: our host reserves the region that it names for nothing else.
        return unsafe { Shared::from_host(address) };
    }
    let last = loader
        .ram()
        .max_by_key(|range| range.end)
        .expect("a memory map with RAM");
    let low = loader
        .ram()
        .filter(|range| range.end <= 4 << 30)
        .max_by_key(|range| range.end);
    let low = low.expect("RAM below 4 GiB");
    // SAFETY: mapped RAM above the image, which nobody uses yet.
    unsafe { Shared::standalone(low, (last.end / PAGE_SIZE) as u64) }
}

/// The boot code chose by how fast ring 0 is; the host may have demanded otherwise.
fn choose_level(header: &Header, trap_header: &CpuHeader) {
    let demanded = header.cpl;
    if demanded == Cpl::Zero as u32 && kernel_cpl() != Cpl::Zero {
        header.state.store(GuestState::RefusedCpl as u32, Release);
        fail::exit(EXIT_REFUSED);
    }
    if demanded == Cpl::Three as u32 && kernel_cpl() == Cpl::Zero {
        // SAFETY: boot runs at CPL 0 with interrupts off, on tables that are open to CPL 3.
        unsafe { enter_ring3(trap_header) };
    }
    header.cpl_in_force.store(kernel_cpl() as u32, Relaxed);
}

fn assemble(cpu: &Cpu, shared: &'static Shared, memory: Memory) -> Kernel {
    let (pages, table) = state::set_memory(memory.pages, memory.table);
    let frames = mover::is_wanted(shared).then(|| mover::set_up(cpu, shared, pages, table));
    let targets = targets::new(shared, pages, table, memory.large, frames, cpu);
    Kernel {
        shared,
        // SAFETY: the page tables that are loaded map it.
        apic: unsafe { Apic::new() },
        pages,
        table,
        workload: workloads::build(&Ground {
            cpu,
            pages,
            table,
            targets,
            free: pages.free_pages(cpu),
        }),
    }
}

fn open_interrupts(kernel: &Kernel, cpu: &Cpu) {
    ipi::join(cpu, kernel.table.root());
    kernel.apic.start(TICK_HZ);
    page_event::start(kernel, cpu);
    cpu.ops.irq_restore(cpu, true);
}
