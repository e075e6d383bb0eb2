//! Memory: pages, slab objects, page tables.

mod frame;
mod magazine;
mod page;
mod poison;
mod slab;
mod table;

pub use frame::Frame;
pub use page::{MAX_ORDER, PageAllocator, ZeroValid};
pub use slab::{SlabAudit, SlabCache, SlabPage};
pub use table::{Leaf, MapError, PageTable, PteFlags, TableEntry, frame_of};
