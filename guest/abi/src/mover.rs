//! The guest as its own mover: what it is told, and what it tells.

use crate::ring::Ring;
use crate::{Histogram, PageKind};
use core::sync::atomic::AtomicU64;

/// Who moves the guest's pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Mover {
    /// The host, behind the guest's back.
    Host = 0,
    /// The guest itself: it clears entries of its own page tables.
    Guest = 1,
}

/// What the guest measures of its own moves. The discriminants index [`MoverArea::histograms`]; the
/// parts are those of the host's movers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum MoverMetric {
    /// From before the entry is cleared until the new one is visible.
    Window = 0,
    /// Of that, clearing the entry and shooting its translations down.
    Unmap = 1,
    /// Of that, the copy.
    Copy = 2,
    /// Of that, storing the new entry.
    Map = 3,
    /// From the choice of the page to the release of the lock.
    Migration = 4,
}

impl MoverMetric {
    /// All of them, by discriminant.
    pub const ALL: [Self; 5] = [
        Self::Window,
        Self::Unmap,
        Self::Copy,
        Self::Map,
        Self::Migration,
    ];

    /// The name under `histograms` in the results.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Window => "window",
            Self::Unmap => "window.unmap",
            Self::Copy => "window.copy",
            Self::Map => "window.map",
            Self::Migration => "migration",
        }
    }
}

/// Why the guest cannot move pages of `kind` itself; `None` if it can.
#[must_use]
pub const fn refusal(kind: PageKind) -> Option<&'static str> {
    match kind {
        PageKind::Reserved => Some("it is no memory of the kernel's"),
        PageKind::PageTable => Some("page tables are reached by their physical address"),
        PageKind::Descriptor => {
            Some("the processor reads it to deliver the very fault that a window causes")
        }
        PageKind::Large => Some("it is mapped by a 2 MiB entry: its pages have none of their own"),
        PageKind::Text
        | PageKind::Rodata
        | PageKind::Data
        | PageKind::Stack
        | PageKind::Slab
        | PageKind::PerCpu
        | PageKind::Free => None,
    }
}

/// Counts of the moves of one kind of page; `attempted` is the sum of the next three.
#[derive(Debug)]
#[repr(C)]
pub struct MoveCounts {
    /// Pages that were chosen.
    pub attempted: AtomicU64,
    /// Those that lie in a new frame.
    pub committed: AtomicU64,
    /// Those that were given their old frame back.
    pub aborted: AtomicU64,
    /// Those that were left alone, because they had changed or were in use by the mover.
    pub skipped: AtomicU64,
}

/// The time in which the guest had a page of its own unmapped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WindowRecord {
    /// TSC before the entry was cleared.
    pub start_tsc: u64,
    /// TSC after the new one was stored.
    pub end_tsc: u64,
    /// Number of the page: its virtual address by the page size.
    pub page: u64,
    /// The page's kind, by [`PageKind`].
    pub kind: u8,
    /// Number of the frame that it lies in now; `None` if it was given its old one back.
    pub frame: Option<u64>,
}

/// Bits of the ring's last word that hold the frame, plus one; the kind is above.
const FRAME_BITS: u32 = 56;

/// One writer (the guest's mover), one reader (the host). A full ring drops and counts.
#[repr(C)]
pub struct WindowRing(Ring<4>);

impl WindowRing {
    /// Appends a record, or counts it as dropped if the reader is a whole ring behind.
    #[inline]
    pub fn push(&self, record: WindowRecord) {
        let WindowRecord {
            start_tsc,
            end_tsc,
            page,
            kind,
            frame,
        } = record;
        let place = u64::from(kind) << FRAME_BITS | frame.map_or(0, |frame| frame + 1);
        self.0.push([start_tsc, end_tsc, page, place]);
    }

    /// Takes the oldest record. `None` when the ring is empty or makes no sense.
    #[inline]
    pub fn pop(&self) -> Option<WindowRecord> {
        let [start_tsc, end_tsc, page, place] = self.0.pop()?;
        Some(WindowRecord {
            start_tsc,
            end_tsc,
            page,
            kind: (place >> FRAME_BITS) as u8,
            frame: (place & ((1 << FRAME_BITS) - 1)).checked_sub(1),
        })
    }

    /// Records lost because the reader was too slow.
    pub fn dropped(&self) -> u64 {
        self.0.dropped()
    }
}

/// What the guest's own mover writes and the host reads. Empty where the host moves.
#[repr(C, align(4096))]
pub struct MoverArea {
    /// Physical address of the root of the page tables in which pages move.
    pub root: AtomicU64,
    /// By [`PageKind`].
    pub counts: [MoveCounts; PageKind::COUNT],
    /// Words of frames in limbo that were looked at.
    pub limbo_checked: AtomicU64,
    /// Frames in limbo that somebody had written to: a translation outlived its shootdown.
    pub stale_writes: AtomicU64,
    /// Pages, looked at when all was over, that are not mapped to the frame that is theirs.
    pub misplaced: AtomicU64,
    /// By [`MoverMetric`].
    pub histograms: [Histogram; MoverMetric::ALL.len()],
    /// Windows, drained by the host while the guest runs.
    pub windows: WindowRing,
}

const _: () = assert!(size_of::<MoverArea>().is_multiple_of(crate::PAGE_SIZE));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_index_themselves() {
        for (index, metric) in MoverMetric::ALL.into_iter().enumerate() {
            assert_eq!(metric as usize, index);
        }
    }

    #[test]
    fn some_kinds_can_be_moved_and_some_cannot() {
        let refused = PageKind::TARGETS
            .into_iter()
            .filter(|kind| refusal(*kind).is_some());
        assert_eq!(refused.count(), 3);
        assert!(refusal(PageKind::Reserved).is_some());
    }
}
