//! How long a lock was waited for and held.

use crate::{Cpu, record::Span};
use underfoot_abi::Metric;

/// What a guard keeps to record [`Metric::LockWait`] and [`Metric::LockHold`]; nothing for a lock that
/// is not recorded.
#[derive(Debug)]
pub(super) struct LockTimes {
    wait: Option<Span>,
    acquired_tsc: Option<u64>,
}

impl LockTimes {
    /// The wait begins now.
    #[inline]
    pub(super) fn wait<const RECORDED: bool>(cpu: &Cpu) -> Self {
        Self {
            wait: RECORDED.then(|| Span::start(cpu)),
            acquired_tsc: None,
        }
    }

    /// The wait is over.
    #[inline]
    pub(super) fn acquired(mut self) -> Self {
        self.acquired_tsc = self.wait.and_then(Span::now);
        self
    }

    /// The TSC at the release, for [`Self::record`].
    #[inline]
    pub(super) fn released(&self) -> Option<u64> {
        self.wait.and_then(Span::now)
    }

    /// Records both times. After the release, so that recording does not lengthen what it measures.
    #[inline]
    pub(super) fn record(&self, cpu: &Cpu, released_tsc: Option<u64>) {
        if let (Some(wait), Some(acquired), Some(released)) =
            (self.wait, self.acquired_tsc, released_tsc)
        {
            wait.finish_at(cpu, Metric::LockWait, acquired);
            wait.follow(acquired)
                .finish_at(cpu, Metric::LockHold, released);
        }
    }
}
