//! A mapped page: what it says of itself.

use super::spaces::Spaces;
use crate::{Cpu, random::mix, record, sync::RcuHead};
use core::{
    mem::offset_of,
    ptr::NonNull,
    sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
};
use underfoot_abi::PAGE_SIZE;

const WORDS: usize = PAGE_SIZE / 8 - 10;
const MAGIC: u64 = 0x0a90_0000_0000_0000;

/// A page of an address space: whose it is stands at both ends, so that a lost or a foreign page is
/// seen by who uses it. How often it was written is counted in it, and added up where it is given
/// back: what a page holds must not be lost with it. Atomics only: any bit pattern is a valid value.
#[repr(C)]
pub(super) struct UserPage {
    first: AtomicU64,
    identity: AtomicU64,
    rcu: RcuHead,
    updates: AtomicU64,
    /// The next page that the same change takes away.
    link: AtomicUsize,
    words: [AtomicU64; WORDS],
    last: AtomicU64,
}

const _: () = assert!(size_of::<UserPage>() == PAGE_SIZE);

impl UserPage {
    /// The page at `address`.
    ///
    /// # Safety
    /// At `address` lies a page of RAM that is mapped for ever and used as atomics only.
    pub(super) unsafe fn at(address: usize) -> &'static Self {
        // SAFETY: the caller's promise; any bit pattern is valid.
        unsafe { &*core::ptr::with_exposed_provenance(address) }
    }

    pub(super) fn address(&self) -> usize {
        core::ptr::from_ref(self).expose_provenance()
    }

    /// Makes it an empty page with this identity. Nobody else knows it yet.
    pub(super) fn init(&self, cpu: &Cpu, identity: u64) {
        record::access(cpu, self.address(), || {
            for word in &self.words {
                word.store(0, Relaxed);
            }
            self.updates.store(0, Relaxed);
            self.identity.store(identity, Relaxed);
            self.first.store(MAGIC ^ mix(identity), Relaxed);
            self.last.store(MAGIC ^ mix(identity), Relaxed);
        });
    }

    /// What the page says that it is.
    pub(super) fn identity(&self) -> u64 {
        self.identity.load(Relaxed)
    }

    /// Verifies that the page has a whole identity; whether it has. What is wrong is counted.
    pub(super) fn verify(&self, cpu: &Cpu) -> bool {
        record::checked(cpu, 2);
        let right = MAGIC ^ mix(self.identity());
        let wrong = [&self.first, &self.last]
            .into_iter()
            .find(|word| word.load(Relaxed) != right);
        if let Some(word) = wrong {
            record::error(cpu, core::ptr::from_ref(word).addr(), word.load(Relaxed));
        }
        wrong.is_none()
    }

    /// Reads a word that was never written, or writes what is right there.
    pub(super) fn touch(&self, cpu: &Cpu, number: usize, write: bool) {
        let number = number % WORDS;
        let word = &self.words[number];
        let right = mix(self.identity() ^ number as u64);
        let found = word.load(Relaxed);
        record::checked(cpu, 1);
        if found != 0 && found != right {
            record::error(cpu, core::ptr::from_ref(word).addr(), found);
        }
        if write {
            word.store(right, Relaxed);
            // Other CPUs may write another word of it.
            self.updates.fetch_add(1, Relaxed);
            record::updated(cpu);
        }
    }

    /// How often it was written.
    pub(super) fn updates(&self) -> u64 {
        self.updates.load(Relaxed)
    }

    /// Forgets the updates that it holds: a busted form.
    #[cold]
    pub(super) fn forget_updates(&self) {
        self.updates.store(0, Relaxed);
    }

    /// Links the page with the one at `next`, before nobody uses it any more.
    pub(super) fn link(&self, next: usize) {
        self.link.store(next, Relaxed);
    }

    /// What [`Self::link`] was told.
    pub(super) fn linked(&self) -> usize {
        self.link.load(Relaxed)
    }

    /// Gives the page back.
    ///
    /// # Safety
    /// As of [`Self::free_deferred`], and nobody is using the page, or will.
    pub(super) unsafe fn free(&self, cpu: &Cpu, spaces: &Spaces) {
        // The last one who used it is gone, and with him the last update.
        spaces.write_back(self.updates());
        // SAFETY: the caller's promise.
        unsafe { spaces.memory.pages.free(cpu, self.address(), 0) };
    }

    /// Gives the page back after a grace period: walkers may be using it.
    ///
    /// # Safety
    /// The page is an allocated one of these spaces, whose memory nobody else gives back, and no entry
    /// leads to it any more.
    pub(super) unsafe fn free_deferred(&'static self, cpu: &Cpu, spaces: &'static Spaces) {
        let head = NonNull::from(&self.rcu);
        let spaces_at = core::ptr::from_ref(spaces).expose_provenance();
        // SAFETY: the page is nobody's any more, so its head is in no list; it stays until `free_now`,
        // which gets the spaces that it is from, alive for ever.
        unsafe {
            spaces
                .rcu
                .call_sized(cpu, head, free_now, spaces_at, PAGE_SIZE as u32);
        }
    }
}

/// # Safety
/// `head` is the `rcu` of a page that [`UserPage::free_deferred`] was called for, and `spaces` the
/// exposed address of its [`Spaces`].
unsafe fn free_now(cpu: &Cpu, head: NonNull<RcuHead>, spaces: usize) {
    // SAFETY: the caller's promise.
    let spaces = unsafe { &*core::ptr::with_exposed_provenance::<Spaces>(spaces) };
    let address = head.addr().get() - offset_of!(UserPage, rcu);
    // SAFETY: an allocated page, for atomics only.
    let page = unsafe { UserPage::at(address) };
    // SAFETY: its grace period is over, and no entry led to it before that.
    unsafe { page.free(cpu, spaces) };
}
