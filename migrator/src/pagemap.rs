//! Frame numbers of this process's own pages.
//!
//! Source: `Documentation/admin-guide/mm/pagemap.rst`.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::PAGE_SIZE;

const PRESENT: u64 = 1 << 63;
const SWAPPED: u64 = 1 << 62;
const PFN: u64 = (1 << 55) - 1;
const ENTRY: usize = size_of::<u64>();

/// What is known about one page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Entry(u64);

impl Entry {
    /// An entry of the frame `pfn`.
    #[cfg(test)]
    pub(crate) fn present(pfn: u64) -> Self {
        Self(PRESENT | pfn)
    }

    /// The frame number, unless nothing is mapped or the kernel hides it.
    pub(crate) fn pfn(self) -> Option<u64> {
        (self.0 & PRESENT != 0 && self.0 & PFN != 0).then_some(self.0 & PFN)
    }

    /// Neither in memory nor in swap.
    pub(crate) fn is_hole(self) -> bool {
        self.0 & (PRESENT | SWAPPED) == 0
    }
}

/// /proc/self/pagemap, open.
pub(crate) struct Pagemap {
    file: File,
    raw: Box<[u8]>,
}

impl Pagemap {
    /// Opens it, to read up to `batch` entries at once.
    pub(crate) fn open(batch: u32) -> io::Result<Self> {
        Ok(Self {
            file: File::open("/proc/self/pagemap")?,
            raw: vec![0; batch.max(1) as usize * ENTRY].into_boxed_slice(),
        })
    }

    /// The entries of contiguous pages, as many as `entries` is long (at most a batch).
    pub(crate) fn read(&mut self, address: usize, entries: &mut [Entry]) -> io::Result<()> {
        let raw = &mut self.raw[..entries.len() * ENTRY];
        self.file
            .read_exact_at(raw, (address / PAGE_SIZE * ENTRY) as u64)?;
        for (entry, bytes) in entries.iter_mut().zip(raw.as_chunks::<ENTRY>().0) {
            *entry = Entry(u64::from_ne_bytes(*bytes));
        }
        Ok(())
    }

    /// The entry of one page.
    pub(crate) fn one(&mut self, address: usize) -> io::Result<Entry> {
        let mut entries = [Entry::default()];
        self.read(address, &mut entries)?;
        Ok(entries[0])
    }

    /// Whether frame numbers are shown to this process.
    pub(crate) fn shows_frames(&mut self) -> io::Result<bool> {
        let probe = Box::new(1u8);
        let address = std::ptr::from_ref(std::hint::black_box(&*probe)) as usize;
        Ok(self.one(address)?.pfn().is_some())
    }
}

/// Counts pages that are there.
pub(crate) struct Present {
    pagemap: Pagemap,
    entries: Box<[Entry]>,
}

impl Present {
    /// For up to `batch` pages at a time.
    pub(crate) fn new(batch: u32) -> io::Result<Self> {
        Ok(Self {
            pagemap: Pagemap::open(batch)?,
            entries: vec![Entry::default(); batch as usize].into_boxed_slice(),
        })
    }

    /// How many of the `pages` pages at `address` come before the first hole.
    pub(crate) fn count(&mut self, address: usize, pages: u32) -> io::Result<u32> {
        let entries = &mut self.entries[..pages as usize];
        self.pagemap.read(address, entries)?;
        let hole = entries.iter().position(|entry| entry.is_hole());
        Ok(hole.unwrap_or(entries.len()) as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_decoded() {
        assert_eq!(Entry(PRESENT | 77).pfn(), Some(77));
        assert_eq!(Entry(PRESENT).pfn(), None, "hidden");
        assert_eq!(Entry(SWAPPED | 77).pfn(), None);
        assert!(Entry(0).is_hole() && !Entry(SWAPPED).is_hole() && !Entry(PRESENT).is_hole());
    }

    #[test]
    fn a_page_of_this_process_is_present() {
        let mut pagemap = Pagemap::open(1).expect("/proc");
        let value = Box::new(5u8);
        let entry = pagemap.one(std::ptr::from_ref(&*value) as usize);
        assert!(!entry.expect("mapped").is_hole());
    }
}
