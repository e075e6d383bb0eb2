//! A pipe of objects that age by a stage with each grace period, as in rcutorture (Linux,
//! kernel/rcu/rcutorture.c, `rcu_torture_pipe_update`; Documentation/RCU/torture.rst).

use crate::random::mix;
use crate::{
    Cpu,
    mm::ZeroValid,
    record,
    sync::{RcuFlavour, RcuHead},
};
use core::{
    mem::offset_of,
    ptr::NonNull,
    sync::atomic::{
        AtomicU32, AtomicU64,
        Ordering::{AcqRel, Acquire, Relaxed, Release},
    },
};
use underfoot_abi::POISON_OBJECT;

/// Stages after its removal at which an object is free again (`RCU_TORTURE_PIPE_LEN`).
const STAGES: u32 = 10;
/// Objects of a pipe: enough for three writes in each stage.
const OBJECTS: usize = 3 * STAGES as usize + 2;
/// The age of an object at which no reader may hold it: its removal, and a whole grace period.
pub(super) const TOO_OLD: u32 = 2;

/// Who makes an object older. The discriminants are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
enum Owner {
    /// Nobody: it can be used.
    Free = 0,
    /// Nobody: readers find it.
    Current = 1,
    /// The writer, after each of its waits.
    Writer = 2,
    /// Its callback.
    Callback = 3,
}

/// What readers hold. Atomics only, so that the busted forms are fit to be run.
#[repr(C)]
pub(super) struct Object {
    owner: AtomicU32,
    /// 0 while it is current, 1 once it is removed, and one more with each grace period after that.
    age: AtomicU32,
    generation: AtomicU64,
    /// Agrees with `generation` while the object is in use.
    check: AtomicU64,
    head: RcuHead,
}

/// One writer's objects, of which readers find one. Only that writer replaces it.
pub(super) struct Pipe {
    current: AtomicU32,
    /// Writes so far.
    generation: AtomicU64,
    objects: [Object; OBJECTS],
}

// SAFETY: atomics and a head, for all of which zero is valid: all objects are free.
unsafe impl ZeroValid for Pipe {}

impl Object {
    /// What a reader sees at the start of its section.
    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Relaxed)
    }

    /// Its age, if it still is what it was at `generation` (whose check word must agree).
    pub(super) fn age_since(&self, generation: u64) -> Result<u32, u64> {
        let found = self.check.load(Relaxed);
        if found != mix(generation) || self.generation() != generation {
            return Err(found);
        }
        Ok(self.age.load(Relaxed))
    }

    pub(super) fn address(&self) -> usize {
        core::ptr::from_ref(self).addr()
    }

    fn is(&self, owner: Owner) -> bool {
        self.owner.load(Acquire) == owner as u32
    }

    fn give_to(&self, owner: Owner) {
        // Pairs with the acquire in `is`: who finds it free may write it.
        self.owner.store(owner as u32, Release);
    }

    /// A grace period is over: the next stage. Whether it was the last.
    fn grow_older(&self) -> bool {
        let age = self.age.load(Relaxed) + 1;
        self.age.store(age, Relaxed);
        let freed = age > STAGES;
        if freed {
            self.check.store(POISON_OBJECT, Relaxed);
            self.give_to(Owner::Free);
        }
        freed
    }
}

impl Pipe {
    /// Puts the first object in.
    pub(super) fn fill(&self) {
        self.publish(0);
    }

    /// The object that readers find now.
    pub(super) fn current(&self) -> &Object {
        // Acquire pairs with the release in `publish`: the object is whole.
        &self.objects[self.current.load(Acquire) as usize % OBJECTS]
    }

    /// Replaces the current object by a free one; the old one. `None` if none is free.
    pub(super) fn replace(&self) -> Option<&Object> {
        let free = self.objects.iter().position(|one| one.is(Owner::Free))?;
        let old = &self.objects[self.publish(free) as usize];
        old.age.store(1, Relaxed);
        Some(old)
    }

    fn publish(&self, index: usize) -> u32 {
        let object = &self.objects[index];
        let generation = self.generation.load(Relaxed) + 1;
        self.generation.store(generation, Relaxed);
        object.age.store(0, Relaxed);
        object.generation.store(generation, Relaxed);
        object.check.store(mix(generation), Relaxed);
        object.give_to(Owner::Current);
        // Release pairs with the acquire in `current`.
        self.current.swap(index as u32, AcqRel)
    }

    /// Leaves `old`, which [`Self::replace`] returned, to a callback in each of its stages.
    pub(super) fn call(cpu: &Cpu, rcu: &'static RcuFlavour<'static>, old: &'static Object) {
        old.give_to(Owner::Callback);
        queue(cpu, rcu, old);
    }

    /// Leaves `old` to [`Self::grow_older`].
    pub(super) fn keep(old: &Object) {
        old.give_to(Owner::Writer);
    }

    /// The writer has waited for a grace period: the next stage for all that it keeps.
    pub(super) fn grow_older(&self) {
        let kept = self.objects.iter().filter(|one| one.is(Owner::Writer));
        kept.for_each(|object| {
            object.grow_older();
        });
    }

    /// Writes so far, that of [`Self::fill`] not among them. Verifies every object; callbacks must
    /// have run.
    pub(super) fn audit(&self, cpu: &Cpu) -> u64 {
        for (index, object) in self.objects.iter().enumerate() {
            let current = index == self.current.load(Relaxed) as usize;
            let age = object.age_since(object.generation());
            let right = match object.owner.load(Relaxed) {
                owner if owner == Owner::Current as u32 => current && age == Ok(0),
                owner if owner == Owner::Writer as u32 => {
                    !current && age.is_ok_and(|age| (1..=STAGES).contains(&age))
                }
                owner => owner == Owner::Free as u32 && !current,
            };
            record::checked(cpu, 1);
            if !right {
                record::error(cpu, object.address(), object.check.load(Relaxed));
            }
        }
        self.generation.load(Relaxed) - 1
    }
}

/// Queues the callback of `object`.
fn queue(cpu: &Cpu, rcu: &'static RcuFlavour<'static>, object: &'static Object) {
    let (head, bytes) = (NonNull::from(&object.head), size_of::<Object>() as u32);
    // So that the callback gets from the head to the object.
    core::ptr::from_ref(object).expose_provenance();
    let value = core::ptr::from_ref(rcu).expose_provenance();
    // SAFETY: the object lives for ever and has one owner, its callback, so that it is in no list;
    // the value is the address of a flavour that lives for ever.
    unsafe { rcu.call(cpu, head, next_stage, value, bytes) };
}

/// A callback's grace period is over.
///
/// # Safety
/// `head` is that of an [`Object`] that lives for ever, whose address was exposed, and `rcu` the
/// exposed address of a flavour that lives for ever.
unsafe fn next_stage(cpu: &Cpu, head: NonNull<RcuHead>, rcu: usize) {
    let object = head.addr().get() - offset_of!(Object, head);
    // SAFETY: the caller's promise.
    let (object, rcu) = unsafe {
        (
            &*core::ptr::with_exposed_provenance::<Object>(object),
            &*core::ptr::with_exposed_provenance::<RcuFlavour<'static>>(rcu),
        )
    };
    if !object.grow_older() {
        queue(cpu, rcu, object);
    }
}
