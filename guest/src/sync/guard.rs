//! Spinlocks held with more than themselves: with interrupts masked, or bottom halves held back.

use crate::Cpu;
use core::ops::{Deref, DerefMut};

/// A lock, held with interrupts masked; dropped, it is free and they are as before.
#[must_use]
pub struct IrqGuard<'a, G> {
    /// `Some` until dropped: the lock must be free before interrupts open.
    guard: Option<G>,
    cpu: &'a Cpu,
    open: bool,
}

impl<'a, G> IrqGuard<'a, G> {
    /// Masks interrupts, then takes the lock with `lock`.
    #[inline]
    pub(super) fn new(cpu: &'a Cpu, lock: impl FnOnce() -> G) -> Self {
        // Threads change only once interrupts are open again, not where the lock becomes free.
        cpu.preempt_disable();
        let open = cpu.ops.irq_save(cpu);
        Self {
            guard: Some(lock()),
            cpu,
            open,
        }
    }
}

impl<G> Drop for IrqGuard<'_, G> {
    #[inline]
    fn drop(&mut self) {
        self.guard = None;
        self.cpu.ops.irq_restore(self.cpu, self.open);
        self.cpu.preempt_enable();
    }
}

/// A lock, held with bottom halves held back; dropped, it is free and they may run.
#[must_use]
pub struct BottomHalfGuard<'a, G> {
    /// `Some` until dropped: the lock must be free before bottom halves run.
    guard: Option<G>,
    cpu: &'a Cpu,
}

impl<'a, G> BottomHalfGuard<'a, G> {
    /// Holds bottom halves back, then takes the lock with `lock`.
    #[inline]
    pub(super) fn new(cpu: &'a Cpu, lock: impl FnOnce() -> G) -> Self {
        cpu.bottom_half_disable();
        Self {
            guard: Some(lock()),
            cpu,
        }
    }
}

impl<G> Drop for BottomHalfGuard<'_, G> {
    #[inline]
    fn drop(&mut self) {
        self.guard = None;
        self.cpu.bottom_half_enable();
    }
}

macro_rules! deref {
    ($guard:ident) => {
        impl<G: Deref> Deref for $guard<'_, G> {
            type Target = G::Target;
            #[inline]
            fn deref(&self) -> &G::Target {
                self.guard.as_deref().expect("held until dropped")
            }
        }

        impl<G: DerefMut> DerefMut for $guard<'_, G> {
            #[inline]
            fn deref_mut(&mut self) -> &mut G::Target {
                self.guard.as_deref_mut().expect("held until dropped")
            }
        }
    };
}
deref!(IrqGuard);
deref!(BottomHalfGuard);
