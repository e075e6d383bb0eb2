//! Who has which slot, written down by whoever gets it: what the sets say, checked a second time.

use std::cell::Cell;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

/// What a slot is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum State {
    /// It holds no frame and is nobody's.
    Empty,
    /// It holds a frame that is nobody's.
    Free,
    /// It is somebody's, with or without a frame.
    Taken,
    /// It holds an old frame.
    Limbo,
}

/// Rules that were broken, how often. All 0 unless the pool is wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FrameViolations {
    /// A slot was handed to one while it was another's.
    pub twice: u64,
    /// The fast path took what lies below the watermark min.
    pub reserve: u64,
    /// Somebody fell back and did not refill.
    pub unpaid: u64,
    /// The fast path refilled.
    pub reclaimed: u64,
}

impl FrameViolations {
    /// All together.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.twice + self.reserve + self.unpaid + self.reclaimed
    }
}

pub(super) struct Ledger {
    slots: Box<[AtomicU8]>,
    twice: AtomicU64,
    reserve: AtomicU64,
    unpaid: AtomicU64,
    reclaimed: AtomicU64,
}

thread_local! {
    /// This thread is on the fast path.
    static FAST: Cell<bool> = const { Cell::new(false) };
}

/// This thread is on the fast path while it is held.
pub(super) struct OnFastPath(());

impl OnFastPath {
    pub(super) fn enter() -> Self {
        FAST.set(true);
        Self(())
    }
}

impl Drop for OnFastPath {
    fn drop(&mut self) {
        FAST.set(false);
    }
}

impl Ledger {
    /// The first `free` of `slots` slots hold a frame.
    pub(super) fn new(slots: u32, free: u32) -> Self {
        let state = |slot| {
            if slot < free {
                State::Free
            } else {
                State::Empty
            }
        };
        Self {
            slots: (0..slots)
                .map(|slot| AtomicU8::new(state(slot) as u8))
                .collect(),
            twice: AtomicU64::new(0),
            reserve: AtomicU64::new(0),
            unpaid: AtomicU64::new(0),
            reclaimed: AtomicU64::new(0),
        }
    }

    /// Notes that a slot goes from `from` to `to`; false, and nothing is changed, if it was not that.
    #[must_use]
    pub(super) fn pass(&self, slot: u32, from: State, to: State) -> bool {
        let changed = self.slots[slot as usize].compare_exchange(
            from as u8,
            to as u8,
            Ordering::Relaxed,
            Ordering::Relaxed,
        );
        if changed.is_err() {
            self.twice.fetch_add(1, Ordering::Relaxed);
        }
        changed.is_ok()
    }

    /// The fast path took frames, and so many stayed.
    pub(super) fn check_fast(&self, left: u64, min: u32) {
        self.reserve
            .fetch_add((left < min.into()).into(), Ordering::Relaxed);
    }

    /// Somebody refills, with the kernel's help.
    pub(super) fn check_refill(&self) {
        self.reclaimed
            .fetch_add(FAST.get().into(), Ordering::Relaxed);
    }

    /// Somebody fell back.
    pub(super) fn check_paid(&self, paid: bool) {
        self.unpaid.fetch_add((!paid).into(), Ordering::Relaxed);
    }

    pub(super) fn violations(&self) -> FrameViolations {
        let [twice, reserve, unpaid, reclaimed] =
            [&self.twice, &self.reserve, &self.unpaid, &self.reclaimed]
                .map(|cell| cell.load(Ordering::Relaxed));
        FrameViolations {
            twice,
            reserve,
            unpaid,
            reclaimed,
        }
    }
}
