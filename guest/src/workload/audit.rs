//! The audit: after the run, one CPU verifies everything.

use super::{
    dentry::{Dentry, PAIR},
    tree::Tree,
};
use crate::{Cpu, record};
use core::sync::atomic::Ordering::Relaxed;

/// What an audit found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Audit {
    /// Check words verified.
    pub checked: u64,
    /// Those found wrong.
    pub errors: u64,
    /// Updates found in what the threads left: as many as they counted, if none was lost.
    pub updates: u64,
}

impl Tree {
    /// Verifies every object.
    ///
    /// # Safety
    /// No other CPU is at work in the tree, or in a read section, until this returns.
    pub(super) unsafe fn audit(&self, cpu: &Cpu) -> Audit {
        let errors_before = cpu.area.errors.load(Relaxed);
        // SAFETY: the caller's promise.
        unsafe { self.protection.rcu.drain(cpu) };
        let mut audit = Audit {
            updates: self.carried.load(Relaxed),
            ..Audit::default()
        };
        self.count_children(cpu);
        let mut live = 0;
        for slot in 0..self.slots.len() {
            let Some(dentry) = self.lookup(cpu, slot) else {
                continue;
            };
            live += 1;
            audit.updates = audit.updates.wrapping_add(dentry.pair[0].load(Relaxed));
            audit.checked += self.audit_object(cpu, dentry, slot);
        }
        let slab = self.cache.audit(cpu);
        audit.checked += slab.checked;
        agree(cpu, self.slots.as_ptr().addr(), live, slab.live);
        audit.errors = cpu.area.errors.load(Relaxed) - errors_before;
        audit
    }

    fn count_children(&self, cpu: &Cpu) {
        let objects = || (0..self.slots.len()).filter_map(|slot| self.lookup(cpu, slot));
        objects().for_each(|dentry| dentry.children.store(0, Relaxed));
        for dentry in objects().filter(|dentry| dentry.level() > 0) {
            match self.at(dentry.parent().address) {
                Some(parent) => {
                    parent.children.fetch_add(1, Relaxed);
                }
                None => dentry.bad_parent(cpu, dentry.parent()),
            }
        }
    }

    /// Verifies one object; the check words verified.
    fn audit_object(&self, cpu: &Cpu, dentry: &Dentry, slot: usize) -> u64 {
        dentry.verify(cpu);
        let names = dentry.verify_name(cpu);
        let [a, b] = [0, 1].map(|half| dentry.pair[half].load(Relaxed));
        if b != a.wrapping_mul(PAIR) {
            dentry.bad_pair(cpu, b);
        }
        let link = dentry.parent();
        let parent_level = self.at(link.address).map_or(0, |parent| parent.level() + 1);
        if !link.is_whole() || dentry.level() != parent_level {
            dentry.bad_parent(cpu, link);
        }
        // Each child holds its parent, and the tree holds the object: a reference more is lost.
        let refs = u64::from(dentry.refs.load(Relaxed));
        let holders = u64::from(dentry.children.load(Relaxed)) + 1;
        agree(cpu, core::ptr::from_ref(&dentry.refs).addr(), refs, holders);
        agree(cpu, dentry.address(), dentry.slot() as u64, slot as u64);
        names + 8
    }
}

/// An integrity error at `address` if `found` is not what is `right`.
#[track_caller]
fn agree(cpu: &Cpu, address: usize, found: u64, right: u64) {
    record::checked(cpu, 1);
    if found != right {
        record::error(cpu, address, found);
    }
}
