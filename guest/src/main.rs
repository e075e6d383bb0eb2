//! The guest kernel: what the firmware enters, and what the loader loads.
#![no_std]
#![no_main]

mod kernel {
    pub mod boot;
    mod compiler_calls;
    pub mod console;
    pub mod fail;
    pub mod grace;
    pub mod ipi;
    pub mod memory;
    pub mod mover;
    pub mod once;
    pub mod page_event;
    pub mod shared;
    pub mod smp;
    pub mod start_info;
    pub mod state;
    pub mod targets;
    pub mod threads;
    pub mod trap;
    pub mod work;
    pub mod workloads;
}

use kernel::{boot, work};
use underfoot_firmware::CpuHeader;

/// The firmware's upcall: a CPU has reached the kernel's level, on its own stack.
#[unsafe(no_mangle)]
extern "C" fn kernel_entry(id: u32, trap_header: &'static CpuHeader, start_info: usize) -> ! {
    let (kernel, cpu) = match id {
        0 => boot::boot(trap_header, start_info),
        _ => boot::join(id as usize, trap_header),
    };
    work::run(kernel, cpu)
}
