//! Where in their file guest pages lie, by /proc/self/maps.
//!
//! Not where they began: an earlier migrator of the same memory may have left them elsewhere.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;

use crate::PAGE_SIZE;

/// A mapping of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Mapping {
    addresses: Range<usize>,
    /// Byte of the file at the first address.
    offset: usize,
}

/// All mappings of one file, by rising address.
pub(crate) struct Places(Vec<Mapping>);

impl Places {
    /// Those of `file`.
    ///
    /// # Errors
    /// /proc/self/maps cannot be read.
    pub(crate) fn of(file: &File) -> io::Result<Self> {
        let inode = file.metadata()?.ino();
        Ok(Self::read(
            &std::fs::read_to_string("/proc/self/maps")?,
            inode,
        ))
    }

    /// Those of the file with this inode number. Files in memory all have one device.
    fn read(maps: &str, inode: u64) -> Self {
        Self(
            maps.lines()
                .filter_map(|line| mapping(line, inode))
                .collect(),
        )
    }

    /// The page of the file at `address`; `None` if it is not mapped there.
    pub(crate) fn at(&self, address: usize) -> Option<u32> {
        let next = self
            .0
            .partition_point(|mapping| mapping.addresses.end <= address);
        let found = self.0.get(next)?;
        let inside = address.checked_sub(found.addresses.start)?;
        u32::try_from((found.offset + inside) / PAGE_SIZE).ok()
    }
}

/// A line of proc_pid_maps(5): `start-end rights offset device inode path`.
fn mapping(line: &str, inode: u64) -> Option<Mapping> {
    let mut words = line.split_ascii_whitespace();
    let (start, end) = words.next()?.split_once('-')?;
    let offset = words.nth(1)?;
    if words.nth(1)?.parse() != Ok(inode) {
        return None;
    }
    let hex = |text| usize::from_str_radix(text, 16).ok();
    Some(Mapping {
        addresses: hex(start)?..hex(end)?,
        offset: hex(offset)?,
    })
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const MAPS: &str = "\
7f0000000000-7f0000002000 rw-s 00005000 00:01 77                         /memfd:guest (deleted)
7f0000002000-7f0000003000 rw-s 00000000 00:01 77                         /memfd:guest (deleted)
7f0000003000-7f0000004000 rw-s 00000000 00:01 78                         /memfd:other (deleted)
7f0000004000-7f0000005000 rw-p 00000000 00:00 0
7f0000005000-7f0000006000 rw-s 00009000 00:01 77                         /memfd:guest (deleted)
";

    #[test]
    fn pages_are_found_where_they_are_mapped() {
        let places = Places::read(MAPS, 77);
        let base = 0x7f00_0000_0000;
        for (page, place) in [
            (0, Some(5)),
            (1, Some(6)),
            (2, Some(0)),
            (3, None),
            (4, None),
            (5, Some(9)),
            (6, None),
        ] {
            assert_eq!(places.at(base + page * PAGE_SIZE), place, "page {page}");
        }
        assert_eq!(places.at(0), None);
    }
}
