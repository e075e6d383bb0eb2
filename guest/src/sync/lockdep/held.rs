//! What a thread holds at the moment.

use super::graph::Chain;
use crate::Cpu;
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed};

/// Locks that a thread and what interrupts it can hold at once; of more the last are not checked.
const MOST: usize = 16;

/// What kind of code runs. Locks that interrupted code holds are no concern of what interrupts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Inside {
    Thread = 0,
    BottomHalf = 1,
    Interrupt = 2,
}

impl Inside {
    pub(super) fn of(cpu: &Cpu) -> Self {
        let context = cpu.context();
        if context.in_bottom_half() {
            Self::BottomHalf
        } else if context.in_interrupt() {
            Self::Interrupt
        } else {
            Self::Thread
        }
    }
}

/// One lock that is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Held {
    /// The number of its class and level.
    pub(super) node: u8,
    pub(super) inside: Inside,
    /// It was taken without waiting.
    pub(super) tried: bool,
}

impl Held {
    const fn pack(self) -> u32 {
        self.node as u32 | (self.inside as u32) << 8 | (self.tried as u32) << 16
    }

    const fn unpack(word: u32) -> Self {
        let inside = match (word >> 8) as u8 {
            0 => Inside::Thread,
            1 => Inside::BottomHalf,
            _ => Inside::Interrupt,
        };
        Self {
            node: word as u8,
            inside,
            tried: word >> 16 != 0,
        }
    }
}

#[derive(Debug, Default)]
struct Entry {
    /// Which lock of its class: its address.
    instance: AtomicUsize,
    held: AtomicU32,
}

impl Entry {
    const fn new() -> Self {
        Self {
            instance: AtomicUsize::new(0),
            held: AtomicU32::new(0),
        }
    }
}

/// The locks that a thread holds, in the order in which it took them. Touched by that thread alone,
/// and by what interrupts it, with interrupts masked. Zero is none.
#[derive(Debug, Default)]
pub struct HeldLocks {
    depth: AtomicU32,
    entries: [Entry; MOST],
}

impl HeldLocks {
    /// None.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            depth: AtomicU32::new(0),
            entries: [const { Entry::new() }; MOST],
        }
    }

    fn depth(&self) -> usize {
        self.depth.load(Relaxed) as usize
    }

    /// Adds one; whether there was room.
    pub(super) fn push(&self, instance: usize, held: Held) -> bool {
        let depth = self.depth();
        let Some(entry) = self.entries.get(depth) else {
            return false;
        };
        entry.instance.store(instance, Relaxed);
        entry.held.store(held.pack(), Relaxed);
        self.depth.store(depth as u32 + 1, Relaxed);
        true
    }

    /// Removes the last of this instance, in whatever order locks are let go. `None` if it was taken
    /// while nothing was checked.
    pub(super) fn take(&self, instance: usize) -> Option<Held> {
        let entries = &self.entries[..self.depth()];
        let at = entries
            .iter()
            .rposition(|entry| entry.instance.load(Relaxed) == instance)?;
        let found = Held::unpack(entries[at].held.load(Relaxed));
        for pair in entries[at..].windows(2) {
            pair[0]
                .instance
                .store(pair[1].instance.load(Relaxed), Relaxed);
            pair[0].held.store(pair[1].held.load(Relaxed), Relaxed);
        }
        self.depth.store(entries.len() as u32 - 1, Relaxed);
        Some(found)
    }

    /// Those that this kind of code holds, the last first. It interrupted what the others belong to.
    fn of(&self, inside: Inside) -> impl DoubleEndedIterator<Item = Held> {
        let entries = &self.entries[..self.depth()];
        let unpack = |entry: &Entry| Held::unpack(entry.held.load(Relaxed));
        let others = entries
            .iter()
            .rposition(|entry| unpack(entry).inside != inside);
        entries[others.map_or(0, |at| at + 1)..]
            .iter()
            .rev()
            .map(unpack)
    }

    /// The classes from which an edge leads to what is taken now: the last that was waited for, and
    /// those taken since without waiting. What was held before that one leads to it already.
    pub(super) fn direct(&self, inside: Inside) -> u64 {
        let mut mask = 0;
        for held in self.of(inside) {
            mask |= 1 << held.node;
            if !held.tried {
                break;
            }
        }
        mask
    }

    /// All that is held.
    pub(super) fn chain(&self, inside: Inside) -> Chain {
        let mut chain = Chain::default();
        self.of(inside).rev().for_each(|held| chain.push(held.node));
        chain
    }
}
