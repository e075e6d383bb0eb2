//! Address spaces: mappings, page faults, and tables that walkers read without a lock.
//!
//! An address space has tables of four levels, which software walks: a root, and below it the upper,
//! middle and leaf tables, so that a new middle table can land in an upper one that is about to be
//! freed (thread "Memory allocation on speculative fastpaths", 2022-05). Its VMAs lie in a
//! balanced tree that readers find under RCU. Changes of the mappings take the space's lock for writing, then the
//! locks of the VMAs that they change; faults go one of three ways ([`Path`]).
//!
//! Accesses take one of two forms. Without [`Translations`] they walk the tables and use the page in one
//! read section, as the kernel's own walkers do (mm/gup.c, `gup_fast`): tables, pages and VMAs are freed
//! after a grace period. With them each CPU accesses by translations of its own, as a processor does,
//! and pages are free once these were shot down; tables and VMAs still wait for a grace period.

#[cfg(not(loom))]
mod access;
#[cfg(not(loom))]
mod change;
#[cfg(not(loom))]
mod edit;
#[cfg(not(loom))]
mod entry;
#[cfg(not(loom))]
mod fault;
#[cfg(not(loom))]
mod gather;
#[cfg(not(loom))]
mod object;
#[cfg(not(loom))]
mod outcome;
#[cfg(not(loom))]
mod page;
#[cfg(not(loom))]
mod reclaim;
#[cfg(not(loom))]
mod remap;
mod rwcount;
#[cfg(not(loom))]
mod shootdowns;
#[cfg(not(loom))]
mod spaces;
#[cfg(not(loom))]
mod teardown;
#[cfg(not(loom))]
mod tree;
#[cfg(not(loom))]
mod vma;
#[cfg(not(loom))]
mod walk;

#[cfg(not(loom))]
pub use access::AccessError;
#[cfg(not(loom))]
pub use change::ChangeError;
#[cfg(not(loom))]
pub use fault::FaultError;
#[cfg(not(loom))]
pub use object::Space;
#[cfg(not(loom))]
pub use outcome::Outcome;
#[cfg(not(loom))]
pub use reclaim::SpaceReclaim;
pub use rwcount::RwCount;
#[cfg(not(loom))]
pub use shootdowns::Translations;
#[cfg(not(loom))]
pub use spaces::{Fallback, Path, Rules, Spaces};
#[cfg(not(loom))]
pub use vma::{Protection, Vma};

#[cfg(all(test, loom))]
mod loom_models;
#[cfg(all(test, not(loom)))]
mod tests;
