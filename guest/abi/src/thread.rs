//! What the guest says of its threads and of the locks that are held: who waits for whom.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// The most threads that the guest has.
pub const MAX_THREADS: usize = 512;

/// Locks that are told of one holder; of more the last are not.
const MOST: usize = 7;

/// The locks that somebody holds, by the identity that [`Wait`](crate::Wait) names, in the order in which they were
/// taken. The holder alone writes, and what interrupts it, which leaves them as it found them; the host reads at any
/// moment. Each holder has words of its own, so that a lock that nobody waits for costs no shared cache line.
#[derive(Debug, Default)]
#[repr(C)]
pub struct Holds {
    count: AtomicU32,
    locks: [AtomicU32; MOST],
}

impl Holds {
    /// This lock is held from now on.
    #[inline]
    pub fn took(&self, lock: u32) {
        let count = self.count.load(Relaxed);
        // First: an interrupt that comes between the two takes the next place.
        self.count.store(count + 1, Relaxed);
        if let Some(place) = self.locks.get(count as usize) {
            place.store(lock, Relaxed);
        }
    }

    /// This lock, which was held, is not any more.
    #[inline]
    pub fn let_go(&self, lock: u32) {
        let Some(last) = self.count.load(Relaxed).checked_sub(1) else {
            return;
        };
        let place = self.locks.get(last as usize);
        // Mostly the last that was taken is let go first.
        if place.is_none_or(|place| place.load(Relaxed) != lock) {
            self.close_gap(lock);
        }
        self.count.store(last, Relaxed);
    }

    /// What was taken after `lock` moves up.
    #[cold]
    fn close_gap(&self, lock: u32) {
        let told = &self.locks[..MOST.min(self.count.load(Relaxed) as usize)];
        let at = told.iter().rposition(|place| place.load(Relaxed) == lock);
        for pair in told[at.unwrap_or(told.len())..].windows(2) {
            pair[0].store(pair[1].load(Relaxed), Relaxed);
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count.load(Relaxed) == 0
    }

    /// Those that are told, whatever the words say.
    pub fn iter(&self) -> impl Iterator<Item = u32> {
        let count = self.count.load(Relaxed) as usize;
        self.locks.iter().take(count).map(|lock| lock.load(Relaxed))
    }
}

/// What a thread says of itself; a cache line of its own.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub struct ThreadWords {
    /// The [`Context`](crate::Context) in which it sleeps.
    pub context: AtomicU64,
    /// The vCPU that it belongs to, and [`ASLEEP`](Self::ASLEEP) while it sleeps. Written by itself, and by who wakes it.
    pub place: AtomicU32,
    /// The sleeping locks that it holds: mutexes and semaphores. Spinlocks are a vCPU's. Written by itself, and while it
    /// waits for one of them by who gives it that.
    pub holds: Holds,
}

impl ThreadWords {
    /// In [`Self::place`]: it neither runs nor can run.
    pub const ASLEEP: u32 = 1 << 31;
}

const _: () = assert!(size_of::<ThreadWords>() == 64);

#[cfg(test)]
mod tests {
    use super::*;

    fn told(holds: &Holds) -> Vec<u32> {
        holds.iter().collect()
    }

    #[test]
    fn locks_are_told_in_the_order_in_which_they_were_taken() {
        // What is done, in order: taken above zero, let go below; and what is held then.
        for (steps, left) in [
            (&[1, 2, 3][..], &[1, 2, 3][..]),
            (&[1, 2, -2, 3], &[1, 3]),
            (&[1, 2, 3, -1], &[2, 3]),
            (&[1, 2, -1, -2], &[]),
            (&[1, 1, 2, -1], &[1, 2]),
            (
                &[1, 2, 3, 4, 5, 6, 7, 8, 9, -9, -8, -7],
                &[1, 2, 3, 4, 5, 6],
            ),
        ] {
            let holds = Holds::default();
            for &step in steps {
                let lock = i32::unsigned_abs(step);
                if step > 0 {
                    holds.took(lock);
                } else {
                    holds.let_go(lock);
                }
            }
            assert_eq!(told(&holds), left, "{steps:?}");
            assert_eq!(holds.is_empty(), left.is_empty());
        }
    }

    #[test]
    fn words_that_make_no_sense_are_bounded() {
        let holds = Holds::default();
        holds.count.store(u32::MAX, Relaxed);
        assert_eq!(told(&holds), [0; MOST]);
        holds.let_go(9);
        assert_eq!(told(&holds).len(), MOST);
    }
}
