//! Where guest frames lie in this process, and one dense number for each.

use std::io;
use std::ops::Range;

use vm_memory::{Address, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion};

use crate::{Gfn, MAX_BATCH, PAGE_SIZE, PageRange, PageSize};

/// Guest memory that the engine cannot work on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegionError {
    /// Not private anonymous memory.
    #[error(
        "guest memory at {gpa:#x} is not private anonymous memory, and only that can be moved by \
         UFFDIO_MOVE; build the region without a file and with MAP_PRIVATE | MAP_ANONYMOUS"
    )]
    NotAnonymous {
        /// Guest physical address of the region.
        gpa: u64,
    },
    /// Not a file that is mapped shared.
    #[error(
        "guest memory at {gpa:#x} does not lie in the one file that is mapped shared, and only that can \
         be moved by remapping; build all regions over one memfd, with MAP_SHARED, and page-aligned"
    )]
    NotShared {
        /// Guest physical address of the region.
        gpa: u64,
    },
    /// The file cannot be mapped once more.
    #[error("the file of guest memory cannot be mapped once more")]
    Alias {
        /// What the kernel said.
        #[source]
        source: std::io::Error,
    },
    /// Not whole pages.
    #[error("guest memory at {gpa:#x} has {len:#x} bytes: both must be multiples of {PAGE_SIZE}")]
    Unaligned {
        /// Guest physical address of the region.
        gpa: u64,
        /// Its length in bytes.
        len: u64,
    },
    /// Huge pages of the guest cannot be huge pages of the host.
    #[error(
        "guest memory at {gpa:#x} lies at {hva:#x}: for pages of 2MiB both must be multiples of \
         {} bytes; map it so, or move pages of 4KiB",
        PageSize::Huge.bytes()
    )]
    NotHuge {
        /// Guest physical address of the region.
        gpa: u64,
        /// Its host address.
        hva: usize,
    },
    /// More pages than can be numbered, or none.
    #[error("guest memory has {pages} pages; 1 to {} can be managed", u32::MAX)]
    Size {
        /// How many.
        pages: u64,
    },
}

/// A run of guest memory that is contiguous in the guest and in this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Region {
    /// Number of its first page.
    pub(crate) first: u32,
    /// How many pages.
    pub(crate) pages: u32,
    /// Guest frame of its first page.
    pub(crate) gfn: Gfn,
    /// Host address of its first page.
    pub(crate) hva: usize,
    /// Number of the userfaultfd that its faults go to.
    pub(crate) shard: u32,
}

impl Region {
    /// The number after that of its last page.
    pub(crate) fn end(&self) -> u32 {
        self.first + self.pages
    }

    /// The guest frame of a page of the region.
    pub(crate) fn gfn(&self, page: u32) -> Gfn {
        Gfn(self.gfn.0 + u64::from(page - self.first))
    }

    /// The host address of a page of the region.
    pub(crate) fn hva(&self, page: u32) -> usize {
        self.hva + (page - self.first) as usize * PAGE_SIZE
    }
}

/// All of guest memory, its pages numbered from 0 without holes.
///
/// It never changes, so that who looks something up needs no lock. Which of it is plugged does: see
/// [`Blocks`](crate::plug::Blocks).
#[derive(Clone, Debug)]
pub(crate) struct Regions(Vec<Region>);

impl Regions {
    /// The regions of `memory`, which lies in one file if `file`, and else is anonymous.
    pub(crate) fn new(memory: &GuestMemoryMmap, file: bool) -> Result<Self, RegionError> {
        let mut regions = Vec::new();
        let mut total = 0u64;
        for region in memory.iter() {
            let (gpa, len) = (region.start_addr().raw_value(), region.len());
            let mapping = region.get_mmap();
            let anonymous = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            let is_anonymous =
                mapping.file_offset().is_none() && mapping.flags() & anonymous == anonymous;
            match file {
                true if mapping.flags() & libc::MAP_SHARED == 0 => {
                    return Err(RegionError::NotShared { gpa });
                }
                false if !is_anonymous => return Err(RegionError::NotAnonymous { gpa }),
                _ => {}
            }
            if !(gpa | len).is_multiple_of(PAGE_SIZE as u64) {
                return Err(RegionError::Unaligned { gpa, len });
            }
            let pages = len / PAGE_SIZE as u64;
            regions.push((total, pages, gpa, mapping.as_ptr() as usize));
            total += pages;
        }
        if total == 0 || total > u64::from(u32::MAX) {
            return Err(RegionError::Size { pages: total });
        }
        Ok(Self(
            regions
                .into_iter()
                .map(|(first, pages, gpa, hva)| Region {
                    first: first as u32,
                    pages: pages as u32,
                    gfn: Gfn::containing(gpa),
                    hva,
                    shard: 0,
                })
                .collect(),
        ))
    }

