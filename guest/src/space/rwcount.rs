//! A lock that readers share, in one word.

use crate::{
    Cpu,
    sync::{
        Backoff,
        atomic::{
            AtomicU32,
            Ordering::{Acquire, Relaxed, Release},
            const_fn,
        },
    },
};

/// A writer is inside.
const WRITER: u32 = 1 << 31;
/// A writer waits: no new readers.
const WAITING: u32 = 1 << 30;

/// Readers are counted, a writer is alone. Who waits lets other threads run, so it may be held
/// across sleeps; a read attempt never waits. Any bit pattern is a valid value; zero is unlocked.
#[derive(Debug, Default)]
#[repr(transparent)]
pub struct RwCount(AtomicU32);

impl RwCount {
    const_fn! {
        /// With nobody inside.
        #[must_use]
        pub fn new() -> Self {
            Self(AtomicU32::new(0))
        }
    }

    /// Makes it that of a new object. Nobody else may know the object yet.
    pub fn reset(&self) {
        self.0.store(0, Relaxed);
    }

    /// Enters as a reader unless a writer is inside or waits; whether it did.
    #[inline]
    #[must_use]
    pub fn try_read(&self) -> bool {
        let enter = |word| (word & (WRITER | WAITING) == 0).then_some(word + 1);
        // Acquire: pairs with the release in `write_end`.
        self.0.fetch_update(Acquire, Relaxed, enter).is_ok()
    }

    /// Enters as a reader, after waiting for writers.
    pub fn read(&self, cpu: &Cpu) {
        let mut backoff = Backoff::new();
        while !self.try_read() {
            wait(cpu, &mut backoff, || {
                self.0.load(Relaxed) & (WRITER | WAITING) == 0
            });
        }
    }

    /// Leaves as a reader.
    #[inline]
    pub fn read_end(&self) {
        // Release: pairs with the acquire in `write`.
        self.0.fetch_sub(1, Release);
    }

    /// Enters as the writer, after waiting for everybody.
    pub fn write(&self, cpu: &Cpu) {
        let mut backoff = Backoff::new();
        let enter = |word: u32| match word & !WAITING {
            0 => Some(WRITER),
            _ if word & WAITING == 0 => Some(word | WAITING),
            _ => None,
        };
        loop {
            // Acquire: pairs with the releases in `read_end` and `write_end`.
            if self
                .0
                .fetch_update(Acquire, Relaxed, enter)
                .is_ok_and(|word| word & !WAITING == 0)
            {
                return;
            }
            wait(cpu, &mut backoff, || self.0.load(Relaxed) & !WAITING == 0);
        }
    }

    /// Leaves as the writer.
    pub fn write_end(&self) {
        // Release: pairs with the acquires above. Another writer that waits says so again.
        self.0.fetch_and(!WRITER, Release);
    }
}

/// Lets others run until `over` may be true.
fn wait(cpu: &Cpu, backoff: &mut Backoff, over: impl Fn() -> bool) {
    cpu.sched.yield_now(cpu);
    backoff.pause(cpu, over);
}
