//! TLB shootdown: making other CPUs forget translations, and knowing when they have.
//!
//! As in Linux (arch/x86/mm/tlb.c), an address space counts its changes in a *generation*, and each
//! CPU remembers up to which one it has flushed. A change asks only the CPUs on which the space is
//! active; one that runs a kernel thread keeps the space *lazily* and catches up by its generation
//! when it next uses it. The requests are those of `smp_call_function_many`: a slot per initiator, a
//! mask of initiators per target, so that any number of CPUs may shoot at once without a lock.
//!
//! A vCPU that its host keeps from running cannot answer. [`Way::Pv`] leaves it a note instead, by
//! the protocol of KVM's steal time: the host flushes before the vCPU runs again.

mod batch;
mod cpu;
mod note;
mod request;
mod shootdown;
mod soft;
mod space;

pub use batch::{Batch, CEILING, PageRange, RANGES};
pub use shootdown::{HostWords, Shot, Tlb, Way};
pub use soft::SoftTlb;
pub use space::Space;

#[cfg(all(test, loom))]
mod loom_models;
#[cfg(all(test, not(loom)))]
mod tests;
