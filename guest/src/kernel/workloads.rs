//! The workload that the host asked for.

use super::grace::FLAVOURS;
use super::{fail, ipi, work};
use underfoot_abi::{MIX_PARTS, PageByte, PageKind, WorkloadId};
use underfoot_guest::Cpu;
use underfoot_guest::mm::{MapError, PageAllocator, PageTable};
use underfoot_guest::sync::lockdep;
use underfoot_guest::workload::{
    Chase, Churn, Dma, Exit, Fault, Idle, Lock, Mix, Mmap1, Order, Parameters, Pressure, Shootdown,
    Targets, Torture, Tree, Walk, Workload,
};

/// What workloads are built from.
pub struct Ground<'a> {
    pub cpu: &'a Cpu,
    pub pages: &'static PageAllocator,
    pub table: &'static PageTable,
    pub targets: Targets,
    /// Pages that are free before it is built.
    pub free: usize,
}

/// Builds it, from the pages that are free.
///
/// # Panics
/// If there is no such workload. Too little memory for it ends the guest, and is no panic.
pub fn build(ground: &Ground<'_>) -> &'static dyn Workload {
    let header = ground.cpu.header;
    let number = header.workload;
    let Some(workload) = WorkloadId::from_number(number) else {
        panic!("the host asks for workload {number}, which this guest does not have")
    };
    let mut told = workload.parameters().iter().zip(&header.parameters);
    if told.any(|(parameter, value)| parameter.name == "lockdep" && *value != 0) {
        lockdep::enable();
    }
    ground.build(workload, &header.parameters)
}

impl Ground<'_> {
    fn build(&self, workload: WorkloadId, told: &Parameters) -> &'static dyn Workload {
        let (cpu, pages, between) = (self.cpu, self.pages, work::between);
        let spaces = ipi::space_parts(pages, between);
        match workload {
            WorkloadId::Walk => {
                let objects = Tree::objects_for(pages.free_pages(cpu));
                let targets = self.targets.clone();
                let walk = Walk::build(cpu, &FLAVOURS, targets, objects, told, between);
                self.place(walk.ok())
            }
            WorkloadId::Lock => self.place(Lock::build(cpu, pages, told, between)),
            WorkloadId::Chase => self.place(Chase::build(cpu, pages, between)),
            WorkloadId::Idle => &Idle,
            WorkloadId::Dma => self.place(Dma::build(cpu, pages, told, between)),
            WorkloadId::Churn => self.place(Churn::build(cpu, pages, &FLAVOURS, told)),
            WorkloadId::Order => self.place(Order::build(cpu, pages)),
            WorkloadId::Torture => self.place(Torture::build(cpu, pages, &FLAVOURS, told)),
            WorkloadId::Mix => self.place(Some(self.mix(told))),
            WorkloadId::Shootdown => {
                let parts = ipi::shootdown_parts(self.table);
                let shootdown = match Shootdown::build(cpu, pages, parts, told) {
                    Err(MapError::OutOfPages { .. }) => None,
                    built => Some(built.unwrap_or_else(|error| panic!("{error}"))),
                };
                self.place(shootdown)
            }
            WorkloadId::Mmap1 => self.place(Mmap1::build(cpu, spaces, told)),
            WorkloadId::Exit => self.place(Exit::build(cpu, spaces, told)),
            WorkloadId::Fault => self.place(Fault::build(cpu, spaces, told)),
            WorkloadId::Pressure => self.place(Pressure::build(cpu, spaces, told)),
        }
    }

    /// The parts that are switched on, each as it is by default; but the tree's protection is what the
    /// mix was told.
    fn mix(&self, told: &Parameters) -> Mix {
        let mut parts = [None; MIX_PARTS.len()];
        for (index, part) in MIX_PARTS.into_iter().enumerate() {
            let mut defaults = part.defaults();
            if part == WorkloadId::Walk {
                defaults[Walk::PROTECT] = told[MIX_PARTS.len()];
            }
            if told[index] != 0 {
                parts[index] = Some(self.build(part, &defaults));
            }
        }
        Mix::new(parts)
    }

    fn place<T: Workload + 'static>(&self, workload: Option<T>) -> &'static dyn Workload {
        let byte = PageByte::new(PageKind::Data, false);
        let place = |workload| self.pages.place(self.cpu, byte, workload);
        let Some(placed) = workload.and_then(place) else {
            let left = self.pages.free_pages(self.cpu);
            fail::out_of_memory(format_args!(
                "the workload's data: of {} free pages {left} were left when it wanted more",
                self.free
            ))
        };
        placed
    }
}
