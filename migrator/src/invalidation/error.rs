//! Registrations that cannot be, and consumers that do not answer.

use std::sync::Arc;
use std::time::Duration;

use super::MAX_SUBSCRIPTIONS;
use crate::{PAGE_SIZE, PageRange};

/// A range that cannot be registered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RegisterError {
    /// No byte in it.
    #[error(
        "{consumer}: a range of 0 bytes at {gpa:#x} names no page; register {PAGE_SIZE} bytes or more"
    )]
    Empty {
        /// Who asked.
        consumer: Arc<str>,
        /// Guest physical address asked for.
        gpa: u64,
    },
    /// Not whole pages.
    #[error(
        "{consumer}: {bytes:#x} bytes at {gpa:#x} are not whole pages; both must be multiples of \
         {PAGE_SIZE}"
    )]
    Unaligned {
        /// Who asked.
        consumer: Arc<str>,
        /// Guest physical address asked for.
        gpa: u64,
        /// Length asked for, in bytes.
        bytes: u64,
    },
    /// Not wholly guest memory, or in more than one region of it.
    #[error(
        "{consumer}: {bytes:#x} bytes at {gpa:#x} do not lie in one region of guest memory; register \
         parts of {known}, each region by itself"
    )]
    Outside {
        /// Who asked.
        consumer: Arc<str>,
        /// Guest physical address asked for.
        gpa: u64,
        /// Length asked for, in bytes.
        bytes: u64,
        /// The regions that there are.
        known: String,
    },
    /// The same consumer has registered the same range.
    #[error("{consumer} has registered {range} already; use that subscription, or drop it first")]
    Twice {
        /// Who asked.
        consumer: Arc<str>,
        /// The range.
        range: PageRange,
    },
    /// Somebody wants pages of it for himself.
    #[error(
        "{consumer}: {range} overlaps {other}, which {holder} has registered, and one of them is \
         exclusive; register both as shared, or pages that do not overlap"
    )]
    Overlap {
        /// Who asked.
        consumer: Arc<str>,
        /// What was asked for.
        range: PageRange,
        /// Who has the other range.
        holder: Arc<str>,
        /// The other range.
        other: PageRange,
    },
    /// Every place is taken.
    #[error(
        "{consumer}: all {MAX_SUBSCRIPTIONS} subscriptions are taken; register fewer, larger ranges, or \
         drop some"
    )]
    Full {
        /// Who asked.
        consumer: Arc<str>,
    },
}

/// A consumer that did not acknowledge in time: the range must not be changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{consumer} did not acknowledge the invalidation of {range} within {waited:?}; its accesses must \
     be short, or the migrator more patient (Builder::patience)"
)]
pub struct Unacknowledged {
    /// Its name.
    pub consumer: Arc<str>,
    /// The range that was to be invalidated.
    pub range: PageRange,
    /// How long it was waited for.
    pub waited: Duration,
}
