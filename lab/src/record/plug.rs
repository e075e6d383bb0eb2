//! What plugging and unplugging did.

use serde::Serialize;
use underfoot_migrator::PlugCounters;

/// Blocks of guest memory that came and went, and what became of faults meanwhile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PlugRecord {
    /// Blocks plugged.
    pub plugged: u64,
    /// Blocks unplugged.
    pub unplugged: u64,
    /// Unplugs that were given up, as a window stayed open.
    pub busy: u64,
    /// Pages that were being moved or served when their block was to be taken away: errors.
    pub in_use: u64,
    /// Faults that got their lock, or an even sequence, at once.
    pub fast: u64,
    /// Faults that waited for the table's lock.
    pub fell_back: u64,
    /// Faults that the sequence had overtaken.
    pub retried: u64,
    /// Faults that were left to whoever changed their block.
    pub left: u64,
    /// Faults in blocks that were unplugged by then.
    pub gone: u64,
}

impl From<PlugCounters> for PlugRecord {
    fn from(counters: PlugCounters) -> Self {
        Self {
            plugged: counters.plugged,
            unplugged: counters.unplugged,
            busy: counters.busy,
            in_use: counters.in_use,
            fast: counters.faults.fast,
            fell_back: counters.faults.fell_back,
            retried: counters.faults.retried,
            left: counters.faults.left,
            gone: counters.faults.gone,
        }
    }
}
