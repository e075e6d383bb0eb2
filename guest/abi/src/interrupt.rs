//! Interrupts that came in the midst of timed accesses, one record each, in a ring per vCPU.

use crate::ring::Ring;

/// Records in one ring: the host takes them every few milliseconds.
pub const INTERRUPT_RING: usize = 512;

/// From the handler's first line to its last: what the processor and the trap layer do around it is not in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InterruptRecord {
    /// TSC at the handler's first line.
    pub start_tsc: u64,
    /// TSC at its last, at most 2^32 - 1 ticks later.
    pub end_tsc: u64,
    /// When a tick that was among what it handled had been due, at most 2^32 - 2 ticks before the start; `None` if there
    /// was none.
    pub due_tsc: Option<u64>,
}

/// One writer (the vCPU, interrupts masked), one reader (the host). A full ring drops and counts: it never blocks.
#[repr(C)]
pub struct InterruptRing(Ring<2, INTERRUPT_RING>);

impl InterruptRing {
    /// Appends a record, or counts it as dropped if the reader is a whole ring behind.
    #[inline]
    pub fn push(&self, record: InterruptRecord) {
        self.0.push(pack(record));
    }

    /// Takes the oldest record. `None` when the ring is empty or makes no sense.
    #[inline]
    pub fn pop(&self) -> Option<InterruptRecord> {
        self.0.pop().map(unpack)
    }

    /// Records lost because the reader was too slow.
    pub fn dropped(&self) -> u64 {
        self.0.dropped()
    }
}

/// The start; its distance to the end in the upper half of a word, and in the lower that to the due time, plus 1.
fn pack(record: InterruptRecord) -> [u64; 2] {
    let InterruptRecord {
        start_tsc,
        end_tsc,
        due_tsc,
    } = record;
    let half = |ticks: u64| ticks.min(u32::MAX.into());
    let lag = due_tsc.map_or(0, |due| half(start_tsc.saturating_sub(due) + 1));
    [
        start_tsc,
        half(end_tsc.saturating_sub(start_tsc)) << 32 | lag,
    ]
}

fn unpack([start_tsc, rest]: [u64; 2]) -> InterruptRecord {
    let lag = u64::from(rest as u32);
    InterruptRecord {
        start_tsc,
        end_tsc: start_tsc.saturating_add(rest >> 32),
        due_tsc: (lag > 0).then(|| start_tsc.saturating_sub(lag - 1)),
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_comes_back_and_what_is_too_long_is_cut() {
        let start_tsc = 1 << 40;
        let most = u64::from(u32::MAX);
        for (end_tsc, due_tsc, end_back, due_back) in [
            (start_tsc, None, start_tsc, None),
            (
                start_tsc + 9,
                Some(start_tsc),
                start_tsc + 9,
                Some(start_tsc),
            ),
            (
                start_tsc + most,
                Some(start_tsc - 7),
                start_tsc + most,
                Some(start_tsc - 7),
            ),
            (
                start_tsc + 2 * most,
                Some(0),
                start_tsc + most,
                Some(start_tsc - most + 1),
            ),
            (0, Some(start_tsc + 5), start_tsc, Some(start_tsc)),
        ] {
            let record = InterruptRecord {
                start_tsc,
                end_tsc,
                due_tsc,
            };
            let back = InterruptRecord {
                end_tsc: end_back,
                due_tsc: due_back,
                ..record
            };
            assert_eq!(unpack(pack(record)), back);
        }
        // The guest's words are its own affair: any are a record.
        unpack([0, u64::MAX]);
        unpack([u64::MAX, u64::MAX]);
    }
}
