//! Guest memory: how much, where, and what the guest is told about it.

use crate::sys;
use std::sync::Arc;
use underfoot_abi::{Layout, PAGE_SIZE};
use vm_memory::{
    Address, FileOffset, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion,
    mmap::FromRangesError,
};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// Where RAM stops below 4 GiB: what lies above holds the local APICs and KVM's own pages.
const LOW_RAM_END: u64 = 3 * GIB;
const HIGH_RAM_START: u64 = 4 * GIB;

/// What must remain of low RAM for the guest itself once the shared region is taken.
const LEAST_LEFT: u64 = 8 * MIB;

/// Why guest memory cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// Not a number with a unit.
    #[error("memory size `{0}` is not a number with a unit: write for example 64MiB or 2GiB")]
    Syntax(String),
    /// Below the least size.
    #[error("memory size {bytes} bytes is below the least of 16 MiB: ask for 16MiB or more")]
    TooSmall {
        /// Bytes asked for.
        bytes: u64,
    },
    /// Not a multiple of 2 MiB.
    #[error(
        "memory size {bytes} bytes is not a multiple of 2 MiB: the nearest below is {} MiB",
        (.bytes >> 21) << 1
    )]
    Unaligned {
        /// Bytes asked for.
        bytes: u64,
    },
    /// More than the host can give now.
    #[error(
        "memory size {} MiB is more than the {} MiB that this host has available: ask for less or free some",
        .bytes >> 20, .available >> 20
    )]
    TooLarge {
        /// Bytes asked for.
        bytes: u64,
        /// Bytes that the host has.
        available: u64,
    },
    /// The shared region leaves too little.
    #[error(
        "{cpus} vCPUs need a shared region of {} KiB, which leaves {} KiB of {} MiB of memory and the guest needs 8 MiB: give it more memory or fewer vCPUs",
        .shared >> 10, .left >> 10, .bytes >> 20
    )]
    SharedTooLarge {
        /// vCPUs asked for.
        cpus: u32,
        /// Bytes of the shared region.
        shared: u64,
        /// Bytes that remain.
        left: u64,
        /// Bytes of memory asked for.
        bytes: u64,
    },
    /// mmap refused.
    #[error("the host refused {} MiB of guest memory", .bytes >> 20)]
    Map {
        /// Bytes asked for.
        bytes: u64,
        /// What the system said.
        #[source]
        source: FromRangesError,
    },
    /// memfd_create or ftruncate refused.
    #[error("the host refused a file in memory of {} MiB", .bytes >> 20)]
    File {
        /// Bytes asked for.
        bytes: u64,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// madvise refused.
    #[error("the host refused to set the huge-page advice on guest memory")]
    Advice(#[source] std::io::Error),
    /// madvise refused.
    #[error(
        "the host refused to populate {} MiB of guest memory: ask for less or free some (Linux 5.14 is the least)",
        .bytes >> 20
    )]
    Populate {
        /// Bytes asked for.
        bytes: u64,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}

/// A size of guest memory that can work: at least 16 MiB, a multiple of 2 MiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MemorySize(u64);

impl MemorySize {
    /// The least size, in bytes.
    pub const MIN: u64 = 16 * MIB;
    /// Every size is a multiple of this, in bytes.
    pub const ALIGN: u64 = 2 * MIB;

    /// `bytes` as a size of guest memory on a host that has `available` bytes to give.
    ///
    /// # Errors
    /// [`MemoryError::TooSmall`], [`MemoryError::Unaligned`] or [`MemoryError::TooLarge`].
    pub fn new(bytes: u64, available: u64) -> Result<Self, MemoryError> {
        if bytes < Self::MIN {
            Err(MemoryError::TooSmall { bytes })
        } else if !bytes.is_multiple_of(Self::ALIGN) {
            Err(MemoryError::Unaligned { bytes })
        } else if bytes > available {
            Err(MemoryError::TooLarge { bytes, available })
        } else {
            Ok(Self(bytes))
        }
    }

