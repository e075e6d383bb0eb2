//! Who keeps translations of its own.

use std::fmt;
use std::sync::Arc;

use crate::PageRange;

/// One who keeps translations of guest memory of its own, a device model for example.
///
/// Its methods are called by movers, between the start of an invalidation and the first change of a
/// mapping. They must neither sleep nor allocate nor touch guest memory, must not register or drop a
/// [`Subscription`](crate::Subscription), and may be called by several movers at once.
pub trait Consumer: Send + Sync {
    /// What it is called in messages.
    fn name(&self) -> &str;

    /// Forgets every translation of a page of `range`.
    fn forget(&self, range: PageRange);

    /// Whether nobody uses a translation of a page of `range` any more: the acknowledgement. Asked
    /// again and again after [`Self::forget`], until it is so or the mover's patience is over.
    fn is_quiet(&self, range: PageRange) -> bool;
}

/// A consumer that did not acknowledge in time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Laggard {
    /// Its name.
    pub consumer: Arc<str>,
    /// The range that it has registered.
    pub range: PageRange,
    /// Invalidations that were given up because of it.
    pub times: u64,
}

impl fmt::Display for Laggard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            consumer,
            range,
            times,
        } = self;
        write!(
            f,
            "{consumer} ({range}) did not acknowledge {times} invalidations"
        )
    }
}
