//! The kernel's own page tables: four levels of x86-64 (Intel SDM volume 3, 4.5), identity-mapped.

use super::{
    page::{MAX_ORDER, PageAllocator},
    pte::{ADDRESS, PteFlags},
};
use crate::Cpu;
use core::{
    fmt,
    ops::Range,
    sync::atomic::{
        AtomicU64,
        Ordering::{AcqRel, Relaxed},
    },
};
use underfoot_abi::{PAGE_SIZE, PageByte};

const ENTRIES: usize = 512;
const SHIFT: u32 = PAGE_SIZE.trailing_zeros();
const SIZE_BIT: u64 = 1 << 7;

/// Why a mapping could not be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapError {
    /// The address is not aligned to the mapping's size.
    Unaligned {
        /// The address.
        address: usize,
        /// The mapping's size.
        size: usize,
    },
    /// Something is mapped there already.
    Mapped {
        /// The virtual address.
        address: usize,
        /// The entry found.
        entry: u64,
    },
    /// No page is left for a table.
    OutOfPages {
        /// The virtual address.
        address: usize,
    },
}

impl fmt::Display for MapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unaligned { address, size } => write!(
                f,
                "cannot map {address:#x}: not a multiple of {size:#x}; align it"
            ),
            Self::Mapped { address, entry } => write!(
                f,
                "cannot map {address:#x}: mapped already by entry {entry:#x}; unmap it first"
            ),
            Self::OutOfPages { address } => write!(
                f,
                "cannot map {address:#x}: no free page for a page table; give the guest more memory"
            ),
        }
    }
}

impl core::error::Error for MapError {}

/// One entry on the way of a walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableEntry {
    /// Address of the entry itself.
    pub address: usize,
    /// Its value.
    pub value: u64,
}

/// What a virtual address is mapped to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// The physical address that the virtual one means, offset included.
    pub physical: usize,
    /// 1: a page of 4 KiB, 2: of 2 MiB.
    pub level: u8,
    /// The entry that maps it.
    pub entry: TableEntry,
}

/// A tree of page tables. Tables come from a page allocator, are reached at their physical address,
/// and are never freed.
#[derive(Debug)]
pub struct PageTable {
    root: usize,
    kind: PageByte,
}

impl PageTable {
    /// A tree that maps nothing. Its pages are published as `kind`. `None` if no page is left.
    #[must_use]
    pub fn new(cpu: &Cpu, pages: &PageAllocator, kind: PageByte) -> Option<Self> {
        let root = pages.allocate_zeroed(cpu, 0, kind)?;
        Some(Self { root, kind })
    }

    /// The physical address of the root, for CR3.
    #[must_use]
    pub const fn root(&self) -> usize {
        self.root
    }

    /// Maps `virt` to `phys` by one entry: of 2 MiB if `large`, else of 4 KiB. The caller keeps
    /// others from changing the tree, and flushes nothing: what was not mapped is in no TLB.
    ///
    /// # Errors
    /// See [`MapError`]; what was mapped before stays so.
    pub fn map(
        &self,
        cpu: &Cpu,
        pages: &PageAllocator,
        virt: usize,
        phys: usize,
        large: bool,
        flags: PteFlags,
    ) -> Result<(), MapError> {
        let (level, size) = if large {
            (2, PAGE_SIZE << MAX_ORDER)
        } else {
            (1, PAGE_SIZE)
        };
        if let Some(address) = [virt, phys].into_iter().find(|a| !a.is_multiple_of(size)) {
            return Err(MapError::Unaligned { address, size });
        }
        let mut table = self.root;
        for at in ((level + 1)..=4).rev() {
            table = self.descend(cpu, pages, table, at, virt)?;
        }
        let entry = entry(table, level, virt);
        let found = entry.load(Relaxed);
        if found & PteFlags::PRESENT.bits() != 0 {
            return Err(MapError::Mapped {
                address: virt,
                entry: found,
            });
        }
        let size_bit = if large { SIZE_BIT } else { 0 };
        entry.store(phys as u64 | flags.bits() | size_bit, Relaxed);
        Ok(())
    }

