//! Words of a page that its owner writes, and verifies before it lets go of it.

use crate::{
    Cpu,
    random::mix,
    record::{self, access},
};
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use underfoot_abi::PAGE_SIZE;

const WORDS: usize = 8;
const SPREAD: usize = PAGE_SIZE / 8 / WORDS;

/// Writes the words of the page at `page`, which the page allocator gave out.
pub(super) fn write(cpu: &Cpu, page: usize) {
    access(cpu, page, || {
        for (number, word) in words(page) {
            word.store(mix(page as u64 ^ number), Relaxed);
        }
    });
}

/// Verifies what [`write`] wrote; what is wrong is counted.
#[track_caller]
pub(super) fn verify(cpu: &Cpu, page: usize) {
    access(cpu, page, || {
        for (number, word) in words(page) {
            let found = word.load(Relaxed);
            record::checked(cpu, 1);
            if found != mix(page as u64 ^ number) {
                record::error(cpu, core::ptr::from_ref(word).addr(), found);
            }
        }
    });
}

/// The words, and their numbers.
fn words(page: usize) -> impl Iterator<Item = (u64, &'static AtomicU64)> {
    (0..WORDS).map(move |number| {
        let address = page + number * SPREAD * 8;
        // SAFETY: in a page that the allocator gave out, mapped for ever and used as atomics only.
        let word = unsafe { &*core::ptr::with_exposed_provenance::<AtomicU64>(address) };
        (number as u64, word)
    })
}
