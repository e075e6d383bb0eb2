//! Lock classes: what locks of one kind have in common.

#[cfg(not(loom))]
use core::sync::atomic::{AtomicU8, Ordering::Relaxed};

/// Nesting levels of a class: locks of one class that are taken one within the other, in an order
/// that the caller knows (Linux's subclasses, `mutex_lock_nested`).
pub const LEVELS: usize = 4;

/// All locks of one kind: the order in which locks are taken is known by class, not by lock.
#[derive(Debug)]
pub struct LockClass {
    name: &'static str,
    /// By level: its number in the checker's table, from 1; 0 before it was first taken.
    #[cfg(not(loom))]
    numbers: [AtomicU8; LEVELS],
}

impl LockClass {
    /// A class that was never taken.
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        Self {
            name,
            #[cfg(not(loom))]
            numbers: [const { AtomicU8::new(0) }; LEVELS],
        }
    }

    /// Its name in reports.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Its number in the checker's table at `level`, if it has one.
    #[cfg(not(loom))]
    pub(super) fn number(&self, level: usize) -> Option<u8> {
        self.numbers[level].load(Relaxed).checked_sub(1)
    }

    /// Gives it a number.
    #[cfg(not(loom))]
    pub(super) fn set_number(&self, level: usize, number: u8) {
        self.numbers[level].store(number + 1, Relaxed);
    }
}

/// A lock's class as a type, so that it costs a lock no memory: locks in objects that any bit
/// pattern must fit cannot keep a reference. Made by [`lock_class`](crate::lock_class).
pub trait Classed: 'static {
    /// The class; `None`: such locks are not checked.
    fn class() -> Option<&'static LockClass>;
}

/// The class of locks that are not checked.
#[derive(Debug, Default)]
pub struct Unclassed;

impl Classed for Unclassed {
    #[inline(always)]
    fn class() -> Option<&'static LockClass> {
        None
    }
}

/// Defines a lock class: `lock_class!(pub MmapLock = "mmap_lock")`.
#[macro_export]
macro_rules! lock_class {
    ($(#[$meta:meta])* $vis:vis $name:ident = $text:literal) => {
        $(#[$meta])*
        #[derive(Debug, Default)]
        $vis struct $name;

        impl $crate::sync::lockdep::Classed for $name {
            #[inline]
            fn class() -> Option<&'static $crate::sync::lockdep::LockClass> {
                static CLASS: $crate::sync::lockdep::LockClass =
                    $crate::sync::lockdep::LockClass::new($text);
                Some(&CLASS)
            }
        }
    };
}
