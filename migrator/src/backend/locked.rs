//! The calls of a window that take the address-space lock for writing.

use crate::clock::{self, Tsc};

/// When each began and when it was over. Those of one window; as many as there is room for.
pub(super) struct LockedCalls(Vec<(Tsc, Tsc)>);

impl LockedCalls {
    /// With room for `calls`.
    pub(super) fn new(calls: usize) -> Self {
        Self(Vec::with_capacity(calls))
    }

    /// Forgets those of the last window.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// One that began at `began` is over. Allocates nothing: those for which there is no room are left out.
    pub(super) fn note(&mut self, began: Tsc) {
        if self.0.len() < self.0.capacity() {
            self.0.push((began, clock::now()));
        }
    }

    pub(super) fn all(&self) -> &[(Tsc, Tsc)] {
        &self.0
    }
}
