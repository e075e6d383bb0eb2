//! A set of slots that many take from and put into, without a lock.

use crate::sync::{AtomicU64, Ordering};

/// Slots of a word.
const BITS: u32 = u64::BITS;

/// The right form, or a mutation that a checker must find.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Form {
    #[default]
    Right,
    /// Slots stay in the set when they are taken, and are the next ones as well.
    Keeps,
    /// The count is looked at first, and lowered in a second step.
    #[cfg(all(test, loom))]
    LooksThenTakes,
    /// The word is read, and written in a second step.
    #[cfg(all(test, loom))]
    Overwrites,
}

/// One bit for each slot that is in, and a count. Who takes lowers the count first, down to a floor of his: that is
/// his right to so many of the bits, which he then looks for. Who puts sets the bits first. So there are
/// at least as many bits as the count and all rights together say, and who has a right finds his.
pub(super) struct SlotSet {
    count: AtomicU64,
    words: Box<[AtomicU64]>,
    /// The slot to look at first: each has its turn.
    next: AtomicU64,
    form: Form,
}

impl SlotSet {
    /// A set of the slots `first..end` of `slots`.
    pub(super) fn new(slots: u32, members: std::ops::Range<u32>, form: Form) -> Self {
        let word = |number: u32| {
            (0..BITS)
                .filter(|bit| members.contains(&(number * BITS + bit)))
                .fold(0, |word, bit| word | 1 << bit)
        };
        Self {
            count: AtomicU64::new(members.len() as u64),
            words: (0..slots.div_ceil(BITS))
                .map(|number| AtomicU64::new(word(number)))
                .collect(),
            next: AtomicU64::new(0),
            form,
        }
    }

    /// Slots that nobody has a right to; others may be on their way in or out.
    pub(super) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Takes `slots` slots if `floor` stay, and gives each to `each`. Returns how many stayed, or `None` if there
    /// were too few.
    pub(super) fn take(&self, slots: u32, floor: u32, each: impl FnMut(u32)) -> Option<u64> {
        let left = self.claim(slots.into(), floor.into())?;
        self.collect(slots, each);
        Some(left)
    }

    fn claim(&self, slots: u64, floor: u64) -> Option<u64> {
        #[cfg(all(test, loom))]
        if self.form == Form::LooksThenTakes {
            let enough = self.count.load(Ordering::Acquire) >= slots + floor;
            return enough.then(|| {
                self.count
                    .fetch_sub(slots, Ordering::Acquire)
                    .wrapping_sub(slots)
            });
        }
        let mut count = self.count.load(Ordering::Relaxed);
        loop {
            let left = count.checked_sub(slots).filter(|&left| left >= floor)?;
            // Acquire pairs with the release in `put`: the bits that were counted are seen.
            match self.count.compare_exchange_weak(
                count,
                left,
                Ordering::Acquire,
                Ordering::Relaxed,
            ) {
                Ok(_) => return Some(left),
                Err(now) => count = now,
            }
        }
    }

    /// Finds as many slots as were claimed. Runs of neighbours stay together where they can.
    fn collect(&self, slots: u32, mut each: impl FnMut(u32)) {
        let mut wanted = slots;
        let next = self.next.load(Ordering::Relaxed) as u32;
        let mut number = (next / BITS) as usize % self.words.len();
        // What lies before the first slot comes last.
        let mut mask = u64::MAX << (next % BITS);
        let mut after = next;
        loop {
            let mut word = self.words[number].load(Ordering::Relaxed) & mask;
            while word != 0 && wanted > 0 {
                let run = lowest_run(word, wanted);
                if self.clear(number, run) {
                    let first = number as u32 * BITS;
                    ones(run).for_each(|bit| each(first + bit));
                    after = first + BITS - run.leading_zeros();
                    wanted -= run.count_ones();
                }
                word = self.words[number].load(Ordering::Relaxed) & mask & !run;
            }
            if wanted == 0 {
                break;
            }
            number = (number + 1) % self.words.len();
            mask = u64::MAX;
            // Whoever took what was here has left as much elsewhere: look on.
            #[cfg(loom)]
            loom::thread::yield_now();
        }
        if self.form != Form::Keeps {
            self.next.store(after.into(), Ordering::Relaxed);
        }
    }

