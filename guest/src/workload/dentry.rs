//! One object of the tree.

use super::protection::ObjectLock;
use crate::random::mix;
use crate::{
    Cpu, record,
    sync::{RcuHead, SeqCount},
};
use core::sync::atomic::{
    AtomicU32, AtomicU64, AtomicUsize,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};

/// Both counters of a pair move by this, the second in its own unit: `b == a * PAIR` always.
pub(super) const PAIR: u64 = 0x9e37_79b9_7f4a_7c15;

const IDENTITY: u64 = 0xde_117e_1d00_0000;

/// A dentry-like object in a slab of its own size: check words at both ends (the slab's) and in the
/// middle, a parent, a sequence count for it, a lock, a reference count, and a pair of counters.
///
/// Atomics only, so that any bit pattern is a valid value: a reader that is late finds poison or a
/// successor, and memory stays safe. That is what makes the busted forms fit to be run.
#[repr(C)]
pub struct Dentry {
    slab_head: AtomicU64,
    /// [`IDENTITY`] mixed with the slot and the level: a check word.
    identity: AtomicU64,
    slot: AtomicU32,
    level: AtomicU32,
    /// Holders, children among them, plus one while it is in the tree; 0 once it is dead.
    pub(super) refs: AtomicU32,
    /// Covers `parent` and `parent_tag`, and the pair.
    pub(super) seq: SeqCount,
    pub(super) lock: ObjectLock,
    parent: AtomicUsize,
    /// Agrees with `parent`, as an inode number agrees with an inode.
    parent_tag: AtomicU64,
    pub(super) pair: [AtomicU64; 2],
    pub(super) rcu: RcuHead,
    /// Children counted by the audit.
    pub(super) children: AtomicU32,
    padding: AtomicU32,
    name: [AtomicU64; 11],
    slab_tail: AtomicU64,
}

const _: () = assert!(size_of::<Dentry>() == 256);

/// What a reader found of an object's parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ParentLink {
    pub(super) address: usize,
    pub(super) tag: u64,
}

impl ParentLink {
    pub(super) const fn to(address: usize) -> Self {
        Self {
            address,
            tag: mix(address as u64),
        }
    }

    /// Whether both halves are of one rename.
    pub(super) const fn is_whole(self) -> bool {
        self.tag == mix(self.address as u64)
    }
}

impl Dentry {
    /// Its address, which is its identity while it lives.
    pub(super) fn address(&self) -> usize {
        core::ptr::from_ref(self).addr()
    }

    /// Makes it a new object, held by nobody but the tree. Nobody else may know it yet; the slab
    /// has set its own words.
    pub(super) fn init(&self, cpu: &Cpu, slot: usize, level: u32, parent: usize) {
        self.slot.store(slot as u32, Relaxed);
        self.level.store(level, Relaxed);
        self.identity.store(identity(slot, level), Relaxed);
        self.seq.reset();
        self.lock.reset(cpu);
        self.set_parent(parent);
        self.set_tag(parent);
        for counter in &self.pair {
            counter.store(0, Relaxed);
        }
        self.children.store(0, Relaxed);
        self.padding.store(0, Relaxed);
        for (index, word) in self.name.iter().enumerate() {
            word.store(Self::name_word(index, slot), Relaxed);
        }
        // Pairs with the acquire in `get`: a holder sees a whole object.
        self.refs.store(1, Release);
    }

    pub(super) fn level(&self) -> u32 {
        self.level.load(Relaxed)
    }

    pub(super) fn slot(&self) -> usize {
        self.slot.load(Relaxed) as usize
    }

    pub(super) fn parent(&self) -> ParentLink {
        ParentLink {
            address: self.parent.load(Relaxed),
            tag: self.parent_tag.load(Relaxed),
        }
    }

    /// The first half of a rename; [`Self::set_tag`] is the other.
    pub(super) fn set_parent(&self, parent: usize) {
        self.parent.store(parent, Relaxed);
    }

    pub(super) fn set_tag(&self, parent: usize) {
        self.parent_tag.store(ParentLink::to(parent).tag, Relaxed);
    }

    /// Takes a reference unless the object is dead (`lockref_get_not_dead`).
    #[must_use]
    pub(super) fn get(&self, cpu: &Cpu) -> bool {
        record::access(cpu, self.address(), || {
            self.refs
                .fetch_update(Acquire, Relaxed, |refs| {
                    (refs != 0).then_some(refs.wrapping_add(1))
                })
                .is_ok()
        })
    }

    /// Gives a reference back. It is never the last: the tree's own goes in [`Self::kill`].
    pub(super) fn put(&self, cpu: &Cpu) {
        // Release: pairs with the acquire in `kill`, which then sees what holders did.
        record::access(cpu, self.address(), || self.refs.fetch_sub(1, Release));
    }

    /// Makes the object dead if the caller's reference and the tree's are the only ones; whether it
    /// did.
    #[must_use]
    pub(super) fn kill(&self) -> bool {
        self.refs.compare_exchange(2, 0, AcqRel, Relaxed).is_ok()
    }

    /// Verifies the words that never change while the object lives: whether they are right. The
    /// first wrong one is an integrity error.
    #[inline]
    pub(super) fn verify(&self, cpu: &Cpu) -> bool {
        let right = identity(self.slot(), self.level());
        let middle = self.slot() % self.name.len();
        let words = [
            (&self.identity, right),
            (&self.name[middle], Self::name_word(middle, self.slot())),
        ];
        record::checked(cpu, words.len() as u64);
        for (word, right) in words {
            let found = word.load(Relaxed);
            if found != right {
                record::error(cpu, core::ptr::from_ref(word).addr(), found);
                return false;
            }
        }
        true
    }

    /// Verifies the whole name as well: for the audit, which has time.
    pub(super) fn verify_name(&self, cpu: &Cpu) -> u64 {
        let slot = self.slot();
        record::checked(cpu, self.name.len() as u64);
        for (index, word) in self.name.iter().enumerate() {
            let found = word.load(Relaxed);
            if found != Self::name_word(index, slot) {
                record::error(cpu, core::ptr::from_ref(word).addr(), found);
            }
        }
        self.name.len() as u64
    }

    /// Reports the pair as disagreeing.
    #[cold]
    pub(super) fn bad_pair(&self, cpu: &Cpu, found: u64) {
        record::error(cpu, core::ptr::from_ref(&self.pair[1]).addr(), found);
    }

    /// Reports the halves of the parent link as disagreeing.
    #[cold]
    pub(super) fn bad_parent(&self, cpu: &Cpu, found: ParentLink) {
        let word = core::ptr::from_ref(&self.parent).addr();
        record::error(cpu, word, found.address as u64);
    }

    const fn name_word(index: usize, slot: usize) -> u64 {
        mix((slot as u64) << 8 | index as u64)
    }
}

const fn identity(slot: usize, level: u32) -> u64 {
    IDENTITY ^ mix((slot as u64) << 32 | level as u64)
}
