//! What the DMA device did.

use serde::Serialize;
use underfoot_vmm::dma::ROWS;

/// What the DMA device did while pages moved.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DmaRecord {
    /// Descriptors done.
    pub done: u64,
    /// Descriptors refused.
    pub refused: u64,
    /// Bytes copied.
    pub bytes: u64,
    /// Accesses whose translation was in its cache.
    pub hits: u64,
    /// Accesses whose translation was looked up.
    pub misses: u64,
    /// Accesses put off because the page was being moved.
    pub retries: u64,
    /// Of those, the ones whose page was moved while it was looked up: the sequence told.
    pub overtaken: u64,
    /// Accesses that were put off at least once.
    pub put_off: u64,
    /// Most times in a row that one access was put off.
    pub retries_in_a_row: u64,
    /// Accesses that were put off, by how often in a row: 1, 2 to 3, 4 to 7, and so on.
    pub rows: [u64; ROWS],
    /// Times that a thread registered anew.
    pub renewed: u64,
    /// Registrations anew that found an invalidation of their range open.
    pub in_midst: u64,
    /// Invalidations that found no slot in the pool and waited for one.
    pub pool_waited: u64,
    /// Those that found none and counted for the whole space.
    pub pool_fell_back: u64,
    /// Registrations whose counter of invalidations was found below zero, in the whole run: errors.
    pub negative: u64,
    /// Consumers that did not acknowledge in time, with how often.
    pub laggards: Vec<String>,
}
