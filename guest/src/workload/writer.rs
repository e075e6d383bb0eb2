//! What writers do: update, rename, remove, create.

use super::{
    dentry::{Dentry, PAIR},
    protection::Locked,
    tree::Tree,
};
use crate::random::Random;
use crate::{
    Cpu,
    record::{self, access},
};
use core::sync::atomic::Ordering::Relaxed;
use underfoot_abi::Variant;

/// Turns that a busted form dawdles where the right one would be protected, so that its fault shows
/// soon.
const DAWDLE: usize = 200;

impl Tree {
    /// Adds one to both halves of the pair of the object in `slot`, and to this CPU's count.
    pub(super) fn update(&self, cpu: &Cpu, slot: usize) {
        let Some(dentry) = self.lookup_get(cpu, slot) else {
            return;
        };
        if self.is(Variant::NoLock) {
            self.update_unlocked(dentry);
            count_update(cpu);
        } else if let Some(locked) = self.lock(cpu, dentry) {
            access(cpu, dentry.address(), || self.update_pair(cpu, dentry));
            drop(locked);
            count_update(cpu);
        }
        dentry.put(cpu);
    }

    /// Moves the object in `slot` under another parent of the same level.
    pub(super) fn rename(&self, cpu: &Cpu, slot: usize, random: &mut Random) {
        let Some(dentry) = self.lookup_get(cpu, slot) else {
            return;
        };
        if let Some(parent) = self.parent_for(cpu, Self::level_of(slot), random) {
            let old = self.move_under(cpu, dentry, parent);
            old.put(cpu);
        }
        dentry.put(cpu);
    }

    /// Removes the object in `slot` if nobody uses it and it has no children.
    pub(super) fn remove_at(&self, cpu: &Cpu, slot: usize) {
        // The root stays.
        if slot == 0 {
            return;
        }
        if let Some(dentry) = self.lookup_get(cpu, slot) {
            if access(cpu, dentry.address(), || dentry.verify(cpu)) {
                self.remove(cpu, slot, dentry);
            } else {
                dentry.put(cpu);
            }
        }
    }

    /// Creates an object in `slot` if it is empty.
    pub(super) fn create_at(&self, cpu: &Cpu, slot: usize, random: &mut Random) {
        if access(cpu, core::ptr::from_ref(&self.slots[slot]).addr(), || {
            self.slots[slot].load(Relaxed) == 0
        }) {
            self.create(cpu, slot, random);
        }
    }

    /// The object's lock; `None` only in the busted form whose objects may be poison by now, so that
    /// their locks are never free.
    fn lock<'a>(&self, cpu: &'a Cpu, dentry: &'a Dentry) -> Option<Locked<'a>> {
        if self.is(Variant::NoGracePeriod) {
            return self.protection.try_lock(cpu, &dentry.lock);
        }
        Some(self.protection.lock(cpu, &dentry.lock))
    }

    fn update_pair(&self, cpu: &Cpu, dentry: &Dentry) {
        let a = dentry.pair[0].load(Relaxed).wrapping_add(1);
        self.write_section(cpu, dentry, |dawdle| {
            dentry.pair[0].store(a, Relaxed);
            dawdle();
            dentry.pair[1].store(a.wrapping_mul(PAIR), Relaxed);
        });
    }

    /// The busted form: a load and a store with nobody kept out between them.
    fn update_unlocked(&self, dentry: &Dentry) {
        let a = dentry.pair[0].load(Relaxed).wrapping_add(1);
        dawdle();
        dentry.pair[0].store(a, Relaxed);
        dentry.pair[1].store(a.wrapping_mul(PAIR), Relaxed);
    }

    /// Changes the parent of `dentry`; returns what is to be put: the old parent, or the new one if
    /// nothing was changed.
    fn move_under(
        &self,
        cpu: &Cpu,
        dentry: &'static Dentry,
        parent: &'static Dentry,
    ) -> &'static Dentry {
        let Some(_locked) = self.lock(cpu, dentry) else {
            return parent;
        };
        access(cpu, dentry.address(), || {
            // An object that is no longer sound (a busted form) has no parent to be put.
            let Some(old) = self.at(dentry.parent().address) else {
                return parent;
            };
            self.write_section(cpu, dentry, |dawdle| {
                dentry.set_parent(parent.address());
                dawdle();
                dentry.set_tag(parent.address());
            });
            old
        })
    }

    /// Runs `stores` as a write section of the object's sequence count, which the busted form
    /// forgets (and then dawdles where `stores` says so). A mutex lets its holder be preempted, whom
    /// readers would wait for in vain: not in here (Documentation/locking/seqlock.rst, "Sequence
    /// counters with associated locks").
    fn write_section(&self, cpu: &Cpu, dentry: &Dentry, stores: impl FnOnce(fn())) {
        if self.is(Variant::NoSeqcount) {
            stores(dawdle);
            return;
        }
        cpu.preempt_disable();
        dentry.seq.write_begin();
        stores(|| {});
        dentry.seq.write_end();
        cpu.preempt_enable();
    }
}

fn count_update(cpu: &Cpu) {
    record::updated(cpu);
}

/// Takes its time, in a busted form.
#[cold]
pub(super) fn dawdle() {
    for _ in 0..DAWDLE {
        core::hint::spin_loop();
    }
    #[cfg(test)]
    std::thread::yield_now();
}
