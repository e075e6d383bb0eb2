//! Synchronisation: what the kernel's CPUs agree by.
//!
//! Everything here takes the CPU it runs on, keeps that CPU's context word, and is modelled by loom.

pub mod atomic;
mod backoff;
mod barrier;
mod rcu;
mod seqcount;
mod ticket;

pub use backoff::Backoff;
pub use barrier::Barrier;
pub use rcu::{Rcu, RcuCallback, RcuGuard, RcuHead, RcuStall};
pub use seqcount::SeqCount;
pub use ticket::{IrqGuard, TicketGuard, TicketLock};

#[cfg(all(test, loom))]
mod loom_models;
