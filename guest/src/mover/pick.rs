//! Which page is moved next: some kind, then some page of it, as the host's movers choose.

use super::frames::Frames;
use crate::{mm::PageAllocator, random::Random};
use underfoot_abi::{PAGE_SIZE, PageKind};

/// Pages of each kind that are known at a time.
const KNOWN: usize = 64;
/// Pages that are looked at for each that is moved.
const SCAN: usize = 256;
/// A kind has at least the share of one in so many, whatever its size: the few pages of text and
/// constants are those that every access needs.
const FLOOR_DIVISOR: usize = 4;

/// A sample of the pages of each kind.
#[derive(Clone, Debug)]
struct Sample {
    pages: [[usize; KNOWN]; PageKind::COUNT],
    counts: [usize; PageKind::COUNT],
}

impl Sample {
    const fn new() -> Self {
        Self {
            pages: [[0; KNOWN]; PageKind::COUNT],
            counts: [0; PageKind::COUNT],
        }
    }

    /// Every page of a kind is kept with the same chance (Vitter's algorithm R).
    fn add(&mut self, page: usize, kind: PageKind, random: &mut Random) {
        let (pages, count) = (
            &mut self.pages[kind as usize],
            &mut self.counts[kind as usize],
        );
        *count += 1;
        let slot = if *count <= KNOWN {
            *count - 1
        } else {
            random.below(*count)
        };
        if let Some(slot) = pages.get_mut(slot) {
            *slot = page;
        }
    }

    fn pick(&self, random: &mut Random) -> Option<(usize, PageKind)> {
        let total: usize = self.counts.iter().sum();
        let weight = |count: usize| match count {
            0 => 0,
            count => count.max(total / FLOOR_DIVISOR),
        };
        let all: usize = self.counts.iter().map(|count| weight(*count)).sum();
        if all == 0 {
            return None;
        }
        let mut number = random.below(all);
        for (kind, &count) in self.counts.iter().enumerate() {
            if number < weight(count) {
                let page = self.pages[kind][random.below(count.min(KNOWN))];
                return Some((page, PageKind::from_u8(kind as u8)?));
            }
            number -= weight(count);
        }
        None
    }
}

/// Picks pages at random, by kind, from a page map that changes: a pass over it goes on a little with
/// each pick, and what the last whole pass found is picked from.
#[derive(Clone, Debug)]
pub struct Pick {
    targets: u32,
    random: Random,
    cursor: usize,
    passed: bool,
    known: Sample,
    coming: Sample,
}

impl Pick {
    /// Nothing is known yet. `targets` are kinds by [`PageKind::bit`].
    #[must_use]
    pub const fn new(targets: u32, random: Random) -> Self {
        Self {
            targets,
            random,
            cursor: 0,
            passed: false,
            known: Sample::new(),
            coming: Sample::new(),
        }
    }

    /// The next page, and the kind that it had when it was looked at; `None` while none is known.
    pub fn next(&mut self, pages: &PageAllocator, frames: &Frames) -> Option<(usize, PageKind)> {
        self.scan(pages, frames);
        self.known.pick(&mut self.random)
    }

    /// Whether a whole pass has found no page that may move.
    #[must_use]
    pub fn has_none(&self) -> bool {
        self.passed && self.known.counts.iter().all(|count| *count == 0)
    }

    fn scan(&mut self, pages: &PageAllocator, frames: &Frames) {
        let covered = pages.covers();
        let start = covered.start + self.cursor * PAGE_SIZE;
        for page in (start..covered.end).step_by(PAGE_SIZE).take(SCAN) {
            let byte = pages.kind(page);
            let kind = byte.kind();
            if self.targets & kind.bit() != 0 && frames.may_move(page, byte) {
                self.coming.add(page, kind, &mut self.random);
            }
        }
        self.cursor += SCAN;
        if covered.start + self.cursor * PAGE_SIZE >= covered.end {
            self.cursor = 0;
            self.passed = true;
            core::mem::swap(&mut self.known, &mut self.coming);
            self.coming.counts = [0; PageKind::COUNT];
        }
    }
}
