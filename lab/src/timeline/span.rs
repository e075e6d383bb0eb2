//! A stretch of time.

/// From a tick to another, the second not in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The first tick.
    pub start: u64,
    /// The first tick behind it.
    pub end: u64,
}

impl Span {
    /// From `start` to `end`; empty if that comes first, which a guest may well say.
    #[must_use]
    pub const fn new(start: u64, end: u64) -> Self {
        let end = if end < start { start } else { end };
        Self { start, end }
    }

    /// How long it is.
    #[must_use]
    pub const fn ticks(self) -> u64 {
        self.end - self.start
    }

    /// The same, `ticks` later.
    #[must_use]
    pub const fn later(self, ticks: u64) -> Self {
        Self {
            start: self.start.saturating_add(ticks),
            end: self.end.saturating_add(ticks),
        }
    }

    /// What is in both; `None` if nothing is.
    #[must_use]
    pub fn and(self, other: Self) -> Option<Self> {
        let both = Self {
            start: self.start.max(other.start),
            end: self.end.min(other.end),
        };
        (both.start < both.end).then_some(both)
    }
}
