//! The workload `walk`: its operations, and how often each comes.

use super::{
    audit::Audit,
    touch::Targets,
    tree::{BuildError, Tree},
    worker::Worker,
};
use crate::{Cpu, sync::Rcu};
use core::sync::atomic::Ordering::Relaxed;
use underfoot_abi::VcpuArea;

/// The workload, shared by all CPUs.
pub struct Walk {
    tree: Tree,
    targets: Targets,
}

impl Walk {
    /// Builds the tree, of about `objects` objects ([`Tree::objects_for`]), from the pages of
    /// `targets`.
    ///
    /// # Errors
    /// [`BuildError`].
    pub fn build(
        cpu: &Cpu,
        rcu: &'static Rcu,
        targets: Targets,
        objects: usize,
    ) -> Result<Self, BuildError> {
        Ok(Self {
            tree: Tree::build(cpu, targets.pages, rcu, objects)?,
            targets,
        })
    }

    /// One operation, the paced probe if its time has come, and this CPU's share of RCU's work. The
    /// CPU is in no read section and holds no lock before and after. Needs 32 KiB of stack, most of
    /// it to be touched.
    pub fn step(&self, cpu: &Cpu, worker: &mut Worker) {
        self.operation(cpu, worker);
        self.probe(cpu, worker);
        self.tree.rcu.quiescent(cpu);
        self.tree.rcu.process(cpu);
        let progress = &cpu.area.progress;
        progress.store(progress.load(Relaxed) + 1, Relaxed);
    }

    /// Verifies everything and writes the header's audit words. `areas` are those of all CPUs.
    ///
    /// # Safety
    /// No other CPU is at work in the tree, in the page allocator or in a read section, or will be
    /// until this returns.
    pub unsafe fn audit<'a>(&self, cpu: &Cpu, areas: impl Iterator<Item = &'a VcpuArea>) -> Audit {
        let updates: u64 = areas.map(|area| area.updates.load(Relaxed)).sum();
        let cpus = cpu.header.cpus;
        let paired: u64 = (0..cpus as usize)
            .map(|id| self.targets.updates_of(id, cpus))
            .fold(0, u64::wrapping_add);
        let errors_before = cpu.area.errors.load(Relaxed);
        // SAFETY: the caller's promise.
        let mut audit = unsafe { self.tree.audit(cpu, updates.wrapping_sub(paired)) };
        audit.updates = audit.updates.wrapping_add(paired);
        audit.checked += self.targets.pages.audit(cpu);
        audit.errors = cpu.area.errors.load(Relaxed) - errors_before;
        let header = cpu.header;
        header.audit_checked.store(audit.checked, Relaxed);
        header.audit_errors.store(audit.errors, Relaxed);
        header.audit_updates.store(audit.updates, Relaxed);
        audit
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
            let _section = self.tree.rcu.read_lock(cpu);
            if let Some(dentry) = self.tree.lookup(cpu, slot) {
                self.tree.inspect(cpu, dentry);
            }
        });
    }
}
