//! Stalls that the guest felt, one record each, in a ring per vCPU.

#[cfg(not(all(loom, test)))]
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering;
#[cfg(all(loom, test))]
use loom::sync::atomic::AtomicU64;

/// Records in one ring.
pub const STALL_RING: usize = if cfg!(all(loom, test)) { 2 } else { 4096 };

/// One access that took longer than the threshold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct StallRecord {
    /// TSC before the access.
    pub start_tsc: u64,
    /// TSC after it.
    pub end_tsc: u64,
    /// The address accessed.
    pub gva: u64,
    /// The vCPU's [`Context`](crate::Context) during it.
    pub context: u64,
}

#[repr(C)]
struct Slot([AtomicU64; 4]);

/// One writer (the vCPU), one reader (the host). A full ring drops and counts: it never blocks.
#[repr(C)]
pub struct StallRing {
    written: AtomicU64,
    read: AtomicU64,
    dropped: AtomicU64,
    slots: [Slot; STALL_RING],
}

impl StallRing {
    /// Appends a record, or counts it as dropped if the reader is a whole ring behind.
    #[inline]
    pub fn push(&self, record: StallRecord) {
        let at = self.written.load(Ordering::Relaxed);
        // Pairs with the release in `pop`: the slot's old record has been read.
        if at - self.read.load(Ordering::Acquire) == STALL_RING as u64 {
            self.dropped
                .store(self.dropped.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
            return;
        }
        let slot = &self.slots[at as usize % STALL_RING].0;
        slot[0].store(record.start_tsc, Ordering::Relaxed);
        slot[1].store(record.end_tsc, Ordering::Relaxed);
        slot[2].store(record.gva, Ordering::Relaxed);
        slot[3].store(record.context, Ordering::Relaxed);
        // Pairs with the acquire in `pop`: a record that is counted is whole.
        self.written.store(at + 1, Ordering::Release);
    }

    /// Takes the oldest record. `None` when the ring is empty, or when its indices make no sense
    /// (the host must survive a guest that scribbles over them).
    #[inline]
    pub fn pop(&self) -> Option<StallRecord> {
        let at = self.read.load(Ordering::Relaxed);
        let ready = self.written.load(Ordering::Acquire).wrapping_sub(at);
        if ready == 0 || ready > STALL_RING as u64 {
            return None;
        }
        let slot = &self.slots[at as usize % STALL_RING].0;
        let record = StallRecord {
            start_tsc: slot[0].load(Ordering::Relaxed),
            end_tsc: slot[1].load(Ordering::Relaxed),
            gva: slot[2].load(Ordering::Relaxed),
            context: slot[3].load(Ordering::Relaxed),
        };
        self.read.store(at + 1, Ordering::Release);
        Some(record)
    }

    /// Records lost because the reader was too slow.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

#[cfg(all(loom, test))]
mod loom_models {
    use super::*;
    use loom::{sync::Arc, thread};
    use std::array::from_fn;

    const PUSHED: u64 = 4;

    fn record(number: u64) -> StallRecord {
        StallRecord {
            start_tsc: number,
            end_tsc: number,
            gva: number,
            context: number,
        }
    }

    /// Four records go through a ring of two, put there by `push` and taken out while they come, and
    /// afterwards: those not dropped come whole, once and in order.
    fn ring(push: fn(&StallRing, StallRecord)) {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(3);
        builder.check(move || {
            let ring = Arc::new(StallRing {
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
            let whole = |taken: &StallRecord| *taken == record(taken.start_tsc);
            assert!(taken.iter().all(whole), "a torn record");
            assert!(
                taken.is_sorted_by(|a, b| a.start_tsc < b.start_tsc),
                "order"
            );
            assert_eq!(taken.len() as u64 + ring.dropped(), PUSHED);
        });
    }

    #[test]
    fn loom_records_come_whole_and_in_order() {
        ring(StallRing::push);
    }

    #[test]
    #[should_panic(expected = "a torn record")]
    fn loom_record_that_is_counted_before_it_is_whole_is_caught() {
        ring(|ring, record| {
            let at = ring.written.load(Ordering::Relaxed);
            if at - ring.read.load(Ordering::Acquire) == STALL_RING as u64 {
                return ring.push(record);
            }
            ring.written.store(at + 1, Ordering::Release);
            let words = [record.start_tsc, record.end_tsc, record.gva, record.context];
            for (slot, word) in ring.slots[at as usize % STALL_RING].0.iter().zip(words) {
                slot.store(word, Ordering::Relaxed);
            }
        });
    }
}
