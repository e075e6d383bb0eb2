//! The workloads: what the CPUs do while their pages move.
//!
//! `walk` is a dentry-like tree whose readers do what Linux's `dget_parent()` does, while writers
//! update, rename, remove and create; around it every other kind of page is touched and verified.
//! `shootdown` changes translations while others use them.

mod audit;
mod chase;
mod churn;
mod dentry;
mod dma;
mod exit;
mod fault;
mod idle;
mod lock;
mod middle;
mod mix;
mod mmap1;
mod order;
mod page_words;
mod pipe;
mod plan;
mod pressure;
mod protection;
mod reader;
mod shootdown;
mod spinlock;
mod stage;
mod text;
mod tick;
mod torture;
mod touch;
mod tree;
mod walk;
mod worker;
mod writer;

pub use audit::Audit;
pub use chase::Chase;
pub use churn::Churn;
pub use dentry::Dentry;
pub use dma::Dma;
pub use exit::Exit;
pub use fault::Fault;
pub use idle::Idle;
pub use lock::Lock;
pub use mix::Mix;
pub use mmap1::Mmap1;
pub use order::Order;
pub use plan::{Parameters, Seat, Workload, is_over};
pub use pressure::Pressure;
pub use shootdown::{Shootdown, ShootdownParts};
pub use stage::SpaceParts;
pub use torture::Torture;
pub use touch::{DATA, DataPages, Targets, movable_image};
pub use tree::{BuildError, Tree};
pub use walk::Walk;
pub use worker::Worker;

#[cfg(test)]
mod space_tests;
#[cfg(test)]
mod tests;
