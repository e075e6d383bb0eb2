//! Page tables smaller than a page, freed after a grace period.
//!
//! Two tables of 2 KiB share a page of 4 KiB, as s390 has them (arch/s390/mm/pgalloc.c): what a half
//! is, and how that changes, is told in `state`. A freed half waits for a grace period, since walkers
//! read tables under RCU without a lock; meanwhile the other half may be in use or be given out
//! again. The page is given back when both halves are free, after it left the list of its owner.
//! The thread "s390: add pte_free_defer(), with use of mmdrop_async()" (2023-06) is where each rule
//! comes from, and each busted form breaks one of them.

#[cfg(not(loom))]
mod descriptor;
#[cfg(not(loom))]
mod grace;
#[cfg(not(loom))]
mod owner;
mod state;
#[cfg(not(loom))]
mod table;
#[cfg(not(loom))]
mod tables;
#[cfg(not(loom))]
mod usage;

#[cfg(not(loom))]
pub use descriptor::PageTableLock;
#[cfg(not(loom))]
pub use owner::TableOwner;
#[cfg(not(loom))]
pub use table::{ENTRIES, TABLE_BYTES, Table};
#[cfg(not(loom))]
pub use tables::{TableAllocator, TableKind};
#[cfg(not(loom))]
pub use usage::Usage;

#[cfg(all(test, loom))]
mod loom_models;
