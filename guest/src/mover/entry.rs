//! The entry of a page in flight: one word, on which mover and faulting CPUs agree.

use crate::{
    mm::pte::{ADDRESS, PteFlags, frame_of},
    sync::atomic::{
        AtomicU64,
        Ordering::{AcqRel, Acquire, Relaxed, Release},
    },
};

/// The page leaves its frame; that can be given up. The processor looks at nothing in an entry that is
/// not present, so the bits are ours (Intel SDM volume 3, 4.5.4); the others stay as they were, so
/// that the entry can be put back.
const LEAVING: u64 = 1 << 9;
/// The page is being copied, and will be mapped in a moment.
const COPYING: u64 = 1 << 10;

/// What an entry says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The page is in this frame.
    Mapped(usize),
    /// The page is on its way from this frame.
    InFlight(usize),
    /// Nothing is there.
    Nothing,
}

impl State {
    /// What the entry `value` says.
    #[must_use]
    pub const fn of(value: u64) -> Self {
        if PteFlags::PRESENT.are_in(value) {
            Self::Mapped(frame_of(value))
        } else if value & (LEAVING | COPYING) != 0 {
            Self::InFlight(frame_of(value))
        } else {
            Self::Nothing
        }
    }
}

/// A page that its mover has taken away. One mover at a time has windows.
#[derive(Debug)]
#[must_use = "the page is unmapped until the window is closed"]
pub struct Window<'a> {
    entry: &'a AtomicU64,
    /// What the entry was.
    old: u64,
}

impl<'a> Window<'a> {
    /// Clears `entry`. Translations of it are still in TLBs afterwards. `None` if it maps nothing, or
    /// is in flight already.
    pub fn open(entry: &'a AtomicU64) -> Option<Self> {
        let old = entry.load(Relaxed);
        let State::Mapped(_) = State::of(old) else {
            return None;
        };
        // Only a mover changes an entry that maps, and it is the only one.
        entry.store(leaving(old), Release);
        Some(Self { entry, old })
    }

    /// Goes on to the copy, once every translation has been shot down: from here on the page cannot be
    /// given back. `None` if somebody gave the window up before: then the page is in its old frame.
    pub fn begin_copy(self) -> Option<Copying<'a>> {
        // Acquire: the writes of those that the shootdown waited for come before the copy; it has
        // acquired them already, and this keeps the copy behind it.
        self.entry
            .compare_exchange(leaving(self.old), copying(self.old), AcqRel, Acquire)
            .ok()?;
        let Self { entry, old } = self;
        Some(Copying { entry, old })
    }
}

/// A page that nobody reaches but its mover.
#[derive(Debug)]
#[must_use = "the page is unmapped until it is in its new frame"]
pub struct Copying<'a> {
    entry: &'a AtomicU64,
    old: u64,
}

impl Copying<'_> {
    /// Maps the page to `frame`, which holds the copy. What was not present is in no TLB, so that
    /// nothing has to be shot down.
    pub fn finish(self, frame: usize) {
        // Release, pairs with the acquire in `wait_until_mapped`, and on the processor with its table
        // walk, which like every load of x86-64 sees stores in their order: who sees the entry sees
        // the copy.
        self.entry
            .store(self.old & !ADDRESS | frame as u64, Release);
    }
}

/// Gives the window of `entry` up, if one is open and the copy has not begun: the page is in its old
/// frame again, which nobody had left yet. Whether it was so. From any CPU.
pub fn give_up(entry: &AtomicU64) -> bool {
    let found = entry.load(Relaxed);
    if found & LEAVING == 0 || PteFlags::PRESENT.are_in(found) {
        return false;
    }
    let old = found & !LEAVING | PteFlags::PRESENT.bits();
    // Release: as in `Copying::finish`, for a frame that nobody has written meanwhile.
    entry.compare_exchange(found, old, AcqRel, Relaxed).is_ok()
}

/// Spins until the page of `entry` is mapped again. `turn` is called in each turn: it answers
/// shootdowns, without which the mover would wait for this CPU for ever. Returns whether the page was
/// in flight at all, or mapped by the time of the look; `None` if nothing is there.
pub fn wait_until_mapped(entry: &AtomicU64, mut turn: impl FnMut()) -> Option<bool> {
    let mut waited = false;
    loop {
        // Acquire: pairs with the release in `Copying::finish`.
        match State::of(entry.load(Acquire)) {
            State::Mapped(_) => return Some(waited),
            State::Nothing => return None,
            State::InFlight(_) => {
                waited = true;
                turn();
            }
        }
    }
}

const fn leaving(old: u64) -> u64 {
    old & !PteFlags::PRESENT.bits() | LEAVING
}

const fn copying(old: u64) -> u64 {
    old & !PteFlags::PRESENT.bits() | COPYING
}
