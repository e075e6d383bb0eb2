//! What readers do: climb from an object to the root, and verify all that they meet.

use super::{
    dentry::{Dentry, PAIR, ParentLink},
    tree::Tree,
    writer::dawdle,
};
use crate::random::Random;
use crate::{Cpu, record::access};
use core::sync::atomic::Ordering::Relaxed;
use underfoot_abi::Variant;

/// Rechecks before a reader gives up its fast path.
const RETRIES: usize = 64;

impl Tree {
    /// Climbs from the object in `slot` to the root as `dget_parent()` does (fs/dcache.c), holding a
    /// reference to one object at a time, outside of read sections in between.
    pub(super) fn climb(&self, cpu: &Cpu, slot: usize) {
        let Some(mut dentry) = self.lookup_get(cpu, slot) else {
            return;
        };
        loop {
            let sound = self.inspect(cpu, dentry);
            let parent = if sound && dentry.level() > 0 {
                self.get_parent(cpu, dentry)
            } else {
                None
            };
            dentry.put(cpu);
            let Some(parent) = parent else { return };
            dentry = parent;
        }
    }

    /// Climbs in one read section, without references (as a path walk in RCU mode does).
    pub(super) fn climb_rcu(&self, cpu: &Cpu, slot: usize) {
        let _section = self.protection.rcu.read_lock(cpu);
        let mut here = self.lookup(cpu, slot);
        while let Some(dentry) = here {
            if self.is(Variant::NoGracePeriod) {
                dawdle();
            }
            if !self.inspect(cpu, dentry) || dentry.level() == 0 {
                return;
            }
            here = match self.read_parent(cpu, dentry) {
                Some(link) => self.follow(cpu, dentry, link),
                None => return,
            };
        }
    }

    /// Verifies the object's check words and its pair; whether they are right.
    pub(super) fn inspect(&self, cpu: &Cpu, dentry: &Dentry) -> bool {
        access(cpu, dentry.address(), || {
            self.cache.verify(cpu, dentry.address())
                && dentry.verify(cpu)
                && self.check_pair(cpu, dentry)
        })
    }

    /// The parent of `dentry`, which the caller holds, with a reference.
    fn get_parent(&self, cpu: &Cpu, dentry: &'static Dentry) -> Option<&'static Dentry> {
        for _ in 0..RETRIES {
            let section = self.protection.rcu.read_lock(cpu);
            let (seq, link) = access(cpu, dentry.address(), || {
                (dentry.seq.read_begin_raw(), dentry.parent())
            });
            let held = self.at(link.address).filter(|parent| parent.get(cpu));
            drop(section);
            let Some(parent) = held else { continue };
            // A reference to what was the parent is not enough: it must still be.
            if !dentry.seq.read_retry(seq) {
                return self.whole(cpu, dentry, link).then_some(parent).or_else(|| {
                    parent.put(cpu);
                    None
                });
            }
            parent.put(cpu);
        }
        self.get_parent_locked(cpu, dentry)
    }

    /// The slow path: a rename cannot get past the object's lock. (Linux locks the parent and
    /// rechecks, as its renames take both locks; ours take the object's.)
    #[cold]
    fn get_parent_locked(&self, cpu: &Cpu, dentry: &'static Dentry) -> Option<&'static Dentry> {
        // Without grace periods the object may be poison by now, and its lock never be free.
        if self.is(Variant::NoGracePeriod) {
            return None;
        }
        let _locked = self.protection.lock(cpu, &dentry.lock);
        let link = dentry.parent();
        if !self.whole(cpu, dentry, link) {
            return None;
        }
        self.at(link.address).filter(|parent| parent.get(cpu))
    }

    /// The parent link of `dentry`, read whole.
    fn read_parent(&self, cpu: &Cpu, dentry: &Dentry) -> Option<ParentLink> {
        for _ in 0..RETRIES {
            let (link, retry) = access(cpu, dentry.address(), || {
                let seq = dentry.seq.read_begin_raw();
                let link = dentry.parent();
                (link, dentry.seq.read_retry(seq))
            });
            if !retry {
                return self.whole(cpu, dentry, link).then_some(link);
            }
            // Without grace periods the object may be poison by now, and its lock never be free.
            if !self.is(Variant::NoGracePeriod) {
                self.protection.wait_for_writer(cpu, &dentry.lock);
            }
        }
        None
    }

    fn follow(&self, cpu: &Cpu, dentry: &Dentry, link: ParentLink) -> Option<&'static Dentry> {
        let parent = self.at(link.address);
        if parent.is_none() {
            dentry.bad_parent(cpu, link);
        }
        parent
    }

    fn whole(&self, cpu: &Cpu, dentry: &Dentry, link: ParentLink) -> bool {
        let whole = link.is_whole();
        if !whole {
            dentry.bad_parent(cpu, link);
        }
        whole
    }

    fn check_pair(&self, cpu: &Cpu, dentry: &Dentry) -> bool {
        for _ in 0..RETRIES {
            let seq = dentry.seq.read_begin_raw();
            let [a, b] = [0, 1].map(|half| dentry.pair[half].load(Relaxed));
            if dentry.seq.read_retry(seq) {
                continue;
            }
            if b == a.wrapping_mul(PAIR) {
                return true;
            }
            dentry.bad_pair(cpu, b);
            return false;
        }
        // A writer was there each time: nothing is known to be wrong.
        true
    }

    /// Some slot; every eighth time one of the few that all CPUs like.
    pub(super) fn pick(&self, random: &mut Random) -> usize {
        let slots = self.slots.len();
        if random.below(8) == 0 {
            slots - 1 - random.below(16)
        } else {
            random.below(slots)
        }
    }
}
