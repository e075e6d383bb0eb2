//! What a node waits for, as one word.

use super::Node;

/// The low bits of a word are the node's number.
const KIND_SHIFT: u32 = 16;
const KIND_MASK: u64 = 0xff;
const SEQUENCE_SHIFT: u32 = 24;

/// What a node waits for, if for anything, and how often that has changed: one word, so that it is read
/// whole.
///
/// Bits 0 to 15 are the number of the node that is waited for, 16 to 23 its kind, from 1 (the order of
/// [`Node`]'s variants; 0 for none), 24 to 63 the sequence. It comes round after 2⁴⁰ changes, which take
/// longer than any two looks lie apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Edge(u64);

impl Edge {
    /// The `sequence`th edge of a node, which waits for `to`.
    #[must_use]
    pub const fn new(sequence: u64, to: Option<Node>) -> Self {
        let to = match to {
            Some(node) => {
                let (kind, nth) = node.parts();
                (kind as u64 + 1) << KIND_SHIFT | nth as u64
            }
            None => 0,
        };
        Self(sequence << SEQUENCE_SHIFT | to)
    }

    /// The edge that is in `word`, whoever wrote it.
    #[must_use]
    pub const fn from_word(word: u64) -> Self {
        Self(word)
    }

    /// The word that it is.
    #[must_use]
    pub const fn word(self) -> u64 {
        self.0
    }

    /// What is waited for. `None` if nothing, and if the word names a kind that there is not.
    #[must_use]
    pub const fn to(self) -> Option<Node> {
        match (self.0 >> KIND_SHIFT & KIND_MASK) as usize {
            0 => None,
            kind => Node::from_parts(kind - 1, self.0 as u16),
        }
    }

    /// The edge after it.
    #[must_use]
    pub const fn next(self, to: Option<Node>) -> Self {
        Self::new((self.0 >> SEQUENCE_SHIFT).wrapping_add(1), to)
    }
}
