//! The lock-order checker: finds deadlocks that could happen, from orders that did.
//!
//! As Linux's (Documentation/locking/lockdep-design.rst): locks are told apart by class and nesting
//! level; whenever a lock is taken, an edge leads to its class from what its thread holds; an edge
//! that would close a cycle is reported before the lock is waited for, once, with the order in which
//! the known edges were first seen. A class that interrupts or bottom halves wait for must not be
//! held, nor lead to one that is held, where these may come. What is taken without waiting gets no
//! edge, but counts as held. Readers count like writers: behind a writer that waits, readers wait.
//!
//! What waits without being a lock is told by hand: [`enter`] for stretches (reclaim),
//! [`SeqCount`](super::SeqCount)'s classed forms for sequence counts.
//!
//! Off until [`enable`]; until then it costs a load and a branch for each lock that has a class,
//! and nothing for the others.

#[cfg(not(loom))]
mod checker;
mod class;
#[cfg(not(loom))]
mod finding;
#[cfg(any(not(loom), test))]
mod graph;
#[cfg(not(loom))]
mod held;
#[cfg(not(loom))]
mod usage;

pub use class::{Classed, LEVELS, LockClass, Unclassed};
#[cfg(not(loom))]
pub use held::HeldLocks;

use crate::Cpu;
use core::marker::PhantomData;

// A model checks the locks themselves; the checker's graph has a model of its own.
#[cfg(not(loom))]
static CHECKER: checker::Checker = checker::Checker::new();

crate::lock_class!(
    /// Reclaiming memory: entered by allocations that may wait for it, so that a lock which reclaim
    /// takes must not be held around one.
    pub Reclaim = "fs_reclaim"
);

/// Checks from now on.
pub fn enable() {
    #[cfg(not(loom))]
    CHECKER.enable();
}

/// Whether anything is checked.
#[must_use]
pub fn is_enabled() -> bool {
    #[cfg(not(loom))]
    return CHECKER.is_enabled();
    #[cfg(loom)]
    return false;
}

/// Calls `each` with the name of every class that was taken since, once for each nesting level.
pub fn classes(cpu: &Cpu, each: impl FnMut(&'static str)) {
    #[cfg(not(loom))]
    CHECKER.classes(cpu).for_each(each);
    #[cfg(loom)]
    let _ = (cpu, each);
}

/// The lock of class `C` at address `instance` is about to be waited for. `level` says how deep it
/// nests in others of its class: 0 to [`LEVELS`] - 1.
#[inline]
pub fn acquire<C: Classed>(cpu: &Cpu, instance: usize, level: usize) {
    note::<C>(cpu, instance, level, false);
}

/// The lock of class `C` at address `instance` was taken without waiting.
#[inline]
pub fn acquired<C: Classed>(cpu: &Cpu, instance: usize) {
    note::<C>(cpu, instance, 0, true);
}

#[inline]
fn note<C: Classed>(cpu: &Cpu, instance: usize, level: usize, tried: bool) {
    #[cfg(not(loom))]
    if let Some(class) = C::class()
        && CHECKER.is_enabled()
    {
        CHECKER.acquire(cpu, class, level, instance, tried);
    }
    #[cfg(loom)]
    let _ = (cpu, instance, level, tried);
}

/// The lock of class `C` at address `instance` is let go.
#[inline]
pub fn release<C: Classed>(cpu: &Cpu, instance: usize) {
    #[cfg(not(loom))]
    if C::class().is_some() && CHECKER.is_enabled() {
        CHECKER.release(cpu, instance);
    }
    #[cfg(loom)]
    let _ = (cpu, instance);
}

/// Enters a stretch that counts as a held lock of class `C`, without a lock behind it.
#[inline]
pub fn enter<C: Classed>(cpu: &Cpu) -> Section<'_, C> {
    acquire::<C>(cpu, stretch::<C>(), 0);
    Section {
        cpu,
        class: PhantomData,
    }
}

/// What stands for the address of a stretch of class `C`.
fn stretch<C: Classed>() -> usize {
    C::class().map_or(0, |class| core::ptr::from_ref(class).addr())
}

/// A stretch that counts as a held lock; it ends when this is dropped.
#[must_use]
pub struct Section<'a, C: Classed> {
    cpu: &'a Cpu,
    class: PhantomData<C>,
}

impl<C: Classed> Drop for Section<'_, C> {
    #[inline]
    fn drop(&mut self) {
        release::<C>(self.cpu, stretch::<C>());
    }
}

#[cfg(all(test, loom))]
mod loom_models;
#[cfg(all(test, not(loom)))]
mod tests;
