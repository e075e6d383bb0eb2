//! Invalidation: what the engine tells those who keep translations of their own.
//!
//! A device model with a translation cache, or with a second mapping of the guest's frames, does not
//! wait in userfaultfd as everybody else does: it must be told before a page leaves its frame, and
//! must not look the page up again until the page has arrived. The scheme is that of Linux's
//! mmu_notifier and mmu_interval_notifier, for a registry of ranges in user space:
//!
//! - A [`Consumer`] registers ranges of guest memory with the [`Invalidations`] and gets a
//!   [`Subscription`] for each.
//! - A mover *starts* an [`OpenRange`] before the first call that changes a mapping, and *ends* it
//!   after the last. Start counts the invalidation in every subscription that it overlaps and moves
//!   their sequence on; has the consumers forget what they know of the range; and waits until nobody
//!   uses it any more: for so long at most as it was told. End takes the counts back, of those
//!   subscriptions that start counted and of no others.
//! - A consumer's fault takes a [`Snapshot`] before it looks a page up, and asks afterwards whether
//!   it still holds. While an invalidation is open there is none to be had.
//!
//! A consumer that registers while an invalidation of its range is open sees it as open
//! ([`Tracking`] says how). Movers take no sleeping lock here, allocate nothing, and wait for nobody
//! but consumers.

mod cache;
mod consumer;
mod error;
mod laggards;
mod listener;
#[cfg(all(test, loom))]
mod loom_models;
mod open;
mod pool;
mod registry;
mod stack;
mod subscription;
mod sync;
#[cfg(all(test, not(loom)))]
mod tests;
mod tracking;

pub use cache::{CacheView, Refused, TranslationCache};
pub use consumer::{Consumer, Laggard};
pub use error::{RegisterError, Unacknowledged};
pub use laggards::MAX_LAGGARDS;
pub use open::OpenRange;
pub(crate) use open::Told;
pub use registry::{InvalidationOptions, Invalidations, MAX_SLOTS, MAX_SUBSCRIPTIONS, PoolCounts};
pub use subscription::{Snapshot, Subscription};
pub use tracking::{Exhausted, Sharing, Tracking};
