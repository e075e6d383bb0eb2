//! A ring of records from the guest to the host.

#[cfg(not(all(loom, test)))]
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering;
#[cfg(all(loom, test))]
use loom::sync::atomic::AtomicU64;

/// Records in one ring, if nothing else is said.
pub const RING: usize = if cfg!(all(loom, test)) { 2 } else { 4096 };

#[repr(C)]
#[derive(Debug)]
struct Slot<const WORDS: usize>([AtomicU64; WORDS]);

/// Records of so many words. One writer (the guest), one reader (the host). A full ring drops and counts: it
/// never blocks.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct Ring<const WORDS: usize, const SLOTS: usize = RING> {
    written: AtomicU64,
    read: AtomicU64,
    dropped: AtomicU64,
    slots: [Slot<WORDS>; SLOTS],
}

impl<const WORDS: usize, const SLOTS: usize> Ring<WORDS, SLOTS> {
    /// Appends a record, or counts it as dropped if the reader is a whole ring behind.
    #[inline]
    pub(crate) fn push(&self, record: [u64; WORDS]) {
        let at = self.written.load(Ordering::Relaxed);
        // Pairs with the release in `pop`: the slot's old record has been read.
        if at - self.read.load(Ordering::Acquire) == SLOTS as u64 {
            self.dropped
                .store(self.dropped.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
            return;
        }
        let slot = &self.slots[at as usize % SLOTS].0;
        for (place, word) in slot.iter().zip(record) {
            place.store(word, Ordering::Relaxed);
        }
        // Pairs with the acquire in `pop`: a record that is counted is whole.
        self.written.store(at + 1, Ordering::Release);
    }

    /// Takes the oldest record. `None` when the ring is empty, or when its indices make no sense
    /// (the host must survive a guest that scribbles over them).
    #[inline]
    pub(crate) fn pop(&self) -> Option<[u64; WORDS]> {
        let at = self.read.load(Ordering::Relaxed);
        let ready = self.written.load(Ordering::Acquire).wrapping_sub(at);
        if ready == 0 || ready > SLOTS as u64 {
            return None;
        }
        let slot = &self.slots[at as usize % SLOTS].0;
        let record = slot.each_ref().map(|word| word.load(Ordering::Relaxed));
        self.read.store(at.wrapping_add(1), Ordering::Release);
        Some(record)
    }

    /// Records lost because the reader was too slow.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

#[cfg(all(loom, test))]
mod loom_models {
    use super::*;
    use loom::{sync::Arc, thread};
    use std::array::from_fn;

    const PUSHED: u64 = 4;
    const RECORD: usize = 4;

    type Ring = super::Ring<RECORD>;

    fn record(number: u64) -> [u64; RECORD] {
        [number; RECORD]
    }

    /// Four records go through a ring of two, put there by `push` and taken out while they come, and
    /// afterwards: those not dropped come whole, once and in order.
    fn ring(push: fn(&Ring, [u64; RECORD])) {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(3);
        builder.check(move || {
            let ring = Arc::new(Ring {
                written: AtomicU64::new(0),
                read: AtomicU64::new(0),
                dropped: AtomicU64::new(0),
                slots: from_fn(|_| Slot(from_fn(|_| AtomicU64::new(0)))),
            });
            // The reader is the thread: loom begins with this one, and does not see that a store is
            // to be tried before another's earlier load if its own thread loaded the word since.
            let reader = {
                let ring = ring.clone();
                thread::spawn(move || (0..PUSHED).filter_map(|_| ring.pop()).collect::<Vec<_>>())
            };
            (1..=PUSHED).for_each(|number| push(&ring, record(number)));
            let mut taken = reader.join().expect("no panic");
            while let Some(record) = ring.pop() {
                taken.push(record);
            }
            let whole = |taken: &[u64; RECORD]| *taken == record(taken[0]);
            assert!(taken.iter().all(whole), "a torn record");
            assert!(taken.is_sorted_by(|a, b| a[0] < b[0]), "order");
            assert_eq!(taken.len() as u64 + ring.dropped(), PUSHED);
        });
    }

    #[test]
    fn loom_records_come_whole_and_in_order() {
        ring(Ring::push);
    }

    #[test]
    #[should_panic(expected = "a torn record")]
    fn loom_record_that_is_counted_before_it_is_whole_is_caught() {
        ring(|ring, record| {
            let at = ring.written.load(Ordering::Relaxed);
            if at - ring.read.load(Ordering::Acquire) == RING as u64 {
                return ring.push(record);
            }
            ring.written.store(at + 1, Ordering::Release);
            for (slot, word) in ring.slots[at as usize % RING].0.iter().zip(record) {
                slot.store(word, Ordering::Relaxed);
            }
        });
    }
}
