//! The state of one block: a word for who is in it, and a sequence count of its changes.

use crate::sync::{AtomicU64, Ordering, fence};

const PLUGGED: u64 = 1;
/// No window begins.
const CLOSED: u64 = 1 << 1;
/// No fault is served either.
const CHANGING: u64 = 1 << 2;
/// One fault that is being served, and one window: 24 and 32 bits for their counts.
const FAULT: u64 = 1 << 8;
const WINDOW: u64 = 1 << 32;
const FAULTS: u64 = WINDOW - FAULT;

/// Who is in a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reader {
    /// A fault that is being served.
    Fault,
    /// A window that is open in it.
    Window,
}

impl Reader {
    fn unit(self) -> u64 {
        match self {
            Self::Fault => FAULT,
            Self::Window => WINDOW,
        }
    }

    /// The states that matter to it.
    fn looks_at(self) -> u64 {
        match self {
            Self::Fault => PLUGGED | CHANGING,
            Self::Window => PLUGGED | CLOSED | CHANGING,
        }
    }
}

/// Who plugs and unplugs is alone: the table's mutex for changes sees to that.
pub(super) struct Block {
    word: AtomicU64,
    /// Odd while the block is being changed.
    sequence: AtomicU64,
}

impl Block {
    pub(super) fn plugged() -> Self {
        Self {
            word: AtomicU64::new(PLUGGED),
            sequence: AtomicU64::new(0),
        }
    }

    pub(super) fn is_plugged(&self) -> bool {
        // Acquire pairs with the release in `end_change`: the words of its pages are those of now.
        self.word.load(Ordering::Acquire) & PLUGGED != 0
    }

    /// Enters, unless that is not allowed now.
    pub(super) fn try_enter(&self, reader: Reader) -> bool {
        let mut word = self.word.load(Ordering::Relaxed);
        while word & reader.looks_at() == PLUGGED {
            // Looked at and entered in one step. Acquire pairs with the release in `end_change`.
            match self.word.compare_exchange_weak(
                word,
                word + reader.unit(),
                Ordering::Acquire,
                Ordering::Relaxed,
            ) {
                Ok(_) => return true,
                Err(now) => word = now,
            }
        }
        false
    }

    /// A mutation: enters whatever the word says by now.
    #[cfg(all(test, loom))]
    pub(super) fn enter_blindly(&self, reader: Reader) {
        self.word.fetch_add(reader.unit(), Ordering::Acquire);
    }

    pub(super) fn leave(&self, reader: Reader) {
        // Release pairs with the acquire in `is_empty_of`: what was done in the block is over.
        let before = self.word.fetch_sub(reader.unit(), Ordering::Release);
        debug_assert!(
            before >= reader.unit(),
            "{reader:?} left without having entered"
        );
    }

    pub(super) fn is_empty_of(&self, reader: Reader) -> bool {
        let word = self.word.load(Ordering::Acquire);
        match reader {
            Reader::Fault => word & FAULTS == 0,
            Reader::Window => word < WINDOW,
        }
    }

    /// Lets no more windows in; whether it did before.
    pub(super) fn close(&self) -> bool {
        self.word.fetch_or(CLOSED, Ordering::Relaxed) & CLOSED == 0
    }

    /// Lets windows in again.
    pub(super) fn open(&self) {
        self.word.fetch_and(!CLOSED, Ordering::Relaxed);
    }

    /// Lets no more faults in. Those that go by the sequence are kept out by what they find when they look again.
    pub(super) fn begin_change(&self) {
        self.word.fetch_or(CHANGING, Ordering::Relaxed);
        let sequence = self.sequence.load(Ordering::Relaxed);
        debug_assert!(sequence.is_multiple_of(2), "changed by two at once");
        self.sequence.store(sequence + 1, Ordering::Relaxed);
        // Pairs with the fence in `is_unchanged`: a fault finds the new sequence there, or the page that it claimed
        // before is found by whoever changes the block.
        fence(Ordering::SeqCst);
    }

    /// The change is over. Nobody is in the block.
    pub(super) fn end_change(&self, plugged: bool, closed: bool) {
        let word = (u64::from(plugged) * PLUGGED) | (u64::from(closed) * CLOSED);
        // Release pairs with the acquire in `try_enter`, `is_plugged` and `sequence`.
        self.word.store(word, Ordering::Release);
        let sequence = self.sequence.load(Ordering::Relaxed);
        self.sequence.store(sequence + 1, Ordering::Release);
    }

    /// The sequence, unless the block is being changed.
    pub(super) fn sequence(&self) -> Option<u64> {
        let sequence = self.sequence.load(Ordering::Acquire);
        sequence.is_multiple_of(2).then_some(sequence)
    }

    /// Whether the block is as it was when its sequence was read. To be asked with the page claimed.
    pub(super) fn is_unchanged(&self, sequence: u64) -> bool {
        // Pairs with the fence in `begin_change`.
        fence(Ordering::SeqCst);
        self.sequence.load(Ordering::Relaxed) == sequence
    }
}
