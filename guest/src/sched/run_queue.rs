//! The threads of one CPU that can run.

use super::thread::{NOBODY, Thread};
use core::sync::atomic::Ordering::Relaxed;

/// Priorities, from 0.
const PRIORITIES: usize = 32;

/// A list for each priority, first in first out, linked through the threads.
pub(super) struct RunQueue {
    /// A bit for each list that holds somebody.
    ready: u32,
    first: [u32; PRIORITIES],
    last: [u32; PRIORITIES],
}

impl RunQueue {
    pub(super) const fn new() -> Self {
        Self {
            ready: 0,
            first: [NOBODY; PRIORITIES],
            last: [NOBODY; PRIORITIES],
        }
    }

    /// A bit for each priority at which somebody can run.
    pub(super) const fn ready(&self) -> u32 {
        self.ready
    }

    /// Adds a thread behind those of its priority, or before them. Nothing if it is here.
    pub(super) fn push(&mut self, threads: &[Thread], number: u32, before: bool) {
        let thread = &threads[number as usize];
        if thread.queued.swap(1, Relaxed) != 0 {
            return;
        }
        let level = thread.priority().0 as usize;
        let empty = self.ready & (1 << level) == 0;
        self.ready |= 1 << level;
        if empty {
            thread.next.store(NOBODY, Relaxed);
            (self.first[level], self.last[level]) = (number, number);
        } else if before {
            thread.next.store(self.first[level], Relaxed);
            self.first[level] = number;
        } else {
            thread.next.store(NOBODY, Relaxed);
            let last = &threads[self.last[level] as usize];
            last.next.store(number, Relaxed);
            self.last[level] = number;
        }
    }

    /// Takes the first thread of the greatest priority.
    pub(super) fn pop(&mut self, threads: &[Thread]) -> Option<u32> {
        let level = 31_u32.checked_sub(self.ready.leading_zeros())? as usize;
        let number = self.first[level];
        self.unlink(threads, level, number, NOBODY);
        Some(number)
    }

    /// Takes a thread out, wherever it is; its priority may have changed since it came. Returns
    /// whether it was here.
    pub(super) fn remove(&mut self, threads: &[Thread], number: u32) -> bool {
        if threads[number as usize].queued.load(Relaxed) == 0 {
            return false;
        }
        for level in (0..PRIORITIES).filter(|level| self.ready & (1 << level) != 0) {
            let mut before = NOBODY;
            let mut at = self.first[level];
            while at != NOBODY {
                if at == number {
                    self.unlink(threads, level, number, before);
                    return true;
                }
                before = at;
                at = threads[at as usize].next.load(Relaxed);
            }
        }
        false
    }

    fn unlink(&mut self, threads: &[Thread], level: usize, number: u32, before: u32) {
        let thread = &threads[number as usize];
        let next = thread.next.load(Relaxed);
        match before {
            NOBODY => self.first[level] = next,
            before => threads[before as usize].next.store(next, Relaxed),
        }
        if next == NOBODY {
            self.last[level] = before;
        }
        if self.first[level] == NOBODY {
            self.ready &= !(1 << level);
        }
        thread.queued.store(0, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn threads(priorities: &[u8]) -> Vec<Thread> {
        priorities
            .iter()
            .map(|&priority| {
                let thread = Thread::new();
                thread.base.store(priority, Relaxed);
                thread
            })
            .collect()
    }

    #[test]
    fn the_greatest_priority_comes_first_and_equals_take_turns() {
        let threads = threads(&[8, 31, 0, 8, 8]);
        let mut queue = RunQueue::new();
        for number in 0..5 {
            queue.push(&threads, number, false);
            queue.push(&threads, number, false);
        }
        assert!(queue.remove(&threads, 3) && !queue.remove(&threads, 3));
        queue.push(&threads, 3, true);
        let order: Vec<_> = std::iter::from_fn(|| queue.pop(&threads)).collect();
        assert_eq!(order, [1, 3, 0, 4, 2]);
        assert_eq!(queue.ready(), 0);
    }

    proptest! {
        #[test]
        fn it_behaves_like_a_list_sorted_by_priority(
            priorities in proptest::collection::vec(0u8..32, 8),
            steps in proptest::collection::vec((0u8..4, 0u32..8), 0..200),
        ) {
            let threads = threads(&priorities);
            let mut queue = RunQueue::new();
            let mut model: Vec<u32> = Vec::new();
            let level = |number: u32| priorities[number as usize];
            for (step, number) in steps {
                let here = model.contains(&number);
                match step {
                    0 | 1 => {
                        queue.push(&threads, number, step == 1);
                        if !here {
                            let place = model.iter().position(|&other| match step {
                                1 => level(other) <= level(number),
                                _ => level(other) < level(number),
                            });
                            model.insert(place.unwrap_or(model.len()), number);
                        }
                    }
                    2 => {
                        prop_assert_eq!(queue.remove(&threads, number), here);
                        model.retain(|&other| other != number);
                    }
                    _ => {
                        let first = (!model.is_empty()).then(|| model.remove(0));
                        prop_assert_eq!(queue.pop(&threads), first);
                    }
                }
                let ready = model.iter().fold(0, |bits, &other| bits | 1u32 << level(other));
                prop_assert_eq!(queue.ready(), ready);
            }
        }
    }
}
