//! What limbo frames are filled with, so that a write to one is seen.

use crate::PAGE_SIZE;

const BYTE: u8 = 0x5a;
const WORD: u64 = u64::from_ne_bytes([BYTE; 8]);
const WORDS: usize = PAGE_SIZE / size_of::<u64>();

/// Fills `pages` pages.
///
/// # Safety
/// They must be mapped, writable and owned by the caller.
pub(crate) unsafe fn fill(at: *mut u8, pages: usize) {
    // SAFETY: the caller owns these bytes.
    unsafe { at.write_bytes(BYTE, pages * PAGE_SIZE) }
}

/// How many of `pages` pages are not as [`fill`] left them.
///
/// # Safety
/// They must be mapped, page-aligned, initialised and owned by the caller.
pub(crate) unsafe fn count_changed(at: *const u8, pages: usize) -> u32 {
    // SAFETY: the caller owns these bytes, and pages are aligned for words. A stray write by DMA or
    // by a stale translation is what this looks for: it is not a write of this program.
    let words = unsafe { std::slice::from_raw_parts(at.cast::<u64>(), pages * WORDS) };
    words
        .chunks_exact(WORDS)
        // Without an early exit the comparison is done in wide registers.
        .filter(|page| page.iter().fold(0, |seen, word| seen | (word ^ WORD)) != 0)
        .count() as u32
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_changed_byte_is_seen(
            changes in prop::collection::btree_map(0usize..3 * PAGE_SIZE, any::<u8>(), 0..6),
        ) {
            let mut pages = vec![0u64; 3 * WORDS];
            let at = pages.as_mut_ptr().cast::<u8>();
            // SAFETY: the vector holds three pages' worth of aligned words.
            unsafe { fill(at, 3) };
            for (&offset, &value) in &changes {
                // SAFETY: the offset is within the three pages.
                unsafe { at.add(offset).write(value) };
            }
            let changed: std::collections::BTreeSet<_> = changes
                .iter()
                .filter(|(_, value)| **value != BYTE)
                .map(|(offset, _)| offset / PAGE_SIZE)
                .collect();
            // SAFETY: as above.
            prop_assert_eq!(unsafe { count_changed(at, 3) } as usize, changed.len());
        }
    }
}
