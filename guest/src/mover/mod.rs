//! The guest as its own mover: kernel pages change frames under the kernel, which takes page faults
//! meanwhile.
//!
//! This is what the thread asks about that the project answers ("Taking page faults in RCU critical
//! sections", rcu@vger.kernel.org, January 2025): under a spinlock the entry of a page is cleared, its
//! translations are shot down, the page is copied to another frame, which is then mapped at the same
//! address. Whoever touches the page meanwhile faults, and spins in the handler until the entry maps
//! again; as `migration_entry_wait` in Linux (mm/migrate.c), but that nobody sleeps. Nothing in the
//! window sleeps, allocates, or waits for a grace period.
//!
//! It waits for other CPUs, though: for their answers to the shootdown. One that spins in the handler
//! answers there. One that waits with interrupts masked for a lock, whose holder spins in the handler,
//! never does, and all three would wait for ever: so a window that takes too long is given up, which
//! until the copy begins is one exchange of the entry.
//!
//! Frames are reached by a second mapping of all memory, as by Linux's direct map: the page's own
//! address is what nobody can use in the window.

mod entry;
#[cfg(not(loom))]
mod frames;
#[cfg(not(loom))]
mod job;
#[cfg(not(loom))]
mod pick;

pub use entry::{State, Window, give_up, wait_until_mapped};
#[cfg(not(loom))]
pub use frames::{Frames, SPARES};
#[cfg(not(loom))]
pub use job::{Job, Outcome, Parts};
#[cfg(not(loom))]
pub use pick::Pick;

#[cfg(all(test, loom))]
mod loom_models;
#[cfg(all(test, not(loom)))]
mod tests;
