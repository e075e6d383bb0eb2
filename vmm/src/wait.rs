//! What a vCPU does that meets a page in its window.

use crate::gate::Gate;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

pub use underfoot_migrator::WaitKind;

/// Whether HLT must not exit, so that KVM cannot turn a fault into a halt.
#[must_use]
pub const fn disables_halt_exits(wait: WaitKind) -> bool {
    !matches!(wait, WaitKind::Halt)
}

/// What a spinning vCPU asks about the pages in flight, over and over.
pub trait Window: Send + Sync {
    /// Whether a window is open.
    fn is_open(&self) -> bool;

    /// How many windows have closed so far: a change means that the page may be back.
    fn closed(&self) -> u64;
}

/// How one vCPU really waited, for policy `spin`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WaitCounts {
    /// KVM_RUN returned EFAULT.
    pub faults: u64,
    /// Of these, the window had closed already.
    pub closed: u64,
    /// The spin saw the window close.
    pub spun: u64,
    /// The spin ended at its bound, window still open; the vCPU tried again.
    pub bounded: u64,
    /// Somebody wanted the vCPU out of the guest meanwhile.
    pub interrupted: u64,
}

/// [`WaitCounts`] as one vCPU's thread keeps them.
#[derive(Debug, Default)]
pub(crate) struct WaitRecorder {
    counts: [AtomicU64; 4],
}

/// Looks at the window before the vCPU tries its access again, whatever the answer.
const SPIN_BOUND: u32 = 1 << 14;

impl WaitRecorder {
    pub(crate) fn counts(&self) -> WaitCounts {
        let [closed, spun, bounded, interrupted] =
            [0, 1, 2, 3].map(|index| self.counts[index].load(Relaxed));
        let faults = closed + spun + bounded + interrupted;
        WaitCounts {
            faults,
            closed,
            spun,
            bounded,
            interrupted,
        }
    }

    /// Spins until a window closes, `gate` wants the vCPU, or the bound is reached.
    pub(crate) fn spin(&self, window: &dyn Window, gate: &Gate) {
        let count = &self.counts[spin(window, gate) as usize];
        // One writer, the vCPU's thread.
        count.store(count.load(Relaxed) + 1, Relaxed);
    }
}

/// How a spin ended. The discriminants index [`WaitRecorder`]'s counts.
#[derive(Clone, Copy)]
enum Spun {
    WasClosed = 0,
    Closed = 1,
    Bounded = 2,
    Wanted = 3,
}

fn spin(window: &dyn Window, gate: &Gate) -> Spun {
    // Before the look at `is_open`: a window that closes in between counts as a change.
    let closed = window.closed();
    if !window.is_open() {
        return Spun::WasClosed;
    }
    for _ in 0..SPIN_BOUND {
        if gate.is_wanted() {
            return Spun::Wanted;
        }
        std::hint::spin_loop();
        // Not `is_open`: with several movers one window or another is open most of the time.
        if window.closed() != closed {
            return Spun::Closed;
        }
    }
    Spun::Bounded
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A window that closes at the given number of looks; 0 is closed from the start.
    struct ClosesAfter(u64, AtomicU64);

    impl ClosesAfter {
        fn looks(looks: u64) -> Self {
            Self(looks, AtomicU64::new(0))
        }
    }

    impl Window for ClosesAfter {
        fn is_open(&self) -> bool {
            self.0 > 0
        }

        fn closed(&self) -> u64 {
            u64::from(self.1.fetch_add(1, Relaxed) >= self.0)
        }
    }

    #[test]
    fn each_way_of_waiting_is_counted_as_what_it_was() {
        let recorder = WaitRecorder::default();
        let gate = Gate::held();
        gate.release();
        gate.pass(|| ());
        recorder.spin(&ClosesAfter::looks(0), &gate);
        recorder.spin(&ClosesAfter::looks(2), &gate);
        recorder.spin(&ClosesAfter::looks(u64::MAX), &gate);
        gate.hold(|| ());
        recorder.spin(&ClosesAfter::looks(u64::MAX), &gate);
        let expected = WaitCounts {
            faults: 4,
            closed: 1,
            spun: 1,
            bounded: 1,
            interrupted: 1,
        };
        assert_eq!(recorder.counts(), expected);
    }
}
