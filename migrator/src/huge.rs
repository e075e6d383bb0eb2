//! Which blocks of 2 MiB lie in one huge page.
//!
//! Source: `PAGEMAP_SCAN` in `Documentation/admin-guide/mm/pagemap.rst` (Linux 6.7).

use std::fs::File;
use std::io;

use vmm_sys_util::ioctl::ioctl_with_mut_ref;
use vmm_sys_util::ioctl_iowr_nr;

use crate::PageSize;

const PAGE_IS_HUGE: u64 = 1 << 6;

/// `struct page_region`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Region {
    start: u64,
    end: u64,
    categories: u64,
}

/// `struct pm_scan_arg`.
#[repr(C)]
#[derive(Default)]
struct ScanArg {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    vec: u64,
    vec_len: u64,
    max_pages: u64,
    category_inverted: u64,
    category_mask: u64,
    category_anyof_mask: u64,
    return_mask: u64,
}

ioctl_iowr_nr!(PAGEMAP_SCAN, 'f' as u32, 16, ScanArg);

/// Looks at this process's own pages.
pub(crate) struct HugePages(File);

impl HugePages {
    /// Opens /proc/self/pagemap.
    pub(crate) fn open() -> io::Result<Self> {
        File::open("/proc/self/pagemap").map(Self)
    }

    /// Whether the block at `address`, a multiple of 2 MiB, is mapped by one entry.
    pub(crate) fn is_huge(&self, address: usize) -> io::Result<bool> {
        let mut found = Region::default();
        let mut arg = ScanArg {
            size: size_of::<ScanArg>() as u64,
            start: address as u64,
            end: (address + PageSize::Huge.bytes()) as u64,
            vec: std::ptr::from_mut(&mut found).expose_provenance() as u64,
            vec_len: 1,
            category_mask: PAGE_IS_HUGE,
            return_mask: PAGE_IS_HUGE,
            ..ScanArg::default()
        };
        // SAFETY: the kernel reads and writes one `pm_scan_arg`, which `arg` is, and writes at most
        // one region, into `found`, which outlives the call. Nothing is asked to be protected.
        let regions = unsafe { ioctl_with_mut_ref(&self.0, PAGEMAP_SCAN(), &mut arg) };
        if regions < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(regions == 1 && (found.start, found.end) == (arg.start, arg.end))
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_structures_are_the_kernels() {
        assert_eq!((size_of::<Region>(), size_of::<ScanArg>()), (24, 96));
        assert_eq!(PAGEMAP_SCAN(), 0xc060_6610);
    }
}
