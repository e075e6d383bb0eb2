//! What freed memory is filled with, and how a use after free is seen by it.

use crate::{Cpu, record};
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

pub(super) use underfoot_abi::{POISON_OBJECT as OBJECT, POISON_PAGE as PAGE};

/// The words of memory from `address` on.
///
/// # Safety
/// The memory is mapped, writable and aligned to 8 for ever, and accessed as atomics or machine
/// words only.
pub(crate) unsafe fn words(address: usize, bytes: usize) -> &'static [AtomicU64] {
    // SAFETY: the caller's promise; any bit pattern is a valid `AtomicU64`.
    unsafe {
        core::slice::from_raw_parts(
            core::ptr::with_exposed_provenance(address),
            bytes / size_of::<u64>(),
        )
    }
}

/// Fills `words` with `pattern`.
pub(crate) fn fill(words: &[AtomicU64], pattern: u64) {
    for word in words {
        word.store(pattern, Relaxed);
    }
}

/// Verifies that `words` hold `pattern`; the first that does not is an integrity error. Whether all
/// did.
#[track_caller]
pub(super) fn verify(cpu: &Cpu, words: &[AtomicU64], pattern: u64) -> bool {
    record::checked(cpu, words.len() as u64);
    let wrong = words
        .iter()
        .map(|word| (word, word.load(Relaxed)))
        .find(|&(_, found)| found != pattern);
    if let Some((word, found)) = wrong {
        record::error(cpu, core::ptr::from_ref(word).addr(), found);
    }
    wrong.is_none()
}
