//! When a vCPU last touched which page.

use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// Pages that are told apart; those that are so many apart share a place, and seem touched as lately as the other.
pub const TOUCHES: usize = 16_384;

/// Ticks that are not told apart, as a power of two: 0.4 µs at 2.6 GHz, and half an hour until the words wrap.
const SHIFT: u32 = 10;

/// Times of one vCPU's timed accesses, by page. That vCPU alone writes and reads it.
#[repr(C)]
pub struct Touches([AtomicU32; TOUCHES]);

impl Touches {
    /// The page was touched at `tsc`.
    #[inline]
    pub fn note(&self, page: usize, tsc: u64) {
        self.0[page % TOUCHES].store((tsc >> SHIFT) as u32, Relaxed);
    }

    /// When the page was touched last, as seen at `now_tsc`: at most 1024 ticks early; 0 if it never was.
    #[inline]
    pub fn last(&self, page: usize, now_tsc: u64) -> u64 {
        let then = self.0[page % TOUCHES].load(Relaxed);
        if then == 0 {
            return 0;
        }
        let ago = ((now_tsc >> SHIFT) as u32).wrapping_sub(then);
        ((now_tsc >> SHIFT).saturating_sub(u64::from(ago))) << SHIFT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_touch_is_known_to_a_thousand_ticks_also_behind_a_wrap() {
        let touches = Touches(std::array::from_fn(|_| AtomicU32::new(0)));
        assert_eq!(touches.last(7, 1 << 40), 0);
        for (then, now) in [
            (5_000, 5_100),
            (1 << 41, (1 << 41) + 9_999_999),
            ((1 << 42) - 5, (1 << 42) + 5_000),
            (3 << 42 | 1 << 20, 3 << 42 | 1 << 30),
        ] {
            touches.note(7, then);
            let last = touches.last(7, now);
            assert!(
                last <= then && then - last < 1 << SHIFT,
                "{then} {now} {last}"
            );
            assert_eq!(touches.last(7 + TOUCHES, now), last);
            assert_eq!(touches.last(8, now), 0);
        }
    }
}
