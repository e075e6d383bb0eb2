//! How new frames arrive.

mod bytes;
mod copy_in;
mod kernel;
mod locked;
mod move_in;
mod pool;
mod pooled;
mod remap;
mod settle;
mod slot_area;
mod slot_in;

use std::fmt;
use std::io;

use crate::clock::Tsc;
use crate::page_word::Lane;
use crate::uffd::{Transfer, UffdError};

pub(crate) use copy_in::CopyIn;
pub(crate) use kernel::KernelIn;
pub(crate) use move_in::MoveIn;
pub(crate) use pooled::PooledIn;
pub(crate) use remap::RemapIn;
pub(crate) use slot_in::SlotIn;

/// How a new frame arrives. With [`Move`](Self::Move) and [`Copy`](Self::Copy), `UFFDIO_MOVE` has taken the
/// old one into limbo before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum BackendKind {
    /// A frame from staging, filled beforehand, by `UFFDIO_MOVE`. Old frames become staging frames.
    #[default]
    Move,
    /// A fresh frame from the kernel, by `UFFDIO_COPY`. Old frames go back to the kernel in bulk.
    Copy,
    /// Guest memory is a file in memory: another page of it is mapped in the old one's place, by
    /// `mmap(MAP_FIXED)`, which takes the address-space lock for writing.
    Remap,
    /// The kernel moves by itself: pages of 4 KiB to another NUMA node, by `move_pages`; blocks of 2 MiB
    /// of small pages into one huge page, by `MADV_COLLAPSE`, which leaves what is huge already alone.
    Kernel,
    /// A whole slot of guest memory ([`MemorySlots`](crate::MemorySlots)): the hypervisor forgets it, all of it is copied
    /// to fresh frames, which take the old ones' place, and the hypervisor knows it again.
    Memslot,
}

impl BackendKind {
    /// Every backend.
    pub const ALL: [Self; 5] = [
        Self::Move,
        Self::Copy,
        Self::Remap,
        Self::Kernel,
        Self::Memslot,
    ];

    /// The name that users write and read.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Move => "move",
            Self::Copy => "copy",
            Self::Remap => "remap",
            Self::Kernel => "kernel",
            Self::Memslot => "memslot",
        }
    }

    /// One line about it.
    #[must_use]
    pub const fn about(self) -> &'static str {
        match self {
            Self::Move => "a staged frame by UFFDIO_MOVE; old frames are recycled",
            Self::Copy => "a fresh frame by UFFDIO_COPY; old frames go back to the kernel",
            Self::Remap => "another page of a memfd by mmap, under the address-space lock",
            Self::Kernel => {
                "the kernel's own: move_pages between NUMA nodes, MADV_COLLAPSE into huge pages"
            }
            Self::Memslot => {
                "a whole memory slot of the hypervisor, deleted and made anew over a copy"
            }
        }
    }

    /// Whether guest memory must be one file that is mapped shared, as of memfd_create(2). For the
    /// others it must be private anonymous memory.
    #[must_use]
    pub const fn needs_file(self) -> bool {
        matches!(self, Self::Remap)
    }
}

impl fmt::Display for BackendKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What the contents are copied from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// The old frames in limbo.
    Limbo,
    /// The guest's pages while they are mapped. They are there; the guest may write them.
    Mapped(usize),
}

/// The steps of a migration of up to a batch of contiguous pages at the host address `hva`.
///
/// `skip` pages at the start of the batch are done already. The steps inside a window neither
/// allocate nor lock.
pub(crate) trait Backend {
    /// Makes room for the next window. Returns how many recycled frames were written in limbo.
    fn prepare(&mut self, pages: u32) -> io::Result<u32>;
    /// Whether there is room for a window of `pages` pages. What is not, [`prepare`](Self::prepare) could not make.
    fn is_ready(&self, _pages: u32) -> bool {
        true
    }
    /// Write-protects pages; 0 or the errno.
    fn protect(&mut self, lane: Lane, hva: usize, pages: u32) -> i32;
    /// Takes that off again and wakes who waits; 0 or the errno.
    fn unprotect(&mut self, lane: Lane, hva: usize, pages: u32) -> i32;
    /// Takes the old frames into limbo.
    fn unmap(&mut self, hva: usize, pages: u32) -> Transfer;
    /// Fills the first `bytes` bytes of each new frame.
    fn copy(&mut self, source: Source, pages: u32, bytes: usize);
    /// Whether the new frames hold what is at `source`, which nobody can write.
    fn is_copied(&self, source: Source, pages: u32) -> bool;
    /// Maps the new frames and wakes who waits.
    fn map(&mut self, lane: Lane, hva: usize, skip: u32, pages: u32) -> Transfer;
    /// Maps the old frames again and wakes who waits.
    fn put_back(&mut self, lane: Lane, hva: usize, skip: u32, pages: u32) -> Transfer;
    /// The first `pages` old frames stay in limbo, the new frames are the guest's.
    fn commit(&mut self, pages: u32);
    /// The first `pages` old frames, or what is left of them, are needed no more, and are not checked.
    fn forget(&mut self, pages: u32) -> io::Result<()>;
    /// Wakes who waits; they look again.
    fn wake(&mut self, lane: Lane, hva: usize, pages: u32) -> Result<(), UffdError>;
    /// Where the `nth` old frame of the open migration is.
    fn limbo_address(&self, nth: u32) -> usize;
    /// Writes into the youngest old frame, which may or may not be one that is checked: a busted
    /// variant does this.
    fn scribble(&mut self);
    /// Checks every frame in limbo. Returns how many were written.
    fn audit(&mut self) -> u32;
    /// Whether old frames stay in limbo, at [`limbo_address`](Self::limbo_address), where they can be
    /// looked at.
    fn keeps_old_frames(&self) -> bool {
        true
    }
    /// The calls since the last [`prepare`](Self::prepare) that took the address-space lock for writing, for which faults
    /// of every page wait: when each began and when it was over.
    fn locked(&self) -> &[(Tsc, Tsc)] {
        &[]
    }
    /// Pages that the kernel moved and did not count, since the last call.
    fn take_uncounted(&mut self) -> u32;
    /// Has the kernel map pages that it would map when they are touched, so that their frames can be
    /// compared.
    fn populate(&self, _hva: usize, _pages: u32) -> io::Result<()> {
        Ok(())
    }
}
