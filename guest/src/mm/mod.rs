//! Memory: pages, slab objects, page tables.

pub mod fragment;
#[cfg(not(loom))]
mod frame;
#[cfg(not(loom))]
mod magazine;
#[cfg(not(loom))]
mod object;
#[cfg(not(loom))]
mod page;
#[cfg(not(loom))]
pub(crate) mod poison;
pub(crate) mod pte;
#[cfg(not(loom))]
mod slab;
#[cfg(not(loom))]
mod table;
#[cfg(not(loom))]
pub mod watermark;

#[cfg(not(loom))]
pub use frame::Frame;
#[cfg(not(loom))]
pub use object::{Object, Objects};
#[cfg(not(loom))]
pub use page::{MAX_ORDER, Mapping, PageAllocator, ZeroValid};
pub use pte::{PteFlags, frame_of};
#[cfg(not(loom))]
pub use slab::{SlabAudit, SlabCache, SlabPage};
#[cfg(not(loom))]
pub use table::{Leaf, MapError, PageTable, TableEntry};

/// Runs `op` with bottom halves held back, and on this CPU: RCU's callbacks free pages and objects
/// too, and so use what a CPU keeps for itself.
#[cfg(not(loom))]
fn without_bottom_halves<T>(cpu: &crate::Cpu, op: impl FnOnce() -> T) -> T {
    cpu.bottom_half_disable();
    let value = op();
    cpu.bottom_half_enable();
    value
}
