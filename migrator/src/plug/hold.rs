//! What keeps a block as it is.

use super::block::{Block, Reader};
use crate::sync::RwLockReadGuard;

/// Somebody is in a block, until this is dropped.
pub(crate) struct Hold<'a> {
    /// None in a busted variant.
    block: Option<&'a Block>,
    reader: Reader,
}

impl<'a> Hold<'a> {
    pub(super) fn try_new(block: &'a Block, reader: Reader) -> Option<Self> {
        // Made only then: dropping one leaves the block.
        block.try_enter(reader).then(|| Self {
            block: Some(block),
            reader,
        })
    }

    /// What a busted variant takes for one.
    pub(super) fn of_nothing(reader: Reader) -> Self {
        let block = None;
        Self { block, reader }
    }
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        if let Some(block) = self.block {
            block.leave(self.reader);
        }
    }
}

/// What a fault holds while it is served.
pub(crate) enum FaultHold<'a> {
    /// Its block.
    Block {
        /// Held until it is dropped.
        _hold: Hold<'a>,
    },
    /// The table.
    Table {
        /// Held until it is dropped.
        _guard: RwLockReadGuard<'a, ()>,
    },
    /// Nothing: its block may be changed meanwhile.
    Sequence(SequenceCheck<'a>),
}

/// A block and its sequence before the page was claimed.
pub(crate) struct SequenceCheck<'a> {
    pub(super) block: &'a Block,
    pub(super) sequence: u64,
}

impl FaultHold<'_> {
    /// Whether the block still is what was looked up. To be asked with the page claimed: from then on it stays so until
    /// the page is let go.
    pub(crate) fn is_current(&self) -> bool {
        match self {
            Self::Sequence(check) => check.block.is_unchanged(check.sequence),
            _ => true,
        }
    }
}
