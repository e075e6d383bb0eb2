//! Grace periods of the guest.

/// The guest's RCU, as far as the engine can ask it: for a wait until every reader that there is now is
/// done.
///
/// Nothing sound waits for readers while they may wait for a page: only
/// [`Variant::WindowWaitsGracePeriod`](crate::Variant::WindowWaitsGracePeriod) does.
pub trait GracePeriods: Send + Sync {
    /// Asks, on behalf of the mover with this number, for a grace period that begins after this call;
    /// returns its number. A mover that asks again has no use for the last one.
    fn ask(&self, mover: u16) -> u64;

    /// Whether the grace period with that number is over.
    fn is_over(&self, number: u64) -> bool;
}