    /// A number of bytes from text such as `64MiB`, `64M`, `2G` or `16777216`; units are binary.
    ///
    /// # Errors
    /// [`MemoryError::Syntax`].
    pub fn parse_bytes(text: &str) -> Result<u64, MemoryError> {
        let syntax = || MemoryError::Syntax(text.to_owned());
        let trimmed = text.trim();
        let digits = trimmed.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = trimmed.split_at(digits);
        let number: u64 = number.parse().map_err(|_| syntax())?;
        let shift = match unit.trim().to_ascii_lowercase().as_str() {
            "" | "b" => 0,
            "k" | "kib" => 10,
            "m" | "mib" => 20,
            "g" | "gib" => 30,
            _ => return Err(syntax()),
        };
        number.checked_mul(1 << shift).ok_or_else(syntax)
    }

    /// The size in bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.0
    }

    /// Guest frames from GPA 0 to the end of RAM, the hole below 4 GiB included.
    #[must_use]
    pub const fn frames(self) -> u64 {
        let end = if self.0 <= LOW_RAM_END {
            self.0
        } else {
            HIGH_RAM_START + self.0 - LOW_RAM_END
        };
        end / PAGE_SIZE as u64
    }

    const fn low_end(self) -> u64 {
        if self.0 < LOW_RAM_END {
            self.0
        } else {
            LOW_RAM_END
        }
    }

    /// The ranges of RAM, one after the other in a file that was made for them.
    fn ranges_of_file(self) -> Result<Vec<(GuestAddress, usize, Option<FileOffset>)>, MemoryError> {
        let file = sys::memfd(c"underfoot-guest", self.0).map_err(|source| MemoryError::File {
            bytes: self.0,
            source,
        })?;
        let file = Arc::new(file);
        let mut start = 0;
        Ok(self
            .ranges()
            .into_iter()
            .map(|(gpa, len)| {
                let offset = FileOffset::from_arc(Arc::clone(&file), start);
                start += len as u64;
                (gpa, len, Some(offset))
            })
            .collect())
    }

    fn ranges(self) -> Vec<(GuestAddress, usize)> {
        let low = self.low_end();
        let mut ranges = vec![(GuestAddress(0), low as usize)];
        if self.0 > low {
            ranges.push((GuestAddress(HIGH_RAM_START), (self.0 - low) as usize));
        }
        ranges
    }
}

impl std::fmt::Display for MemorySize {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}MiB", self.0 / MIB)
    }
}

/// What guest memory lies in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Backing {
    /// Private anonymous memory, advised against huge pages.
    #[default]
    Small,
    /// Private anonymous memory, advised to lie in huge pages.
    Huge,
    /// One file in memory (memfd_create(2)), mapped shared.
    File,
}

/// One mapped range of RAM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RamRange {
    /// Guest physical address of its first byte.
    pub gpa: u64,
    /// Host virtual address of its first byte, in this process.
    pub hva: u64,
    /// Bytes.
    pub len: u64,
}

/// The guest's RAM, and the shared region at the top of its low part.
#[derive(Clone, Debug)]
pub struct GuestRam {
    memory: Arc<GuestMemoryMmap>,
    size: MemorySize,
    cpus: u32,
    layout: Layout,
}

impl GuestRam {
    /// Maps `size` of RAM from GPA 0 to 3 GiB and on from 4 GiB, and sets the shared region for
    /// `cpus` vCPUs aside.
    ///
    /// # Errors
    /// [`MemoryError::SharedTooLarge`], [`MemoryError::Map`] or [`MemoryError::Advice`].
    pub fn new(size: MemorySize, cpus: u32, backing: Backing) -> Result<Self, MemoryError> {
        let layout = Layout::new(size.frames(), cpus);
        let shared = layout.size as u64;
        let left = size.low_end().saturating_sub(shared);
        if left < LEAST_LEFT {
            let bytes = size.bytes();
            return Err(MemoryError::SharedTooLarge {
                cpus,
                shared,
                left,
                bytes,
            });
        }
        let memory = match backing {
            Backing::Small | Backing::Huge => GuestMemoryMmap::from_ranges(&size.ranges()),
            Backing::File => GuestMemoryMmap::from_ranges_with_files(size.ranges_of_file()?),
        };
        let memory = memory.map_err(|source| MemoryError::Map {
            bytes: size.bytes(),
            source,
        })?;
        for region in memory.iter() {
            sys::advise_huge_pages(region, backing == Backing::Huge)
                .map_err(MemoryError::Advice)?;
        }
        Ok(Self {
            memory: Arc::new(memory),
            size,
            cpus,
            layout,
        })
    }

