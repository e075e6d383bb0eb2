//! What was taken from the pool of frames.

use serde::Serialize;
use std::collections::BTreeMap;

/// What one user took from the pool of frames, in frames unless it says times.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct FrameUserRecord {
    /// Taken by the fast path.
    pub fast: u64,
    /// Times that the fast path was refused.
    pub refused: u64,
    /// Times that the slow path was gone after it.
    pub fell_back: u64,
    /// Taken by the slow path.
    pub slow: u64,
    /// Times that the slow path refilled the pool itself.
    pub refills: u64,
    /// What it refilled.
    pub refilled: u64,
    /// Those of `slow` that lay in the reserve.
    pub reserve: u64,
    /// Times that the slow path got nothing either.
    pub short: u64,
}

impl From<underfoot_migrator::FrameCounts> for FrameUserRecord {
    fn from(counts: underfoot_migrator::FrameCounts) -> Self {
        Self {
            fast: counts.fast,
            refused: counts.refused,
            fell_back: counts.fell_back,
            slow: counts.slow,
            refills: counts.refills,
            refilled: counts.refilled,
            reserve: counts.reserve,
            short: counts.short,
        }
    }
}

/// What was taken from the pool of frames, and who paid.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct FramesRecord {
    /// Frames that it is to hold.
    pub size: u64,
    /// Free ones at the end.
    pub free: u64,
    /// The fewest that were free.
    pub lowest: u64,
    /// Times that the refiller was woken and got something.
    pub background_refills: u64,
    /// What it refilled.
    pub background_refilled: u64,
    /// Frames that came from the kernel; the others are old ones.
    pub fresh: u64,
    /// Faults that were served without the pool, which had nothing.
    pub without: u64,
    /// By user: `mover`, `fault`.
    pub users: BTreeMap<&'static str, FrameUserRecord>,
    /// Slots that were handed out while they were another's: errors, as the next three.
    pub twice: u64,
    /// Times that the fast path took what it must leave.
    pub reserve_by_fast_path: u64,
    /// Times that somebody fell back and refilled nothing.
    pub unpaid: u64,
    /// Times that the fast path refilled.
    pub reclaimed: u64,
}
