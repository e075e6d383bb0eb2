//! Where the guest's own mover says that it put pages, and where the host finds them.

use crate::names::Variant;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::Ordering::Relaxed;
use underfoot_abi::{PAGE_SIZE, POISON_LIMBO, PageKind, WindowRecord};
use underfoot_vmm::{GuestRam, Machine, SharedRegion};
use vm_memory::{Bytes, GuestAddress};

const PAGE: u64 = PAGE_SIZE as u64;

/// What the guest said of its moves, as the last word on each page. Numbers of pages and frames.
#[derive(Debug, Default)]
pub struct GuestFrames {
    places: HashMap<u64, (PageKind, u64)>,
    /// Frames that were left, and have not been moved to since.
    left: HashSet<u64>,
    /// Records that name what is not there.
    senseless: u64,
}

/// What the host found by itself when the guest was at rest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Compared {
    /// Pages that the guest's page tables map to the frame of their last move.
    pub verified: BTreeMap<PageKind, u64>,
    /// Pages that they map elsewhere, or nowhere; and records that make no sense.
    pub misplaced: u64,
    /// Frames that are mapped by two pages: two that moved there, or the one that moved there and the one
    /// that lay there first.
    pub shared: u64,
    /// Frames left for good that were looked at.
    pub limbo: u64,
    /// Those of them that do not hold the pattern that they were filled with.
    pub written: u64,
}

impl GuestFrames {
    /// Notes a move, if the guest has such a page, frame and kind.
    pub fn note(&mut self, shared: &SharedRegion, record: &WindowRecord) {
        let Some(to) = record.frame else { return };
        let there = |number| shared.page_byte(number).is_some();
        match PageKind::from_u8(record.kind) {
            Some(kind) if there(record.page) && there(to) => self.move_to(record.page, kind, to),
            _ => self.senseless += 1,
        }
    }

    fn move_to(&mut self, page: u64, kind: PageKind, to: u64) {
        let from = self.places.insert(page, (kind, to));
        self.left.insert(from.map_or(page, |(_, frame)| frame));
        self.left.remove(&to);
    }

    /// Walks the page tables that the guest named, which is at rest, for every page that was moved, and
    /// reads the frames that they left, unless its `variant` does not fill these.
    #[must_use]
    pub fn compare(mut self, machine: &Machine, variant: Variant) -> Compared {
        let root = machine.shared().mover().root.load(Relaxed);
        if variant == Variant::NoShootdown {
            self.left.clear();
        }
        self.compare_in(machine.ram(), root)
    }

    fn compare_in(&self, ram: &GuestRam, root: u64) -> Compared {
        let frame_of = |page: u64| ram.walk(root, page * PAGE).map(|address| address / PAGE);
        let mut compared = Compared {
            misplaced: self.senseless,
            ..Compared::default()
        };
        let mut taken = HashSet::new();
        for (page, (kind, frame)) in &self.places {
            let found = frame_of(*page);
            compared.shared += u64::from(found.is_some_and(|found| !taken.insert(found)));
            if found == Some(*frame) {
                *compared.verified.entry(*kind).or_default() += 1;
            } else {
                compared.misplaced += 1;
            }
            // Whose frame it was before anything moved.
            compared.shared += u64::from(page != frame && frame_of(*frame) == Some(*frame));
        }
        for frame in &self.left {
            compared.limbo += 1;
            compared.written += u64::from(!rests(ram, *frame));
        }
        compared
    }
}

/// Whether nobody has written to the frame since it was left.
fn rests(ram: &GuestRam, frame: u64) -> bool {
    let mut words = [0; PAGE_SIZE];
    let read = ram
        .memory()
        .read_slice(&mut words, GuestAddress(frame * PAGE));
    let pattern = POISON_LIMBO.to_le_bytes();
    read.is_ok()
        && words
            .chunks_exact(pattern.len())
            .all(|word| word == pattern)
}

#[cfg(test)]
mod tests {
    use super::*;
    use underfoot_vmm::Backing;
    use underfoot_vmm::MemorySize;

    const PRESENT: u64 = 1;
    const ROOT: u64 = 0x1000;
    const LEAVES: u64 = 0x4000;

    /// Memory whose first 2 MiB are mapped to themselves.
    fn ram() -> GuestRam {
        let size = MemorySize::new(16 << 20, u64::MAX).expect("a size");
        let ram = GuestRam::new(size, 1, Backing::Small).expect("memory");
        for table in [ROOT, 0x2000, 0x3000] {
            write(&ram, table, (table + PAGE) | PRESENT);
        }
        (0..512).for_each(|page| map(&ram, page, page));
        ram
    }

    fn write(ram: &GuestRam, address: u64, word: u64) {
        let written = ram.memory().write_obj(word, GuestAddress(address));
        written.expect("in memory");
    }

    fn map(ram: &GuestRam, page: u64, frame: u64) {
        write(ram, LEAVES + page * 8, (frame * PAGE) | PRESENT);
    }

    fn bury(ram: &GuestRam, frame: u64) {
        for word in 0..PAGE / 8 {
            write(ram, frame * PAGE + word * 8, POISON_LIMBO);
        }
    }

    /// Page 20 moved to the spare frame 30, whose page is mapped no more.
    fn moved() -> (GuestRam, GuestFrames) {
        let ram = ram();
        write(&ram, LEAVES + 30 * 8, 0);
        map(&ram, 20, 30);
        bury(&ram, 20);
        let mut frames = GuestFrames::default();
        frames.move_to(20, PageKind::Slab, 30);
        (ram, frames)
    }

    #[test]
    fn what_the_guest_said_is_held_against_its_page_tables() {
        let clean = Compared {
            verified: BTreeMap::from([(PageKind::Slab, 1)]),
            limbo: 1,
            ..Compared::default()
        };
        let (ram, frames) = moved();
        assert_eq!(frames.compare_in(&ram, ROOT), clean);
        map(&ram, 30, 30);
        assert_eq!(frames.compare_in(&ram, ROOT).shared, 1);
        map(&ram, 20, 20);
        assert_eq!(frames.compare_in(&ram, ROOT).misplaced, 1);

        let (ram, frames) = moved();
        write(&ram, 20 * PAGE + 8, 7);
        assert_eq!(frames.compare_in(&ram, ROOT).written, 1);

        let (ram, mut frames) = moved();
        write(&ram, LEAVES + 31 * 8, 0);
        map(&ram, 20, 31);
        bury(&ram, 30);
        frames.move_to(20, PageKind::Slab, 31);
        let expected = Compared { limbo: 2, ..clean };
        assert_eq!(frames.compare_in(&ram, ROOT), expected);

        let (ram, mut frames) = moved();
        map(&ram, 21, 30);
        bury(&ram, 21);
        frames.move_to(21, PageKind::Slab, 30);
        assert_eq!(frames.compare_in(&ram, ROOT).shared, 1, "two in one frame");
    }
}