    /// Gives all of it frames now, so that no page is touched for the first time later on.
    ///
    /// # Errors
    /// [`MemoryError::Populate`].
    pub fn populate(&self) -> Result<(), MemoryError> {
        let bytes = self.size.bytes();
        let mut regions = self.memory.iter();
        regions
            .try_for_each(sys::populate)
            .map_err(|source| MemoryError::Populate { bytes, source })
    }

    /// The mapped memory.
    #[must_use]
    pub fn memory(&self) -> &Arc<GuestMemoryMmap> {
        &self.memory
    }

    /// Its size.
    #[must_use]
    pub const fn size(&self) -> MemorySize {
        self.size
    }

    /// vCPUs that the shared region was made for.
    #[must_use]
    pub const fn cpus(&self) -> u32 {
        self.cpus
    }

    /// The shared region's layout.
    #[must_use]
    pub const fn layout(&self) -> Layout {
        self.layout
    }

    /// Guest physical address of the shared region, page-aligned.
    #[must_use]
    pub const fn shared_gpa(&self) -> u64 {
        self.size.low_end() - self.layout.size as u64
    }

    /// The mapped ranges, by rising GPA, the shared region included.
    #[must_use]
    pub fn ranges(&self) -> Vec<RamRange> {
        self.memory
            .iter()
            .map(|region| RamRange {
                gpa: region.start_addr().raw_value(),
                hva: region.as_ptr() as u64,
                len: region.len(),
            })
            .collect()
    }

    /// The mapped ranges in parts that end at multiples of `size`, or whole without it. The part that is
    /// the shared region, which the host writes at any time, has nothing else in it.
    #[must_use]
    pub(crate) fn slots(&self, size: Option<u64>) -> Vec<RamRange> {
        let Some(size) = size else {
            return self.ranges();
        };
        let shared = self.shared_gpa();
        let mut slots = Vec::new();
        for range in self.ranges() {
            let end = range.gpa + range.len;
            let mut gpa = range.gpa;
            while gpa < end {
                let whole = (gpa / size + 1) * size;
                let stops = [shared, whole, end].into_iter();
                let stop = stops.filter(|&stop| stop > gpa).min().unwrap_or(end);
                slots.push(RamRange {
                    gpa,
                    hva: range.hva + (gpa - range.gpa),
                    len: stop - gpa,
                });
                gpa = stop;
            }
        }
        slots
    }

