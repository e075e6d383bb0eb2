//! Inter-processor interrupts: TLB shootdown, and waking halted CPUs.

use super::{grace::RCU, once::Once, state};
use underfoot_guest::Cpu;
use underfoot_guest::arch::Kvm;
use underfoot_guest::mm::{PageAllocator, PageTable};
use underfoot_guest::tlb::{Batch, HostWords, Shot, Space, Tlb, Way};
use underfoot_guest::workload::{ShootdownParts, SpaceParts};

/// There from the start.
pub static TLB: Tlb = Tlb::new();

/// The space of the workload's test pages.
static SPACE: Once<Space> = Once::new();

/// Lets this CPU shoot and be shot at, and KVM say when the CPU does not run.
pub fn join(cpu: &Cpu, root: usize) {
    let kvm = Kvm::detect(cpu.ops);
    kvm.record_steal_time(cpu);
    kvm.allow_send_ipi();
    TLB.join(cpu, root);
}

/// As [`Tlb::shoot_with`], with the words of the vCPUs' hosts.
pub fn shoot(cpu: &Cpu, space: &Space, batch: &Batch, way: Way) -> Shot {
    TLB.shoot_with(cpu, space, batch, way, host_words)
}

fn host_words(id: usize) -> Option<HostWords<'static>> {
    let area = &state::shared().areas[id];
    Some(HostWords {
        held: &area.held,
        preempted: &area.steal_time.preempted,
    })
}

/// What workloads over address spaces need.
pub fn space_parts(pages: &'static PageAllocator, between: fn(&Cpu, u64)) -> SpaceParts {
    SpaceParts {
        pages,
        rcu: &RCU,
        tlb: &TLB,
        words: host_words,
        between,
    }
}

/// What the workload `shootdown` needs. Once.
pub fn shootdown_parts(table: &'static PageTable) -> ShootdownParts {
    ShootdownParts {
        table,
        tlb: &TLB,
        // SAFETY: the kernel's own table, and a static.
        space: SPACE.set(unsafe { Space::new(table.root()) }),
        words: host_words,
        hardware: true,
    }
}
