//! What one change of a page table makes invalid.

use underfoot_abi::PAGE_SIZE;

/// Pages beyond which all translations are dropped: refilling them costs less than so many flushes.
/// Linux's `tlb_single_page_flush_ceiling`.
pub const CEILING: usize = 33;
/// Ranges that are told apart.
pub const RANGES: usize = if cfg!(loom) { 1 } else { 8 };

/// Consecutive pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PageRange {
    /// Address of the first.
    pub address: usize,
    /// How many; 0 for none.
    pub pages: usize,
}

impl PageRange {
    const fn end(self) -> usize {
        self.address + self.pages * PAGE_SIZE
    }

    /// In one word: the low bits of the address are free, and no range is longer than [`CEILING`].
    pub(super) const fn pack(self) -> u64 {
        self.address as u64 | self.pages as u64
    }

    pub(super) const fn unpack(word: u64) -> Self {
        Self {
            address: word as usize & !(PAGE_SIZE - 1),
            pages: word as usize % PAGE_SIZE,
        }
    }
}

/// Gathers what was unmapped or restricted, to shoot it down at once (Linux's `mmu_gather`).
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// Apart from each other, not even touching.
    ranges: [PageRange; RANGES],
    used: usize,
    all: bool,
    tables: bool,
}

impl Batch {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The page at `address`.
    #[must_use]
    pub fn page(address: usize) -> Self {
        let mut batch = Self::new();
        batch.add(address, 1);
        batch
    }

    /// The whole space.
    #[must_use]
    pub fn all() -> Self {
        Self {
            all: true,
            ..Self::new()
        }
    }

    /// Adds `pages` pages from that at `address` on.
    pub fn add(&mut self, address: usize, pages: usize) {
        if pages == 0 || self.all {
            return;
        }
        if pages > CEILING {
            self.all = true;
            return;
        }
        let mut new = PageRange {
            address: address & !(PAGE_SIZE - 1),
            pages,
        };
        let mut kept = 0;
        let mut total = 0;
        for index in 0..self.used {
            let old = self.ranges[index];
            // What touches the union touches the new range, because the old ones are apart.
            if old.address <= new.end() && new.address <= old.end() {
                let address = old.address.min(new.address);
                new = PageRange {
                    address,
                    pages: (old.end().max(new.end()) - address) / PAGE_SIZE,
                };
            } else {
                self.ranges[kept] = old;
                kept += 1;
                total += old.pages;
            }
        }
        if kept == RANGES || total + new.pages > CEILING {
            self.all = true;
            return;
        }
        self.ranges[kept] = new;
        self.used = kept + 1;
    }

    /// Page tables are freed too. A CPU may walk them ahead of its program even where it keeps the
    /// space lazily, so those CPUs are asked as well (Linux's `freed_tables`).
    pub fn frees_tables(&mut self) {
        self.tables = true;
    }

    pub(super) const fn has_freed_tables(&self) -> bool {
        self.tables
    }

    /// Whether everything goes.
    #[must_use]
    pub const fn is_all(&self) -> bool {
        self.all
    }

    /// Whether there is nothing to shoot down.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.used == 0 && !self.all && !self.tables
    }

    /// The ranges, if not everything goes.
    #[must_use]
    pub fn ranges(&self) -> &[PageRange] {
        if self.all {
            &[]
        } else {
            &self.ranges[..self.used]
        }
    }
}