    /// What the guest may use: the mapped ranges without the shared region, as GPA and bytes.
    #[must_use]
    pub fn usable(&self) -> Vec<(u64, u64)> {
        let mut usable = vec![(0, self.shared_gpa())];
        usable.extend(
            self.ranges()
                .iter()
                .skip(1)
                .map(|range| (range.gpa, range.len)),
        );
        usable
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_checked() {
        let available = 24 * GIB;
        for (bytes, good) in [
            (0, false),
            (2 * MIB, false),
            (16 * MIB - 1, false),
            (16 * MIB, true),
            (17 * MIB, false),
            (18 * MIB, true),
            (64 * MIB, true),
            (8 * GIB, true),
            (available, true),
            (available + 2 * MIB, false),
            (u64::MAX, false),
        ] {
            assert_eq!(MemorySize::new(bytes, available).is_ok(), good, "{bytes}");
        }
    }

    #[test]
    fn populated_memory_is_zeroed_and_resident() {
        let size = MemorySize::new(MemorySize::MIN, u64::MAX).unwrap();
        let ram = GuestRam::new(size, 1, Backing::Small).unwrap();
        let resident = || {
            let region = ram.memory().iter().next().unwrap();
            let mut pages = vec![0u8; region.len() as usize / underfoot_abi::PAGE_SIZE];
            // SAFETY: the range is mapped, and a byte for each page of it is there to be written.
            let result = unsafe {
                libc::mincore(
                    region.as_ptr().cast(),
                    region.len() as usize,
                    pages.as_mut_ptr(),
                )
            };
            assert_eq!(result, 0);
            pages.iter().filter(|page| *page & 1 == 1).count() as u64
        };
        assert_eq!(resident(), 0);
        ram.populate().unwrap();
        assert_eq!(resident(), size.frames());
    }

    #[test]
    fn messages_name_value_bound_and_remedy() {
        let message = |bytes| MemorySize::new(bytes, GIB).unwrap_err().to_string();
        assert_eq!(
            message(MIB),
            "memory size 1048576 bytes is below the least of 16 MiB: ask for 16MiB or more"
        );
        assert!(message(33 * MIB).ends_with("the nearest below is 32 MiB"));
        assert!(message(2 * GIB).contains("2048 MiB is more than the 1024 MiB"));
    }

    #[test]
    fn text_is_parsed() {
        for (text, bytes) in [
            ("64MiB", Some(64 * MIB)),
            ("64m", Some(64 * MIB)),
            (" 2 GiB ", Some(2 * GIB)),
            ("16777216", Some(16 * MIB)),
            ("", None),
            ("MiB", None),
            ("-1M", None),
            ("64MB", None),
            ("99999999999G", None),
        ] {
            assert_eq!(MemorySize::parse_bytes(text).ok(), bytes, "{text}");
        }
    }

    #[test]
    fn the_hole_below_four_gib_stays_free() {
        let size = MemorySize::new(8 * GIB, 24 * GIB).unwrap();
        let ram = GuestRam::new(size, 2, Backing::Small).unwrap();
        let ranges: Vec<_> = ram.ranges().iter().map(|r| (r.gpa, r.len)).collect();
        assert_eq!(ranges, [(0, 3 * GIB), (4 * GIB, 5 * GIB)]);
        assert_eq!(size.frames(), 9 * GIB / PAGE_SIZE as u64);
        assert_eq!(ram.shared_gpa() + ram.layout().size as u64, 3 * GIB);
        assert_eq!(ram.usable(), [(0, ram.shared_gpa()), (4 * GIB, 5 * GIB)]);
    }

    #[test]
    fn slots_have_every_page_once_and_the_shared_region_is_by_itself() {
        for (bytes, size) in [
            (64 * MIB, 16 * MIB),
            (18 * MIB, 2 * MIB),
            (5 * GIB, GIB),
            (32 * MIB, GIB),
        ] {
            let size_of = MemorySize::new(bytes, u64::MAX).unwrap();
            let ram = GuestRam::new(size_of, 2, Backing::Small).unwrap();
            assert_eq!(ram.slots(None), ram.ranges());
            let slots = ram.slots(Some(size));
            for range in ram.ranges() {
                let mut next = range.gpa;
                for slot in slots
                    .iter()
                    .filter(|slot| (range.gpa..range.gpa + range.len).contains(&slot.gpa))
                {
                    assert_eq!((slot.gpa, slot.hva), (next, range.hva + (next - range.gpa)));
                    assert!(slot.len > 0 && slot.len <= size && slot.len.is_multiple_of(0x1000));
                    next += slot.len;
                }
                assert_eq!(next, range.gpa + range.len);
            }
            let shared = (ram.shared_gpa(), ram.layout().size as u64);
            assert!(
                slots.iter().any(|slot| (slot.gpa, slot.len) == shared),
                "{slots:?}"
            );
        }
    }

    #[test]
    fn a_shared_region_that_leaves_too_little_is_refused() {
        let size = MemorySize::new(16 * MIB, GIB).unwrap();
        assert!(GuestRam::new(size, 2, Backing::Small).is_ok());
        let error = GuestRam::new(size, 64, Backing::Small).unwrap_err();
        assert!(
            matches!(error, MemoryError::SharedTooLarge { cpus: 64, .. }),
            "{error}"
        );
    }
}