    /// Replaces the mapping of the 4 KiB page at `virt` by one to `phys`, in one step; the entry that
    /// was there. `None` if there was none: then nothing has changed. The caller keeps others from
    /// changing the entry, and shoots the old translation down.
    pub fn replace(&self, virt: usize, phys: usize, flags: PteFlags) -> Option<u64> {
        let leaf = self.walk(virt).filter(|leaf| leaf.level == 1)?;
        let table = leaf.entry.address & !(PAGE_SIZE - 1);
        Some(entry(table, 1, virt).swap(phys as u64 | flags.bits(), AcqRel))
    }

    /// The entry of the 4 KiB page at `virt`, whether or not it maps anything; `None` where there is
    /// no table for it, or a larger mapping. The caller keeps to the rules of who changes entries.
    #[must_use]
    pub fn leaf(&self, virt: usize) -> Option<&'static AtomicU64> {
        let mut table = self.root;
        for level in (2..=4u8).rev() {
            let value = entry(table, level, virt).load(Relaxed);
            if !PteFlags::PRESENT.are_in(value) || value & SIZE_BIT != 0 {
                return None;
            }
            table = (value & ADDRESS) as usize;
        }
        Some(entry(table, 1, virt))
    }

    /// Maps every page that `range` touches to itself, by 2 MiB entries only if `large`.
    ///
    /// # Errors
    /// See [`MapError`]; the pages before the one named are mapped.
    pub fn identity(
        &self,
        cpu: &Cpu,
        pages: &PageAllocator,
        range: Range<usize>,
        large: bool,
        flags: PteFlags,
    ) -> Result<(), MapError> {
        let size = if large {
            PAGE_SIZE << MAX_ORDER
        } else {
            PAGE_SIZE
        };
        let first = range.start & !(size - 1);
        for address in (first..range.end).step_by(size) {
            self.map(cpu, pages, address, address, large, flags)?;
        }
        Ok(())
    }

    /// What `virt` is mapped to; `None` if nothing.
    #[must_use]
    pub fn walk(&self, virt: usize) -> Option<Leaf> {
        self.walk_with(virt, |_, _| ())
    }

    /// As [`Self::walk`]; `touch` gets every entry on the way, and its address, before it is used.
    #[must_use]
    pub fn walk_with(&self, virt: usize, mut touch: impl FnMut(usize, &AtomicU64)) -> Option<Leaf> {
        let mut table = self.root;
        for level in (1..=4u8).rev() {
            let entry = entry(table, level, virt);
            let address = core::ptr::from_ref(entry).addr();
            touch(address, entry);
            let value = entry.load(Relaxed);
            if value & PteFlags::PRESENT.bits() == 0 {
                return None;
            }
            let target = (value & ADDRESS) as usize;
            if level == 1 || value & SIZE_BIT != 0 {
                let offset = virt & ((PAGE_SIZE << (9 * (u32::from(level) - 1))) - 1);
                return Some(Leaf {
                    physical: target + offset,
                    level,
                    entry: TableEntry { address, value },
                });
            }
            table = target;
        }
        None
    }

    /// The table below the entry for `virt` in the `table` of `level`, made if it is not there.
    fn descend(
        &self,
        cpu: &Cpu,
        pages: &PageAllocator,
        table: usize,
        level: u8,
        virt: usize,
    ) -> Result<usize, MapError> {
        let entry = entry(table, level, virt);
        let found = entry.load(Relaxed);
        if found & PteFlags::PRESENT.bits() == 0 {
            let below = pages
                .allocate_zeroed(cpu, 0, self.kind)
                .ok_or(MapError::OutOfPages { address: virt })?;
            // The leaf decides: an inner entry allows everything.
            let flags =
                PteFlags::PRESENT | PteFlags::WRITABLE | PteFlags::USER | PteFlags::ACCESSED;
            entry.store(below as u64 | flags.bits(), Relaxed);
            return Ok(below);
        }
        if found & SIZE_BIT != 0 {
            return Err(MapError::Mapped {
                address: virt,
                entry: found,
            });
        }
        Ok((found & ADDRESS) as usize)
    }
}

/// The entry for `virt` in `table`, one of `level`.
fn entry(table: usize, level: u8, virt: usize) -> &'static AtomicU64 {
    let index = (virt >> (SHIFT + 9 * (u32::from(level) - 1))) % ENTRIES;
    let address = table + index * size_of::<AtomicU64>();
    // SAFETY: `table` is the root or came out of an entry of this tree: a page that this tree
    // allocated, that is never freed, and whose words are only used as atomics.
    unsafe { &*core::ptr::with_exposed_provenance::<AtomicU64>(address) }
}

#[cfg(test)]
mod tests;
