//! The parts of guest memory that the hypervisor knows one by one.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use crate::PageRange;
use crate::regions::Regions;

/// The largest slot that can be moved, in pages of 4 KiB: 16 GiB.
pub const MAX_SLOT_PAGES: u32 = 1 << 22;

/// Slots of guest memory, each of which the hypervisor can be told to forget and to know again, as KVM's memory slots;
/// what [`BackendKind::Memslot`](crate::BackendKind::Memslot) moves.
///
/// Both calls are made with every vCPU stopped. A slot's host address never changes: what lies there does, between the
/// two.
pub trait MemorySlots: Send + Sync {
    /// Where they are. Asked once.
    fn ranges(&self) -> Vec<PageRange>;

    /// Has the hypervisor forget a slot, and every mapping of its pages with it.
    ///
    /// # Errors
    /// Whatever it says; then it knows the slot as before.
    fn remove(&self, slot: PageRange) -> io::Result<()>;

    /// Has it know a slot again that was removed.
    ///
    /// # Errors
    /// Whatever it says; then it still does not know it.
    fn restore(&self, slot: PageRange) -> io::Result<()>;
}

/// Slots that cannot be moved.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SlotError {
    /// None were given.
    #[error("the backend memslot moves whole slots, and none were given by Builder::memory_slots")]
    Missing,
    /// Pages outside of guest memory, or of several regions of it.
    #[error("the slot at {slot} does not lie in one region of guest memory; give slots that do")]
    Outside {
        /// The slot.
        slot: PageRange,
    },
    /// No window is as large.
    #[error(
        "the slot at {slot} is larger than the {MAX_SLOT_PAGES} pages that one window can have; give smaller ones"
    )]
    TooLarge {
        /// The slot.
        slot: PageRange,
    },
    /// A page in two of them.
    #[error("the slots at {one} and {other} overlap; give each page to one of them")]
    Overlap {
        /// A slot.
        one: PageRange,
        /// Another.
        other: PageRange,
    },
    /// Each has a page that is left out.
    #[error(
        "none of the {slots} slots can move, as Builder::exclude leaves a page of each out; give such pages a slot of \
         their own"
    )]
    AllExcluded {
        /// How many there are.
        slots: usize,
    },
    /// There is no memory for holes.
    #[error("cannot populate the slot at {slot}; is there enough memory?")]
    Populate {
        /// The slot.
        slot: PageRange,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

/// The slots, by page number.
pub(crate) struct SlotTable {
    pub(crate) slots: Arc<dyn MemorySlots>,
    /// Disjoint, in order.
    bounds: Vec<Range<u32>>,
}

impl SlotTable {
    pub(crate) fn new(slots: Arc<dyn MemorySlots>, regions: &Regions) -> Result<Self, SlotError> {
        let mut ranges = slots.ranges();
        ranges.sort_by_key(|slot| slot.start);
        for pair in ranges.windows(2) {
            if let &[one, other] = pair
                && one.overlaps(other)
            {
                return Err(SlotError::Overlap { one, other });
            }
        }
        let bounds = ranges
            .into_iter()
            .map(|slot| {
                if slot.pages > MAX_SLOT_PAGES {
                    return Err(SlotError::TooLarge { slot });
                }
                let outside = SlotError::Outside { slot };
                let Some(pages) = regions.numbers(slot) else {
                    return Err(outside);
                };
                match pages.end <= regions.of(pages.start).end() {
                    true => Ok(pages),
                    false => Err(outside),
                }
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { slots, bounds })
    }

    /// The pages of the slot that has a page.
    pub(crate) fn of(&self, page: u32) -> Option<Range<u32>> {
        let after = self.bounds.partition_point(|slot| slot.start <= page);
        let slot = self.bounds.get(after.checked_sub(1)?)?;
        slot.contains(&page).then(|| slot.clone())
    }

    /// Pages of the largest.
    pub(crate) fn largest(&self) -> u32 {
        self.bounds
            .iter()
            .map(|slot| slot.end - slot.start)
            .max()
            .unwrap_or(0)
    }

    /// Gives every page of the slots that have none of the `excluded` ones a frame: a slot is copied whole, and what nobody
    /// has touched yet would be a hole in its middle.
    pub(crate) fn populate(
        &self,
        regions: &Regions,
        excluded: &[PageRange],
    ) -> Result<(), SlotError> {
        let mut any = false;
        for pages in &self.bounds {
            let region = regions.of(pages.start);
            let slot = PageRange::new(region.gfn(pages.start), pages.end - pages.start);
            if excluded.iter().any(|range| range.overlaps(slot)) {
                continue;
            }
            any = true;
            regions
                .populate(pages.clone())
                .map_err(|source| SlotError::Populate { slot, source })?;
        }
        match any {
            true => Ok(()),
            false => Err(SlotError::AllExcluded {
                slots: self.bounds.len(),
            }),
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::Gfn;
    use vm_memory::{GuestAddress, GuestMemoryMmap};

    struct At(&'static [(u64, u32)]);

    impl MemorySlots for At {
        fn ranges(&self) -> Vec<PageRange> {
            let range = |&(gfn, pages)| PageRange::new(Gfn(gfn), pages);
            self.0.iter().map(range).collect()
        }

        fn remove(&self, _: PageRange) -> io::Result<()> {
            Ok(())
        }

        fn restore(&self, _: PageRange) -> io::Result<()> {
            Ok(())
        }
    }

    fn table(slots: &'static [(u64, u32)]) -> Result<SlotTable, SlotError> {
        let ranges = [
            (GuestAddress(0), 0x8000),
            (GuestAddress(0x8000), 0x4000),
            (GuestAddress(0x20000), 0x4000),
        ];
        let memory = GuestMemoryMmap::<()>::from_ranges(&ranges).expect("memory");
        SlotTable::new(
            Arc::new(At(slots)),
            &Regions::new(&memory, false).expect("regions"),
        )
    }

    #[test]
    fn pages_are_found_in_their_slot_or_in_none() {
        let table = table(&[(0x20, 4), (0, 2), (4, 4)]).expect("sound");
        assert_eq!(table.largest(), 4);
        for (page, slot) in [
            (0, Some(0..2)),
            (1, Some(0..2)),
            (2, None),
            (4, Some(4..8)),
            (7, Some(4..8)),
            (8, None),
            (12, Some(12..16)),
            (15, Some(12..16)),
            (16, None),
        ] {
            assert_eq!(table.of(page), slot, "{page}");
        }
    }

    #[test]
    fn slots_that_cannot_be_are_named() {
        for (slots, words) in [
            (
                &[(0u64, 9u32)][..],
                "gfn 0x0 and 9 pages does not lie in one region",
            ),
            (&[(0x10, 1)], "gfn 0x10 and 1 pages does not lie"),
            (&[(0, 0)], "gfn 0x0 and 0 pages does not lie"),
            (&[(u64::MAX, 2)], "does not lie"),
            (
                &[(0, 4), (3, 1)],
                "gfn 0x0 and 4 pages and gfn 0x3 and 1 pages overlap",
            ),
            (&[(0, MAX_SLOT_PAGES + 1)], "larger than the 4194304 pages"),
        ] {
            let message = table(slots).err().expect("refused").to_string();
            assert!(message.contains(words), "{message}");
        }
    }
}
