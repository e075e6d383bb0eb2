//! What a vCPU does that meets a page in its window.

use crate::gate::Gate;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

pub use underfoot_migrator::WaitKind;

/// Whether HLT must not exit, so that KVM cannot turn a fault into a halt.
#[must_use]
pub const fn disables_halt_exits(wait: WaitKind) -> bool {
    !matches!(wait, WaitKind::Halt | WaitKind::Async)
}

/// What a spinning vCPU asks about the pages in flight, over and over.
pub trait Window: Send + Sync {
    /// Whether a window is open.
    fn is_open(&self) -> bool;

    /// How many windows have closed so far: a change means that the page may be back.
    fn closed(&self) -> u64;

    /// vCPU `vcpu` has left the guest because of a window; called by its own thread, before it waits.
    fn meets(&self, vcpu: u32) {
        let _ = vcpu;
    }

    /// It tries again.
    fn goes_on(&self, vcpu: u32) {
        let _ = vcpu;
    }
}

/// How one vCPU really waited, for the policies `spin` and `yield`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WaitCounts {
    /// KVM_RUN returned EFAULT.
    pub faults: u64,
    /// Of these, the window had closed already.
    pub closed: u64,
    /// The spin saw the window close.
    pub spun: u64,
    /// It closed while the vCPU's thread yielded its CPU.
    pub yielded: u64,
    /// The wait ended at its bound, window still open; the vCPU tried again.
    pub bounded: u64,
    /// Somebody wanted the vCPU out of the guest meanwhile.
    pub interrupted: u64,
}

/// [`WaitCounts`] as one vCPU's thread keeps them.
#[derive(Debug)]
pub(crate) struct WaitRecorder {
    /// Looks at the window before the thread yields.
    spins: u32,
    counts: [AtomicU64; 5],
}

/// Looks at the window by `spin`, some tens of microseconds.
const SPINS: u32 = 1 << 14;
/// Times that the thread yields before the vCPU tries its access again, whatever the answer.
const YIELDS: u32 = 1 << 10;

impl WaitRecorder {
    pub(crate) fn new(policy: WaitKind) -> Self {
        Self {
            spins: if policy == WaitKind::Yield { 0 } else { SPINS },
            counts: Default::default(),
        }
    }

    pub(crate) fn counts(&self) -> WaitCounts {
        let [closed, spun, yielded, bounded, interrupted] =
            [0, 1, 2, 3, 4].map(|index| self.counts[index].load(Relaxed));
        let faults = closed + spun + yielded + bounded + interrupted;
        WaitCounts {
            faults,
            closed,
            spun,
            yielded,
            bounded,
            interrupted,
        }
    }

    /// Waits until a window closes, `gate` wants the vCPU, or the bound is reached.
    pub(crate) fn wait(&self, window: &dyn Window, gate: &Gate) {
        let count = &self.counts[wait(self.spins, window, gate) as usize];
        // One writer, the vCPU's thread.
        count.store(count.load(Relaxed) + 1, Relaxed);
    }
}

/// How a wait ended. The discriminants index [`WaitRecorder`]'s counts.
#[derive(Clone, Copy)]
enum Waited {
    WasClosed = 0,
    Spun = 1,
    Yielded = 2,
    Bounded = 3,
    Wanted = 4,
}

fn wait(spins: u32, window: &dyn Window, gate: &Gate) -> Waited {
    // Before the look at `is_open`: a window that closes in between counts as a change.
    let closed = window.closed();
    if !window.is_open() {
        return Waited::WasClosed;
    }
    for look in 0..spins + YIELDS {
        if gate.is_wanted() {
            return Waited::Wanted;
        }
        let spinning = look < spins;
        if spinning {
            std::hint::spin_loop();
        } else {
            std::thread::yield_now();
        }
        // Not `is_open`: with several movers one window or another is open most of the time.
        if window.closed() != closed {
            return if spinning {
                Waited::Spun
            } else {
                Waited::Yielded
            };
        }
    }
    Waited::Bounded
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
        let recorder = WaitRecorder::new(WaitKind::Spin);
        let gate = Gate::held();
        gate.release();
        gate.pass(|| ());
        recorder.wait(&ClosesAfter::looks(0), &gate);
        recorder.wait(&ClosesAfter::looks(2), &gate);
        recorder.wait(&ClosesAfter::looks(u64::from(SPINS) + 2), &gate);
        recorder.wait(&ClosesAfter::looks(u64::MAX), &gate);
        gate.hold(|| ());
        recorder.wait(&ClosesAfter::looks(u64::MAX), &gate);
        let expected = WaitCounts {
            faults: 5,
            closed: 1,
            spun: 1,
            yielded: 1,
            bounded: 1,
            interrupted: 1,
        };
        assert_eq!(recorder.counts(), expected);
        gate.release();
        gate.pass(|| ());
        let yields = WaitRecorder::new(WaitKind::Yield);
        yields.wait(&ClosesAfter::looks(2), &gate);
        assert_eq!((yields.counts().yielded, yields.counts().faults), (1, 1));
    }
}
