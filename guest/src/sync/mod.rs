//! Synchronisation: what the kernel's CPUs agree by.
//!
//! Everything here takes the CPU it runs on, keeps that CPU's context word, and is modelled by loom.

pub mod atomic;
mod background;
mod backoff;
mod guard;
mod lock_times;
pub mod lockdep;
mod mutex;
mod queued;
mod rcu;
mod rwsem;
mod seqcount;
mod seqlock;
mod ticket;
mod wait_list;
mod wait_queue;

pub use background::Background;
pub use backoff::Backoff;
pub(crate) use backoff::Sleepers;
pub use guard::{BottomHalfGuard, IrqGuard};
pub use mutex::{Mutex, MutexGuard};
pub use queued::{QueuedGuard, QueuedLock};
#[cfg(all(test, not(loom)))]
pub(crate) use rcu::rig::{Rig, machines};
pub use rcu::{
    Backlog, BacklogSampler, FlavourGuard, PreemptGuard, PreemptRcu, Rcu, RcuCallback, RcuFlavour,
    RcuGuard, RcuHead, RcuKind, RcuStall, ReaderState, SrcuDomain, SrcuGuard, StalledReader,
};
pub use rwsem::{ReadGuard, RwSemaphore, WriteGuard};
pub use seqcount::SeqCount;
pub use seqlock::{SeqLock, SeqLockGuard};
pub use ticket::{TicketGuard, TicketLock};
pub use wait_list::WaitLink;
pub use wait_queue::WaitQueue;

#[cfg(all(test, loom))]
pub(crate) mod loom_models;
