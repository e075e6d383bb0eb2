//! Random faults, for torture.

use std::num::NonZeroU32;
use std::time::Duration;

/// Faults at random in every phase of every migration, in windows too; the choices repeat with
/// [`Builder::seed`](crate::Builder::seed), the interleaving does not.
///
/// Aborts and pauses are what an engine meets by itself on a busy host, only rarely: a kernel that
/// refuses, a mover that is preempted. Nothing gets lost by them, however many there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Torment {
    /// A migration is aborted at one phase in so many; `None` for never. There is no way back from
    /// [`Phase::Committed`](crate::Phase::Committed).
    pub abort_one_in: Option<NonZeroU32>,
    /// The mover's thread sleeps at one phase in so many; `None` for never.
    pub pause_one_in: Option<NonZeroU32>,
    /// The longest of these sleeps; most are much shorter. Who waits for a page waits for as long.
    pub longest_pause: Duration,
}

impl Default for Torment {
    /// A migration in some eight is aborted, one in sixteen pauses, for 2 ms at most.
    fn default() -> Self {
        Self {
            abort_one_in: NonZeroU32::new(24),
            pause_one_in: NonZeroU32::new(64),
            longest_pause: Duration::from_millis(2),
        }
    }
}
