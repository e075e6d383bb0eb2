//! The threads that sleep until a grace period is over.

use super::super::atomic::{
    AtomicU64,
    Ordering::{AcqRel, Relaxed, SeqCst},
    const_fn, fence,
};
use crate::{
    Cpu,
    sched::{MAX_THREADS, ThreadId},
};

/// Words of the set; a model has few threads.
const WORDS: usize = if cfg!(loom) {
    1
} else {
    MAX_THREADS.div_ceil(u64::BITS as usize)
};

/// A set of threads, woken all together.
pub(super) struct Waiters([AtomicU64; WORDS]);

impl Waiters {
    const_fn! {
        pub(super) fn new() -> Self {
            #[cfg(not(loom))]
            {
                Self([const { AtomicU64::new(0) }; WORDS])
            }
            #[cfg(loom)]
            {
                Self(core::array::from_fn(|_| AtomicU64::new(0)))
            }
        }
    }

    /// From here on the running thread is woken; only then may it look whether its wait is over.
    pub(super) fn enlist(&self, cpu: &Cpu) {
        let (word, bit) = place(cpu.sched.current(cpu));
        self.0[word].fetch_or(bit, Relaxed);
        // Pairs with the fence in `wake`: this thread sees what it waits for, or is seen.
        fence(SeqCst);
    }

    /// The running thread waits no more.
    pub(super) fn delist(&self, cpu: &Cpu) {
        let (word, bit) = place(cpu.sched.current(cpu));
        self.0[word].fetch_and(!bit, Relaxed);
    }

    /// Wakes all. What they wait for must have been stored before.
    pub(super) fn wake(&self, cpu: &Cpu) {
        // Pairs with the fence in `enlist`.
        fence(SeqCst);
        for (index, word) in self.0.iter().enumerate() {
            if word.load(Relaxed) == 0 {
                continue;
            }
            let mut bits = word.swap(0, AcqRel);
            while bits != 0 {
                let number = index as u32 * u64::BITS + bits.trailing_zeros();
                cpu.sched.unpark(cpu, ThreadId(number));
                bits &= bits - 1;
            }
        }
    }
}

/// The word and the bit of `thread`.
const fn place(thread: ThreadId) -> (usize, u64) {
    let number = thread.0 as usize;
    (
        number / u64::BITS as usize % WORDS,
        1 << (number % u64::BITS as usize),
    )
}