    /// The same pages in up to `shards` parts of about the same size, none of which has part of a window: they end at
    /// multiples of the largest. A region lies in one part.
    pub(crate) fn split(&self, shards: u32) -> Self {
        if shards <= 1 {
            return self.clone();
        }
        let part = self.pages().div_ceil(shards).next_multiple_of(MAX_BATCH);
        let cut = |region: &Region| {
            let region = *region;
            let end = region.end();
            (region.first / part..=(end - 1) / part).map(move |shard| {
                let first = region.first.max(shard * part);
                Region {
                    first,
                    pages: end.min((shard + 1).saturating_mul(part)) - first,
                    gfn: region.gfn(first),
                    hva: region.hva(first),
                    shard,
                }
            })
        };
        Self(self.iter().flat_map(cut).collect())
    }

    /// The host address at which each region begins, in order, and the number of its part.
    pub(crate) fn parts(&self) -> Vec<(usize, u32)> {
        let mut parts: Vec<_> = self
            .iter()
            .map(|region| (region.hva, region.shard))
            .collect();
        parts.sort_unstable();
        parts
    }

    /// How many parts there are.
    pub(crate) fn shards(&self) -> u32 {
        self.0.last().map_or(1, |region| region.shard + 1)
    }

    /// Checks that blocks of 2 MiB are the same for the guest, for this process and by number.
    pub(crate) fn check_huge(&self) -> Result<(), RegionError> {
        let odd = |region: &&Region| {
            let (gpa, hva) = (region.gfn.gpa(), region.hva);
            !(gpa as usize | hva).is_multiple_of(PageSize::Huge.bytes())
                || !region.first.is_multiple_of(PageSize::Huge.pages())
        };
        match self.iter().find(odd) {
            Some(region) => Err(RegionError::NotHuge {
                gpa: region.gfn.gpa(),
                hva: region.hva,
            }),
            None => Ok(()),
        }
    }

