//! A lock for readers or a writer that has a class. It guards no data of its own, so that a panic spoils none.

use std::sync::{PoisonError, TryLockError};

use super::{Class, Held, hold, keep};
use crate::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

pub(crate) struct OrderedRw {
    class: Class,
    inner: RwLock<()>,
}

/// Nobody writes until this is dropped.
pub(crate) struct OrderedReadGuard<'a> {
    // Let go first, and forgotten then.
    _inner: RwLockReadGuard<'a, ()>,
    _held: Held,
}

/// Nobody else is in it until this is dropped.
pub(crate) struct OrderedWriteGuard<'a> {
    // Let go first, and forgotten then.
    _inner: RwLockWriteGuard<'a, ()>,
    _held: Held,
}

impl OrderedRw {
    pub(crate) fn new(class: Class) -> Self {
        let inner = RwLock::new(());
        Self { class, inner }
    }

    /// Takes it for reading.
    ///
    /// # Panics
    /// If that closes a cycle of classes ([`hold`]).
    #[track_caller]
    pub(crate) fn read(&self) -> OrderedReadGuard<'_> {
        let held = hold(self.class);
        OrderedReadGuard {
            _inner: self.inner.read().unwrap_or_else(PoisonError::into_inner),
            _held: held,
        }
    }

    /// Takes it for reading unless somebody writes.
    pub(crate) fn try_read(&self) -> Option<OrderedReadGuard<'_>> {
        let inner = match self.inner.try_read() {
            Ok(inner) => inner,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        Some(OrderedReadGuard {
            _inner: inner,
            _held: keep(self.class),
        })
    }

    /// Takes it for writing.
    ///
    /// # Panics
    /// If that closes a cycle of classes ([`hold`]).
    #[track_caller]
    pub(crate) fn write(&self) -> OrderedWriteGuard<'_> {
        let held = hold(self.class);
        OrderedWriteGuard {
            _inner: self.inner.write().unwrap_or_else(PoisonError::into_inner),
            _held: held,
        }
    }
}
