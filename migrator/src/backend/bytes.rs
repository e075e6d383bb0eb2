//! Copying and comparing memory that a guest may write meanwhile.
//!
//! What is read may be old, new or torn: it is for the caller to see to that nobody writes, or to
//! compare later. The compiler must not know that it is memory which somebody else writes, hence
//! assembly for the copy.

use std::arch::asm;

/// Copies `len` bytes.
///
/// # Safety
/// Both are mapped for `len` bytes, `to` is the caller's alone, and they do not overlap. `from` may be
/// written by others at the same time.
pub(super) unsafe fn copy(to: *mut u8, from: *const u8, len: usize) {
    // SAFETY: reads and writes exactly what the caller vouches for; the direction flag is clear by
    // the ABI.
    unsafe {
        asm!(
            "rep movsb",
            inout("rcx") len => _,
            inout("rdi") to => _,
            inout("rsi") from => _,
            options(nostack, preserves_flags),
        );
    }
}

/// Whether `len` bytes are the same.
///
/// # Safety
/// Both are mapped for `len` bytes, and nobody writes them meanwhile.
pub(super) unsafe fn are_equal(one: *const u8, other: *const u8, len: usize) -> bool {
    // SAFETY: the caller's duty.
    let (one, other) = unsafe {
        (
            std::slice::from_raw_parts(one, len),
            std::slice::from_raw_parts(other, len),
        )
    };
    one == other
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_equal_until_one_byte_differs() {
        let from: Vec<u8> = (0..12_288u32).map(|n| (n * 31) as u8).collect();
        let mut to = vec![0; from.len()];
        // SAFETY: two vectors of the same length.
        unsafe { copy(to.as_mut_ptr(), from.as_ptr(), from.len()) };
        assert_eq!(to, from);
        for place in [0, 4095, 4096, 12_287] {
            to[place] ^= 1;
            // SAFETY: as above.
            assert!(!unsafe { are_equal(to.as_ptr(), from.as_ptr(), from.len()) });
            to[place] ^= 1;
        }
        // SAFETY: as above.
        assert!(unsafe { are_equal(to.as_ptr(), from.as_ptr(), from.len()) });
    }
}
