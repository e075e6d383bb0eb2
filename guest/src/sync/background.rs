//! When the background reclaimer sleeps, and who wakes it.

use super::{
    WaitQueue,
    atomic::{
        AtomicU32,
        Ordering::{AcqRel, Acquire, Relaxed},
        const_fn,
    },
};
use crate::Cpu;

/// Somebody wants room.
const ASKED: u32 = 1;
/// Nobody will any more.
const STOPPED: u32 = 2;

/// The sleep of a thread that makes room in the background: woken when few pages are free, it works
/// until there are enough, or nothing can be done (Linux's kswapd, mm/vmscan.c).
#[derive(Debug, Default)]
pub struct Background {
    sleepers: WaitQueue,
    word: AtomicU32,
}

impl Background {
    const_fn! {
        /// With nothing to do.
        #[must_use]
        pub fn new() -> Self {
            Self {
                sleepers: WaitQueue::new(),
                word: AtomicU32::new(0),
            }
        }
    }

    /// Has the thread look whether room is to be made. From anywhere.
    #[inline]
    pub fn wake(&self, cpu: &Cpu) {
        self.ask(cpu, ASKED);
    }

    /// Ends [`Self::run`], now or when it begins.
    pub fn stop(&self, cpu: &Cpu) {
        self.ask(cpu, ASKED | STOPPED);
    }

    fn ask(&self, cpu: &Cpu, bits: u32) {
        // Always a write, by which the thread sees what the caller saw (with the acquire in `forget`): a
        // mere look that finds the bit set could be older than the thread's own.
        let before = self.word.fetch_or(bits, AcqRel);
        // Who set the bit wakes the thread for all who find it set.
        if before & ASKED == 0 {
            self.sleepers.wake_one(cpu);
        }
    }

    /// Sleeps until it is asked, then calls `work` as long as that says that there is more to do;
    /// returns when it is stopped. By one thread.
    pub fn run(&self, cpu: &Cpu, mut work: impl FnMut() -> bool) {
        let goes_on = || self.word.load(Relaxed) & STOPPED == 0;
        loop {
            let asked = || self.word.load(Acquire) & ASKED != 0;
            self.sleepers.wait_until(cpu, asked);
            // Before it looks at what is to be done: who asks after that look has it look again.
            self.forget();
            while goes_on() && work() {}
            if !goes_on() {
                return;
            }
        }
    }

    /// Who asked before this is seen to by what comes after it.
    fn forget(&self) {
        self.word.fetch_and(!ASKED, AcqRel);
    }
}

#[cfg(all(test, loom))]
mod loom_models;
