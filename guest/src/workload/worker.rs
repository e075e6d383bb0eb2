//! What one thread keeps for itself between its steps.

use crate::random::Random;
use crate::{Cpu, record::Probe};

/// Pages that a thread holds at most, to free them again.
const HELD: usize = 256;

/// One thread's state. Lives on its stack, which is touched and moved for that.
pub struct Worker {
    pub(super) random: Random,
    pub(super) probe: Probe,
    pub(super) held: Held,
}

impl Worker {
    /// The state of thread `number` at the start; `free_pages` is its share of the pages that are
    /// free.
    #[must_use]
    pub fn new(cpu: &Cpu, number: usize, free_pages: usize) -> Self {
        // All threads together hold no more than an eighth.
        let most = free_pages / 8;
        Self {
            random: Random::new(cpu.header.seed, number as u64),
            probe: Probe::new(cpu),
            held: Held {
                pages: [0; HELD],
                count: 0,
                most: most.clamp(1, HELD),
                filling: true,
            },
        }
    }
}

/// Pages that are held for a while: they are allocated until there are enough, then freed until
/// none is left, and so on.
pub(super) struct Held {
    pages: [usize; HELD],
    count: usize,
    most: usize,
    filling: bool,
}

impl Held {
    /// Adds the page that `allocate` returns, or takes one out to be freed.
    pub(super) fn turn(&mut self, allocate: impl FnOnce() -> Option<usize>) -> Option<usize> {
        if self.filling {
            match allocate() {
                Some(page) => {
                    self.pages[self.count] = page;
                    self.count += 1;
                    self.filling = self.count < self.most;
                }
                None => self.filling = self.count == 0,
            }
            return None;
        }
        self.count -= 1;
        self.filling = self.count == 0;
        Some(self.pages[self.count])
    }
}