    /// Lets the kernel put huge pages in place of small ones, which the embedder may have forbidden.
    pub(crate) fn let_collapse(&self) -> io::Result<()> {
        for region in self.iter() {
            let (start, bytes) = (region.hva, region.pages as usize * PAGE_SIZE);
            // SAFETY: guest memory, whose contents advice of this kind leaves as they are.
            let result =
                unsafe { libc::madvise(start as *mut libc::c_void, bytes, libc::MADV_HUGEPAGE) };
            if result != 0 {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(())
    }

    /// Gives each of `pages`, which lie in one region, a frame.
    pub(crate) fn populate(&self, pages: Range<u32>) -> io::Result<()> {
        let len = (pages.end - pages.start) as usize * PAGE_SIZE;
        populate(self.of(pages.start).hva(pages.start), len)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Region> {
        self.0.iter()
    }

    /// The regions that have some of `pages`, in order, and which.
    pub(crate) fn within(&self, pages: Range<u32>) -> impl Iterator<Item = (&Region, Range<u32>)> {
        self.iter().filter_map(move |region| {
            let common = pages.start.max(region.first)..pages.end.min(region.end());
            (!common.is_empty()).then_some((region, common))
        })
    }

    /// The numbers of the pages of `range`, if all of them are guest memory.
    pub(crate) fn numbers(&self, range: PageRange) -> Option<Range<u32>> {
        let last = range.pages.checked_sub(1)?;
        let gfn = range.start.0.checked_add(last.into())?;
        let (first, end) = (self.by_gfn(range.start)?, self.by_gfn(Gfn(gfn))?);
        // Numbers have no holes: so many of them are as many frames.
        (end.checked_sub(first) == Some(last)).then_some(first..end + 1)
    }

    /// How many pages there are.
    pub(crate) fn pages(&self) -> u32 {
        self.0.last().map_or(0, Region::end)
    }

    /// The region of page number `page`.
    ///
    /// # Panics
    /// If there is no such page.
    pub(crate) fn of(&self, page: u32) -> &Region {
        let after = self.0.partition_point(|region| region.first <= page);
        let region = &self.0[after - 1];
        assert!(page < region.end(), "page {page} of {}", self.pages());
        region
    }

    /// The number of the page at a guest frame.
    pub(crate) fn by_gfn(&self, gfn: Gfn) -> Option<u32> {
        self.0.iter().find_map(|region| {
            PageRange::new(region.gfn, region.pages)
                .contains(gfn)
                .then(|| region.first + (gfn.0 - region.gfn.0) as u32)
        })
    }

    /// The number of the page at a host address.
    pub(crate) fn by_hva(&self, hva: usize) -> Option<u32> {
        self.0.iter().find_map(|region| {
            let page = hva.checked_sub(region.hva)? / PAGE_SIZE;
            (page < region.pages as usize).then(|| region.first + page as u32)
        })
    }
}

/// Gives guest memory frames where it has none.
pub(crate) fn populate(hva: usize, len: usize) -> io::Result<()> {
    // SAFETY: the range is guest memory that the caller of the builder holds mapped; the advice keeps its contents.
    let result = unsafe { libc::madvise(hva as *mut libc::c_void, len, libc::MADV_POPULATE_WRITE) };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vm_memory::GuestAddress;

    #[test]
    fn pages_are_numbered_without_holes() {
        let memory = GuestMemoryMmap::<()>::from_ranges(&[
            (GuestAddress(0x1000), 0x3000),
            (GuestAddress(0x10000), 0x2000),
        ])
        .expect("memory");
        let regions = Regions::new(&memory, false).expect("regions");
        assert_eq!(regions.pages(), 5);
        for (page, gfn) in [1, 2, 3, 16, 17].into_iter().enumerate() {
            let page = page as u32;
            let region = regions.of(page);
            assert_eq!(region.gfn(page), Gfn(gfn));
            assert_eq!(regions.by_gfn(Gfn(gfn)), Some(page));
            assert_eq!(regions.by_hva(region.hva(page) + 5), Some(page));
        }
        assert_eq!(regions.by_gfn(Gfn(4)), None);
        assert_eq!(regions.by_hva(0), None);
    }

    #[test]
    fn parts_have_every_page_once_and_end_between_windows() {
        let memory = GuestMemoryMmap::<()>::from_ranges(&[
            (GuestAddress(0), 1500 << 12),
            (GuestAddress(1 << 32), 600 << 12),
        ])
        .expect("memory");
        let whole = Regions::new(&memory, false).expect("regions");
        // Parts asked for, pages of the parts of each region, and their userfaultfds.
        for (shards, pages, numbers) in [
            (1, &[1500, 600][..], &[0, 0][..]),
            (2, &[1500, 36, 564], &[0, 0, 1]),
            (3, &[1024, 476, 548, 52], &[0, 1, 1, 2]),
            (64, &[512, 512, 476, 36, 512, 52], &[0, 1, 2, 2, 3, 4]),
        ] {
            let split = whole.split(shards);
            let found: Vec<_> = split.iter().map(|region| region.pages).collect();
            assert_eq!(found, pages, "{shards}");
            let found: Vec<_> = split.iter().map(|region| region.shard).collect();
            assert_eq!(found, numbers, "{shards}");
            assert_eq!(split.shards(), numbers[numbers.len() - 1] + 1);
            assert_eq!(split.pages(), whole.pages());
            for page in 0..whole.pages() {
                let (one, other) = (whole.of(page), split.of(page));
                assert_eq!(one.gfn(page), other.gfn(page));
                assert_eq!(split.by_hva(one.hva(page)), Some(page));
                assert_eq!(split.by_gfn(one.gfn(page)), Some(page));
            }
        }
    }

    #[test]
    fn half_pages_are_refused() {
        let memory = GuestMemoryMmap::<()>::from_ranges(&[(GuestAddress(0), 0x1800)]);
        let error = Regions::new(&memory.expect("memory"), false).expect_err("not whole pages");
        assert!(matches!(error, RegionError::Unaligned { len: 0x1800, .. }));
    }
}
