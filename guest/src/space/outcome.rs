//! What became of a fault, and of each attempt on the way.

use crate::{Cpu, record};
use underfoot_abi::FAULT_OUTCOMES;

/// One outcome. The discriminants are the order of [`FAULT_OUTCOMES`], which every workload over
/// address spaces counts after its operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Outcome {
    /// Handled under the space's lock.
    Classic = 0,
    /// Handled under the VMA's lock.
    VmaLock = 1,
    /// Handled without a lock.
    Speculative = 2,
    /// Somebody else had mapped the page.
    Spurious = 3,
    /// Fell back: no mapping was found that allows the access.
    NoVma = 4,
    /// Fell back: the VMA's lock was taken.
    Busy = 5,
    /// Fell back: the VMA changed.
    Changed = 6,
    /// Fell back: a table is missing.
    MissingTable = 7,
    /// The fast path was given no page.
    NoMemory = 8,
    /// The task made room and tried again.
    Reclaimed = 9,
    /// Nothing is mapped there, or the mapping forbids it.
    Refused = 10,
    /// No page is left.
    OutOfMemory = 11,
}

const _: () = assert!(FAULT_OUTCOMES.len() == Outcome::OutOfMemory as usize + 1);

impl Outcome {
    /// Its place among the workload's counters.
    #[must_use]
    pub const fn counter(self) -> usize {
        1 + self as usize
    }

    pub(super) fn count(self, cpu: &Cpu) {
        record::count(cpu, self.counter(), 1);
    }
}
