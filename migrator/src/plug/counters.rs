//! What plugging and unplugging did, and what it did to faults.

use crate::counters::Cell;

/// What became of the faults that were looked up, by what they met.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FaultLockCounts {
    /// They got what they asked for at once: the block's lock, the table's, or an even sequence.
    pub fast: u64,
    /// They waited for the table's lock: since their block was being changed or was unplugged with
    /// [`FaultLock::Region`](crate::FaultLock::Region), since any block was with [`FaultLock::Table`](crate::FaultLock::Table).
    pub fell_back: u64,
    /// The sequence had changed when their page was claimed ([`FaultLock::Sequence`](crate::FaultLock::Sequence)): whoever
    /// waits was woken to try again.
    pub retried: u64,
    /// The sequence was odd: whoever waits is woken when the change is over.
    pub left: u64,
    /// Their block was unplugged: nobody waits there.
    pub gone: u64,
}

impl FaultLockCounts {
    fn add(&mut self, other: &Self) {
        self.fast += other.fast;
        self.fell_back += other.fell_back;
        self.retried += other.retried;
        self.left += other.left;
        self.gone += other.gone;
    }
}

/// What plugging and unplugging did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PlugCounters {
    /// Blocks plugged.
    pub plugged: u64,
    /// Blocks unplugged.
    pub unplugged: u64,
    /// Unplugs that were given up, as a window stayed open for too long.
    pub busy: u64,
    /// Integrity errors: pages that were still being moved or served when everybody should have left their block, which
    /// was kept then.
    pub in_use: u64,
    /// Faults.
    pub faults: FaultLockCounts,
}

/// The counts of one fault handler: one writer, any number of readers.
#[derive(Default)]
pub(crate) struct FaultCells {
    pub(super) fast: Cell,
    pub(super) fell_back: Cell,
    pub(super) left: Cell,
    pub(super) gone: Cell,
    /// Counted by the handler, which finds out.
    pub(crate) retried: Cell,
}

impl FaultCells {
    pub(super) fn add_to(&self, sum: &mut FaultLockCounts) {
        sum.add(&FaultLockCounts {
            fast: self.fast.get(),
            fell_back: self.fell_back.get(),
            retried: self.retried.get(),
            left: self.left.get(),
            gone: self.gone.get(),
        });
    }
}
