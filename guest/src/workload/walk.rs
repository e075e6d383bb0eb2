//! The workload `walk`: its operations, and how often each comes.

use super::{
    audit::Audit,
    plan::{Parameters, Workload, is_over},
    protection::{Form, Protection},
    touch::Targets,
    tree::{BuildError, Tree},
    worker::Worker,
};
use crate::{Cpu, record, sync::RcuFlavour};
use core::sync::atomic::Ordering::Relaxed;

/// Parameters, in the order of the contract.
const THREADS: usize = 1;

/// The workload, shared by all CPUs.
pub struct Walk {
    tree: Tree,
    targets: Targets,
    threads_each: usize,
    /// What the kernel does after each operation; it is told how many this thread has done.
    between: fn(&Cpu, u64),
}

impl Walk {
    /// The parameter that says how the tree is protected.
    pub const PROTECT: usize = 0;

    /// Builds the tree as `parameters` say, of about `objects` objects ([`Tree::objects_for`]), from the pages of
    /// `targets`. `flavours` are the kernel's machines, by [`RcuKind`](crate::sync::RcuKind).
    ///
    /// # Errors
    /// [`BuildError`].
    pub fn build(
        cpu: &Cpu,
        flavours: &[RcuFlavour<'static>; 3],
        targets: Targets,
        objects: usize,
        parameters: &Parameters,
        between: fn(&Cpu, u64),
    ) -> Result<Self, BuildError> {
        let protection = Protection::new(Form::from_number(parameters[Self::PROTECT]), flavours);
        Ok(Self {
            tree: Tree::build(cpu, targets.pages, protection, objects)?,
            targets,
            threads_each: (parameters[THREADS] as usize).max(1),
            between,
        })
    }

    /// One operation, the paced probe if its time has come, and this CPU's share of RCU's work. The
    /// CPU is in no read section and holds no lock before and after. Needs 32 KiB of stack, most of
    /// it to be touched.
    pub fn step(&self, cpu: &Cpu, worker: &mut Worker) {
        self.operation(cpu, worker);
        self.probe(cpu, worker);
        let rcu = self.tree.protection.rcu;
        rcu.quiescent(cpu);
        rcu.process(cpu);
        record::operation(cpu);
    }

    fn operation(&self, cpu: &Cpu, worker: &mut Worker) {
        let tree = &self.tree;
        let slot = tree.pick(&mut worker.random);
        match worker.random.below(100) {
            0..20 => tree.climb(cpu, slot),
            20..34 => tree.climb_rcu(cpu, slot),
            34..42 => tree.update(cpu, slot),
            42..48 => tree.rename(cpu, slot, &mut worker.random),
            48..52 => tree.remove_at(cpu, slot),
            52..56 => tree.create_at(cpu, slot, &mut worker.random),
            _ => self.targets.touch(cpu, worker),
        }
    }

    /// The probe's access: one object's check words.
    fn probe(&self, cpu: &Cpu, worker: &mut Worker) {
        let slot = self.tree.pick(&mut worker.random);
        worker.probe.run(cpu, || {
            let _section = self.tree.protection.rcu.read_lock(cpu);
            if let Some(dentry) = self.tree.lookup(cpu, slot) {
                self.tree.inspect(cpu, dentry);
            }
        });
    }
}

/// As many threads on each CPU as the host asked for.
impl Workload for Walk {
    fn threads(&self, cpus: usize) -> usize {
        self.threads_each * cpus
    }

    fn run(&self, cpu: &'static Cpu, number: usize) {
        let threads = self.threads(cpu.header.cpus as usize);
        let free_pages = self.targets.pages.free_pages(cpu);
        let mut worker = Worker::new(cpu, number, free_pages / threads);
        let mut operations = 0;
        while !is_over(cpu) {
            self.step(cpu, &mut worker);
            operations += 1;
            (self.between)(cpu, operations);
        }
    }

    unsafe fn audit(&self, cpu: &Cpu) -> Audit {
        let cpus = cpu.header.cpus;
        let paired: u64 = (0..cpus as usize)
            .map(|id| self.targets.updates_of(id, cpus))
            .fold(0, u64::wrapping_add);
        let errors_before = cpu.area.errors.load(Relaxed);
        // SAFETY: the caller's promise.
        let mut audit = unsafe { self.tree.audit(cpu) };
        audit.updates = audit.updates.wrapping_add(paired);
        audit.checked += self.targets.pages.audit(cpu);
        audit.errors = cpu.area.errors.load(Relaxed) - errors_before;
        audit
    }
}
