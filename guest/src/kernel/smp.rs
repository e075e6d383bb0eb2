//! Starting the application processors, one at a time (Intel SDM 3A, ch. 10.4).

use super::state::Kernel;
use core::ptr::with_exposed_provenance_mut;
use core::sync::atomic::Ordering;
use underfoot_firmware::{AP_TRAMPOLINE, set_next_ap, trampoline};
use underfoot_guest::Cpu;
use underfoot_guest::arch::tsc;

/// A stack is 2^3 pages, as large as the boot CPU's.
const STACK_ORDER: usize = 3;
const STACK_SIZE: usize = 4096 << STACK_ORDER;
/// A CPU that does not answer within this time is not there. A host that promised it has it.
const PATIENCE_MS: u64 = 1000;
const PATIENCE_PROMISED_MS: u64 = 10_000;

/// Starts CPUs 1 to `wanted`; returns how many run, this one included.
pub fn start(kernel: &'static Kernel, cpu: &Cpu, wanted: u32) -> u32 {
    let code = trampoline();
    // SAFETY: the page is kept out of the allocator, and no CPU runs in it now.
    unsafe {
        with_exposed_provenance_mut::<u8>(AP_TRAMPOLINE)
            .copy_from_nonoverlapping(code.as_ptr(), code.len());
    }
    let header = kernel.shared.header;
    for id in 1..wanted {
        let stack = kernel.allocate_stack(cpu, STACK_ORDER);
        set_next_ap(id, stack + STACK_SIZE, kernel.table.root());
        kernel.apic.init(id as usize);
        kernel.apic.startup(id as usize, AP_TRAMPOLINE);
        if !wait_until_up(kernel, id + 1) {
            assert!(
                kernel.shared.standalone,
                "CPU {id} of {wanted} did not start"
            );
            break;
        }
    }
    header.cpus_up.load(Ordering::Acquire)
}

fn wait_until_up(kernel: &Kernel, count: u32) -> bool {
    let header = kernel.shared.header;
    let patience = if kernel.shared.standalone {
        PATIENCE_MS
    } else {
        PATIENCE_PROMISED_MS
    };
    let deadline = tsc() + patience * u64::from(header.tsc_khz);
    // Pairs with the release in the new CPU's entry: it no longer uses the boot mailbox.
    while header.cpus_up.load(Ordering::Acquire) < count {
        if tsc() > deadline {
            return false;
        }
        core::hint::spin_loop();
    }
    true
}
