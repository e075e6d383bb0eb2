//! What limbo frames are filled with, so that a write to one is seen.

use crate::PAGE_SIZE;

const BYTE: u8 = 0x5a;
static FILLED: [u8; PAGE_SIZE] = [BYTE; PAGE_SIZE];

/// Fills `pages` pages.
///
/// # Safety
/// They must be mapped, writable and owned by the caller.
pub(crate) unsafe fn fill(at: *mut u8, pages: usize) {
    // SAFETY: the caller owns these bytes.
    unsafe { at.write_bytes(BYTE, pages * PAGE_SIZE) }
}

/// Whether a page is not as [`fill`] left it.
///
/// # Safety
/// It must be mapped, initialised and owned by the caller.
pub(crate) unsafe fn is_changed(at: *const u8) -> bool {
    // SAFETY: the caller owns these bytes. A stray write by DMA or by a stale translation is what
    // this looks for: it is not a write of this program.
    let page = unsafe { std::slice::from_raw_parts(at, PAGE_SIZE) };
    // The C library compares in the widest registers that the CPU has.
    page != FILLED
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
            let mut pages = vec![0u8; 3 * PAGE_SIZE];
            let at = pages.as_mut_ptr();
            // SAFETY: the vector holds three pages.
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
            let found = (0..3).filter(|page| unsafe { is_changed(at.add(page * PAGE_SIZE)) });
            prop_assert_eq!(found.collect::<std::collections::BTreeSet<_>>(), changed);
        }
    }
}
