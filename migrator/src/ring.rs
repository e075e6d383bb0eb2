//! Positions in a ring of page slots: which hold a frame, and which are empty.

/// A run of slots without a wrap in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Piece {
    /// The first slot.
    pub(crate) slot: usize,
    /// How many.
    pub(crate) pages: usize,
}

/// Slots `tail..head` (counted without end, taken modulo the size) hold a frame, the oldest at
/// `tail`; the rest are empty. Frames enter at the head and leave at the tail.
#[derive(Clone, Debug)]
pub(crate) struct Ring {
    slots: u64,
    tail: u64,
    head: u64,
}

impl Ring {
    /// A ring of `slots` slots, the first `full` of which hold a frame.
    pub(crate) fn new(slots: u32, full: u32) -> Self {
        assert!(full <= slots, "{full} frames in {slots} slots");
        Self {
            slots: slots.into(),
            tail: 0,
            head: full.into(),
        }
    }

    /// Empty slots.
    pub(crate) fn empty(&self) -> u32 {
        (self.slots - (self.head - self.tail)) as u32
    }

    /// Slots that hold a frame.
    pub(crate) fn full(&self) -> u32 {
        (self.head - self.tail) as u32
    }

    /// The position of the oldest frame, counted without end.
    pub(crate) fn tail(&self) -> u64 {
        self.tail
    }

    /// The position at which the next frame enters, counted without end.
    pub(crate) fn head(&self) -> u64 {
        self.head
    }

    /// `pages` frames from the `skip`th oldest on.
    pub(crate) fn oldest(&self, skip: u32, pages: u32) -> impl Iterator<Item = Piece> {
        assert!(skip + pages <= self.full(), "that many frames are here");
        self.pieces(self.tail + u64::from(skip), pages)
    }

    /// `pages` empty slots from the `skip`th on, in the order in which frames will enter.
    pub(crate) fn vacant(&self, skip: u32, pages: u32) -> impl Iterator<Item = Piece> {
        assert!(skip + pages <= self.empty(), "that many slots are empty");
        self.pieces(self.head + u64::from(skip), pages)
    }

    /// `pages` frames entered at the head.
    pub(crate) fn push(&mut self, pages: u32) {
        assert!(pages <= self.empty(), "frames enter empty slots");
        self.head += u64::from(pages);
    }

    /// `pages` frames left at the tail.
    pub(crate) fn pop(&mut self, pages: u32) {
        assert!(pages <= self.full(), "only frames leave");
        self.tail += u64::from(pages);
    }

    fn pieces(&self, position: u64, pages: u32) -> impl Iterator<Item = Piece> + use<> {
        let slot = (position % self.slots) as usize;
        let first = (self.slots as usize - slot).min(pages as usize);
        [
            Piece { slot, pages: first },
            Piece {
                slot: 0,
                pages: pages as usize - first,
            },
        ]
        .into_iter()
        .filter(|piece| piece.pages > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    fn slots(pieces: impl Iterator<Item = Piece>) -> Vec<usize> {
        pieces
            .flat_map(|piece| piece.slot..piece.slot + piece.pages)
            .collect()
    }

    proptest! {
        #[test]
        fn behaves_like_a_queue_of_slots(
            size in 1u32..20,
            fill in 0u32..20,
            steps in prop::collection::vec((any::<bool>(), 0u32..20), 0..60),
        ) {
            let fill = fill.min(size);
            let mut ring = Ring::new(size, fill);
            let mut full: VecDeque<usize> = (0..fill as usize).collect();
            let mut empty: VecDeque<usize> = (fill as usize..size as usize).collect();
            for (push, pages) in steps {
                if push {
                    let pages = pages.min(ring.empty());
                    prop_assert_eq!(slots(ring.vacant(0, pages)),
                        empty.iter().copied().take(pages as usize).collect::<Vec<_>>());
                    ring.push(pages);
                    full.extend(empty.drain(..pages as usize));
                } else {
                    let pages = pages.min(ring.full());
                    prop_assert_eq!(slots(ring.oldest(0, pages)),
                        full.iter().copied().take(pages as usize).collect::<Vec<_>>());
                    ring.pop(pages);
                    empty.extend(full.drain(..pages as usize));
                }
                prop_assert_eq!(ring.full() as usize, full.len());
                prop_assert_eq!(ring.empty() as usize, empty.len());
            }
        }
    }
}
