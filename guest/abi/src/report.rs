//! What the guest's own checkers found, told to the host as it happens.

use core::sync::atomic::{AtomicU8, AtomicU32, AtomicU64};

/// Reports of each kind that the header holds, the first ones; later ones are counted and dropped.
pub const FIRST_REPORTS: usize = 4;
/// Bytes of text in a report.
pub const REPORT_TEXT: usize = 256;

/// RCU's stall detector reports a grace period this old: far beyond any time slice of a busy host.
pub const RCU_STALL_NS: u64 = 4_000_000_000;

/// Which checker found something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum ReportKind {
    /// The lock-order checker: a cycle of lock classes.
    LockCycle = 1,
    /// The lock-order checker: a lock taken in an interrupt or bottom half, and elsewhere with these
    /// open.
    LockContext = 2,
    /// RCU: a grace period that does not end.
    RcuStall = 3,
    /// RCU: a reader saw an object that was freed.
    RcuTorture = 4,
    /// Page tables: a fragment used twice, or freed while in use.
    Fragment = 5,
    /// TLB: a translation used after its shootdown was reported done.
    Translation = 6,
    /// The guest is out of memory.
    OutOfMemory = 7,
    /// Memory: an allocation broke the rules of its mode.
    Allocation = 8,
    /// Memory: ordinary allocations make room that others take without paying.
    Starvation = 9,
    /// The most that there may be of something are in use, though memory is free.
    Exhausted = 10,
}

impl ReportKind {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::LockCycle,
        Self::LockContext,
        Self::RcuStall,
        Self::RcuTorture,
        Self::Fragment,
        Self::Translation,
        Self::OutOfMemory,
        Self::Allocation,
        Self::Starvation,
        Self::Exhausted,
    ];

    /// The kind with this number.
    #[must_use]
    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u32 == number)
    }

    /// Its place among [`Self::ALL`], and in [`Header::reports`](crate::Header::reports).
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize - 1
    }

    /// Its name in the results.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::LockCycle => "lock-cycle",
            Self::LockContext => "lock-context",
            Self::RcuStall => "rcu-stall",
            Self::RcuTorture => "rcu-torture",
            Self::Fragment => "fragment",
            Self::Translation => "translation",
            Self::OutOfMemory => "out-of-memory",
            Self::Allocation => "allocation",
            Self::Starvation => "starvation",
            Self::Exhausted => "exhausted",
        }
    }
}

/// What was found of one kind: each kind has slots of its own, so that many of one hide no other.
#[derive(Debug)]
#[repr(C)]
pub struct Reports {
    /// Reports made, those beyond [`FIRST_REPORTS`] included.
    pub made: AtomicU32,
    /// Nothing; an atomic, as all words here, so that the host may hold a reference to it.
    reserved: AtomicU32,
    /// The first of them.
    pub first: [Report; FIRST_REPORTS],
}

/// One finding. The writer claims a slot by [`Reports::made`] and stores `kind` last, with release.
#[derive(Debug)]
#[repr(C)]
pub struct Report {
    /// [`ReportKind`]; 0 while the slot is empty or being written.
    pub kind: AtomicU32,
    /// The CPU that found it.
    pub cpu: AtomicU32,
    /// TSC.
    pub tsc: AtomicU64,
    /// Numbers by kind of report, in the order of its text.
    pub words: [AtomicU64; 4],
    /// Bytes of `text` in use.
    pub text_len: AtomicU32,
    /// Its place among the reports of all kinds, from 0.
    pub number: AtomicU32,
    /// What was found, in one line, UTF-8.
    pub text: [AtomicU8; REPORT_TEXT],
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_index_themselves() {
        for (index, kind) in ReportKind::ALL.into_iter().enumerate() {
            assert_eq!(kind.index(), index);
            assert_eq!(ReportKind::from_number(kind as u32), Some(kind));
        }
    }
}
