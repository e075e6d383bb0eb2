//! An emulated DMA engine: it copies guest memory to guest memory, from threads of its own, while the
//! pages move.
//!
//! The guest's queues lie in its own memory, whose pages move too; a doorbell is a word in the shared
//! region, which the device's threads look at (an exit would cost more than the copy). Each thread
//! has a translation cache and registers all of guest memory with the migrator's
//! [`Invalidations`](underfoot_migrator::Invalidations). Where translations lead is for a
//! [`Translate`](underfoot_migrator::Translate) to say: through the VMM's own mapping they cannot go
//! stale, through a second mapping of the frames they do.
//!
//! Everything that the guest writes is an allegation: addresses, lengths and counts are checked.

mod channel;
mod copy;
mod counts;
mod device;
mod doorbells;
mod lookup;
mod worker;

pub use counts::{DmaCounts, ROWS};
pub use device::{DmaDevice, DmaError, DmaOptions};
pub use doorbells::Doorbells;
pub use lookup::SlowLookup;
