//! The workload that the host asked for.

use super::grace::{FLAVOURS, RCU};
use super::{ipi, work};
use underfoot_abi::{PageByte, PageKind, WorkloadId};
use underfoot_guest::Cpu;
use underfoot_guest::mm::{PageAllocator, PageTable};
use underfoot_guest::workload::{
    Chase, Churn, Exit, Fault, Idle, Lock, Mmap1, Order, Shootdown, Targets, Torture, Tree, Walk,
    Workload,
};

/// Builds it, from the pages that are free.
///
/// # Panics
/// If there is no such workload, or not enough memory for it.
pub fn build(
    cpu: &Cpu,
    pages: &'static PageAllocator,
    table: &'static PageTable,
    targets: Targets,
) -> &'static dyn Workload {
    let number = cpu.header.workload;
    let Some(workload) = WorkloadId::from_number(number) else {
        panic!("the host asks for workload {number}, which this guest does not have")
    };
    match workload {
        WorkloadId::Walk => {
            let objects = Tree::objects_for(pages.free_pages(cpu));
            let walk = Walk::build(cpu, &FLAVOURS, targets, objects, work::between);
            place(cpu, pages, walk.expect("memory for the tree"))
        }
        WorkloadId::Lock => place(cpu, pages, enough(Lock::build(cpu, pages, work::between))),
        WorkloadId::Chase => place(cpu, pages, enough(Chase::build(cpu, pages, work::between))),
        WorkloadId::Idle => &Idle,
        WorkloadId::Churn => place(cpu, pages, Churn::new(cpu, pages, &FLAVOURS)),
        WorkloadId::Order => place(cpu, pages, enough(Order::build(cpu, pages))),
        WorkloadId::Torture => place(cpu, pages, enough(Torture::build(cpu, pages, &FLAVOURS))),
        WorkloadId::Shootdown => {
            let shootdown = Shootdown::build(cpu, pages, ipi::shootdown_parts(table));
            let shootdown = shootdown.unwrap_or_else(|error| panic!("{error}"));
            place(cpu, pages, shootdown)
        }
        WorkloadId::Mmap1 => {
            let mmap1 = Mmap1::build(cpu, pages, &RCU, work::between);
            place(cpu, pages, enough(mmap1))
        }
        WorkloadId::Exit => {
            let exit = Exit::build(cpu, pages, &RCU, work::between);
            place(cpu, pages, enough(exit))
        }
        WorkloadId::Fault => {
            let fault = Fault::build(cpu, pages, &RCU, work::between);
            place(cpu, pages, enough(fault))
        }
    }
}

fn enough<T>(workload: Option<T>) -> T {
    workload.expect("memory for the workload")
}

fn place<T: Workload>(cpu: &Cpu, pages: &'static PageAllocator, value: T) -> &'static T {
    let byte = PageByte::new(PageKind::Data, false);
    pages
        .place(cpu, byte, value)
        .expect("memory for the workload")
}
