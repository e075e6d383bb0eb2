//! Guest memory: how much, where, and what the guest is told about it.

mod error;
mod size;

pub use error::MemoryError;
pub use size::MemorySize;

use crate::sys;
use std::sync::Arc;
use underfoot_abi::Layout;
use vm_memory::{Address, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion};

const MIB: u64 = 1 << 20;

/// What must remain of low RAM for the guest itself once the shared region is taken.
const LEAST_LEFT: u64 = 8 * MIB;

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
    use underfoot_abi::PAGE_SIZE;

    const GIB: u64 = 1 << 30;

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
