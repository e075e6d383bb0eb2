//! A mutex that has a class.

use std::ops::{Deref, DerefMut};
use std::sync::PoisonError;

use super::{Class, Held, hold};
use crate::sync::{Mutex, MutexGuard};

/// A mutex around what is whole whatever panicked while it was locked.
pub(crate) struct Ordered<T> {
    class: Class,
    inner: Mutex<T>,
}

/// It is locked until this is dropped.
pub(crate) struct OrderedGuard<'a, T> {
    // Let go first, and forgotten then.
    inner: MutexGuard<'a, T>,
    _held: Held,
}

impl<T> Ordered<T> {
    pub(crate) fn new(class: Class, value: T) -> Self {
        Self {
            class,
            inner: Mutex::new(value),
        }
    }

    /// Locks it.
    ///
    /// # Panics
    /// If that closes a cycle of classes ([`hold`]).
    #[track_caller]
    pub(crate) fn lock(&self) -> OrderedGuard<'_, T> {
        let held = hold(self.class);
        OrderedGuard {
            inner: self.inner.lock().unwrap_or_else(PoisonError::into_inner),
            _held: held,
        }
    }
}

impl<T> Deref for OrderedGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<T> DerefMut for OrderedGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.inner
    }
}
