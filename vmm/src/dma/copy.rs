//! Guest memory and the device's own, word by word: guests write theirs at the same time.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};
use underfoot_abi::{DmaDescriptor, PAGE_SIZE};

/// Words in a page.
pub(super) const WORDS: usize = PAGE_SIZE / size_of::<u64>();

/// A page of guest memory at the address that a [`Translate`](underfoot_migrator::Translate) gave.
#[derive(Clone, Copy)]
pub(super) struct Page<'a>(&'a [AtomicU64; WORDS]);

impl<'a> Page<'a> {
    /// # Safety
    /// `at` is the first byte of a page that stays mapped writable for `'a`, and is page-aligned.
    pub(super) const unsafe fn new(at: NonNull<u8>) -> Self {
        // SAFETY: by the caller's promise it is mapped and aligned; atomics take any bits, and may be
        // written by others meanwhile.
        Self(unsafe { at.cast().as_ref() })
    }

    /// Fills `buffer` from word `first` on, as far as both go.
    pub(super) fn read(self, first: usize, buffer: &mut [u64]) {
        for (to, from) in buffer.iter_mut().zip(&self.0[first..]) {
            *to = from.load(Ordering::Relaxed);
        }
    }

    /// Writes `buffer` from word `first` on, as far as both go.
    pub(super) fn write(self, first: usize, buffer: &[u64]) {
        for (from, to) in buffer.iter().zip(&self.0[first..]) {
            to.store(*from, Ordering::Relaxed);
        }
    }

    /// The descriptor at byte `offset`, a multiple of its size.
    pub(super) fn descriptor(self, offset: usize) -> Words<'a> {
        let first = offset / size_of::<u64>();
        let words = &self.0[first..first + size_of::<DmaDescriptor>() / size_of::<u64>()];
        Words(words)
    }
}

/// A descriptor's words, in the order of [`DmaDescriptor`].
pub(super) struct Words<'a>(&'a [AtomicU64]);

impl Words<'_> {
    /// Source, target and bytes, if the status is `status`.
    pub(super) fn read(&self, status: u64) -> Option<[u64; 3]> {
        // Acquire: pairs with the guest's release of the status.
        (self.0[3].load(Ordering::Acquire) == status)
            .then(|| [0, 1, 2].map(|word| self.0[word].load(Ordering::Relaxed)))
    }

    /// Release: who sees it sees what was copied.
    pub(super) fn set_status(&self, status: u64) {
        self.0[3].store(status, Ordering::Release);
    }
}

const _: () = {
    assert!(std::mem::offset_of!(DmaDescriptor, source) == 0);
    assert!(std::mem::offset_of!(DmaDescriptor, target) == 8);
    assert!(std::mem::offset_of!(DmaDescriptor, bytes) == 16);
    assert!(std::mem::offset_of!(DmaDescriptor, status) == 24);
};
