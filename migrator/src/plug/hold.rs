//! What keeps a block as it is.

use super::block::{Block, Reader};
use crate::lock_order::{Class, Held, OrderedReadGuard, keep};

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
        /// Who changes blocks waits for it.
        _held: Held,
    },
    /// The table.
    Table {
        /// Held until it is dropped.
        _guard: OrderedReadGuard<'a>,
    },
    /// Nothing: its block may be changed meanwhile.
    Sequence(SequenceCheck<'a>),
}

/// A block and its sequence before the page was claimed.
pub(crate) struct SequenceCheck<'a> {
    pub(super) block: &'a Block,
    pub(super) sequence: u64,
}

impl<'a> FaultHold<'a> {
    pub(super) fn of_block(block: Hold<'a>) -> Self {
        // The way in does not wait.
        let held = keep(Class::Served);
        Self::Block {
            _hold: block,
            _held: held,
        }
    }

    /// Whether the block still is what was looked up. To be asked with the page claimed: from then on it stays so until
    /// the page is let go.
    pub(crate) fn is_current(&self) -> bool {
        match self {
            Self::Sequence(check) => check.block.is_unchanged(check.sequence),
            _ => true,
        }
    }
}