    /// Takes a run out; false if some of it is gone.
    fn clear(&self, number: usize, run: u64) -> bool {
        let place = &self.words[number];
        match self.form {
            Form::Keeps => return true,
            #[cfg(all(test, loom))]
            Form::Overwrites => {
                let word = place.load(Ordering::Acquire);
                place.store(word & !run, Ordering::Release);
                return word & run == run;
            }
            Form::Right => {}
            #[cfg(all(test, loom))]
            Form::LooksThenTakes => {}
        }
        let mut word = place.load(Ordering::Relaxed);
        while word & run == run {
            // Acquire pairs with the release in `put`: what was done to the slots is seen.
            match place.compare_exchange_weak(
                word,
                word & !run,
                Ordering::Acquire,
                Ordering::Relaxed,
            ) {
                Ok(_) => return true,
                Err(now) => word = now,
            }
        }
        false
    }

    /// Puts slots in that are not.
    pub(super) fn put(&self, slots: impl ExactSizeIterator<Item = u32>) {
        let added = slots.len() as u64;
        for slot in slots {
            // Release pairs with the acquire in `clear`.
            self.words[(slot / BITS) as usize].fetch_or(1 << (slot % BITS), Ordering::Release);
        }
        // Release pairs with the acquire in `claim`.
        self.count.fetch_add(added, Ordering::Release);
    }
}

/// The lowest ones of a word that are in a row, so many at most.
fn lowest_run(word: u64, most: u32) -> u64 {
    let start = word.trailing_zeros();
    let len = (word >> start).trailing_ones().min(most);
    (u64::MAX >> (BITS - len)) << start
}

fn ones(mut word: u64) -> impl Iterator<Item = u32> {
    std::iter::from_fn(move || {
        let bit = word.trailing_zeros();
        word &= word.checked_sub(1)?;
        Some(bit)
    })
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn behaves_like_a_set_with_a_floor(
            slots in 1u32..300,
            members in 0u32..300,
            steps in prop::collection::vec((any::<bool>(), 0u32..80, 0u32..20), 0..60),
        ) {
            let members = members.min(slots);
            let set = SlotSet::new(slots, 0..members, Form::Right);
            let mut inside: BTreeSet<u32> = (0..members).collect();
            for (take, number, floor) in steps {
                if take {
                    let mut taken = Vec::new();
                    let left = set.take(number, floor, |slot| taken.push(slot));
                    let enough = inside.len() as u32 >= number + floor;
                    prop_assert_eq!(left.is_some(), enough);
                    prop_assert_eq!(taken.len() as u32, if enough { number } else { 0 });
                    for slot in taken {
                        prop_assert!(inside.remove(&slot), "{} was not in", slot);
                    }
                } else {
                    let outside: Vec<_> =
                        (0..slots).filter(|slot| !inside.contains(slot)).take(number as usize).collect();
                    set.put(outside.iter().copied());
                    inside.extend(outside);
                }
                prop_assert_eq!(set.count(), inside.len() as u64);
            }
        }

        #[test]
        fn a_run_is_the_lowest_ones(word in 1u64.., most in 1u32..=64) {
            let run = lowest_run(word, most);
            prop_assert!(run != 0 && run & !word == 0 && run.count_ones() <= most);
            prop_assert_eq!(run.trailing_zeros(), word.trailing_zeros());
            prop_assert_eq!((run >> run.trailing_zeros()).trailing_ones(), run.count_ones());
            prop_assert_eq!(ones(word).fold(0u64, |sum, bit| sum | 1 << bit), word);
        }
    }

    #[test]
    fn neighbours_stay_together() {
        let set = SlotSet::new(256, 0..256, Form::Right);
        let mut taken = Vec::new();
        set.take(100, 0, |slot| taken.push(slot));
        assert_eq!(taken, (0..100).collect::<Vec<_>>());
    }
}
