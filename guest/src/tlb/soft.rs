//! A TLB in software: what address spaces translate by, and the checker of `shootdown`.
//!
//! A hypervisor's shadow pages, and many a processor, drop translations earlier than they must, and
//! so hide a shootdown that was forgotten. This cache drops one only when it is told to.

use super::batch::PageRange;
use crate::{
    Cpu,
    sync::atomic::{
        AtomicU32, AtomicU64,
        Ordering::{Acquire, Relaxed, Release},
        const_fn,
    },
};
use core::sync::atomic::{Ordering::SeqCst, compiler_fence};
use underfoot_abi::PAGE_SIZE;

/// Entries, direct-mapped by page number.
const ENTRIES: usize = if cfg!(loom) { 1 } else { 32 };
/// Beside the page's address in an entry's tag, so that page 0 is not an empty entry.
const VALID: u64 = 1;

/// The cache of one CPU. Only that CPU uses it, but for `announce`.
#[derive(Debug)]
pub struct SoftTlb {
    tags: [AtomicU64; ENTRIES],
    entries: [AtomicU64; ENTRIES],
    /// Times that the host was told to flush this CPU.
    announced: AtomicU64,
    /// How many of these were carried out here.
    honoured: AtomicU64,
    /// The CPU is in the midst of [`Self::access_in_steps`].
    amid: AtomicU32,
}

impl SoftTlb {
    #[cfg(not(loom))]
    pub(super) const fn new() -> Self {
        Self::with(
            [const { AtomicU64::new(0) }; ENTRIES],
            [const { AtomicU64::new(0) }; ENTRIES],
        )
    }

    #[cfg(loom)]
    pub(super) fn new() -> Self {
        let zeroes = || core::array::from_fn(|_| AtomicU64::new(0));
        Self::with(zeroes(), zeroes())
    }

    const_fn! {
        fn with(tags: [AtomicU64; ENTRIES], entries: [AtomicU64; ENTRIES]) -> Self {
            Self {
                tags,
                entries,
                announced: AtomicU64::new(0),
                honoured: AtomicU64::new(0),
                amid: AtomicU32::new(0),
            }
        }
    }

    /// Accesses the page at `page` as a processor would: by the entry that is cached, or by the one
    /// that `walk` finds, which is then cached unless it is `None`. `access` gets that entry.
    ///
    /// Interrupts are masked meanwhile, so that no flush of this CPU falls between translation and
    /// access, as none does on a processor.
    pub fn access<T>(
        &self,
        cpu: &Cpu,
        page: usize,
        walk: impl Fn() -> Option<u64>,
        access: impl Fn(u64) -> T,
    ) -> Option<T> {
        loop {
            let open = cpu.ops.irq_save(cpu);
            let announced = self.honour();
            let value = self.translate(page, &walk).map(&access);
            // A host that flushed did so between two instructions: perhaps after the translation
            // and before the access, which on a processor is one step. Then it counts for nothing.
            let undisturbed = self.announced.load(Acquire) == announced;
            cpu.ops.irq_restore(cpu, open);
            if undisturbed {
                return value;
            }
        }
    }

    /// As [`Self::access`], where `access` takes several steps that cannot be taken back. A host that
    /// stops the CPU in their midst is no excuse for not asking it. Where `access` says `None`, which is
    /// a page fault, the translation is dropped: x86 does so too (SDM 3A, 4.10.4.1), so that one
    /// that another CPU has made allow more needs no shootdown.
    pub fn access_in_steps<T>(
        &self,
        cpu: &Cpu,
        page: usize,
        walk: impl FnOnce() -> Option<u64>,
        access: impl FnOnce(u64) -> Option<T>,
    ) -> Option<T> {
        let open = cpu.ops.irq_save(cpu);
        self.amid.store(1, Relaxed);
        // A host stops the CPU between two instructions, so their order is all that is needed: stopped
        // before this it honours the announcement, after it others see that they must ask.
        compiler_fence(SeqCst);
        self.honour();
        let value = self.translate(page, walk).and_then(access);
        if value.is_none() {
            self.flush(PageRange {
                address: page,
                pages: 1,
            });
        }
        self.amid.store(0, Release);
        cpu.ops.irq_restore(cpu, open);
        value
    }

    /// Whether the CPU, which its host kept from running a moment ago, stood in the midst of an access of
    /// several steps that is not over. After the host's word was read by an acquire.
    pub(super) fn is_amid(&self) -> bool {
        // Acquire: what it accessed in one that is over came before. Pairs with the release there.
        self.amid.load(Acquire) != 0
    }

    fn translate(&self, page: usize, walk: impl FnOnce() -> Option<u64>) -> Option<u64> {
        let index = index(page);
        if self.tags[index].load(Relaxed) == tag(page) {
            return Some(self.entries[index].load(Relaxed));
        }
        let entry = walk()?;
        self.entries[index].store(entry, Relaxed);
        self.tags[index].store(tag(page), Relaxed);
        Some(entry)
    }

    /// Does what the host has done, if it was told to flush; how often it was told.
    fn honour(&self) -> u64 {
        let announced = self.announced.load(Acquire);
        if announced != self.honoured.load(Relaxed) {
            self.flush_all();
            self.honoured.store(announced, Relaxed);
        }
        announced
    }

    /// By another CPU: the host is about to be told to flush this one before it runs again.
    pub(super) fn announce(&self) {
        self.announced.fetch_add(1, Release);
    }

    pub(super) fn flush(&self, range: PageRange) {
        for page in 0..range.pages {
            let page = range.address + page * PAGE_SIZE;
            if self.tags[index(page)].load(Relaxed) == tag(page) {
                self.tags[index(page)].store(0, Relaxed);
            }
        }
    }

    pub(super) fn flush_all(&self) {
        for tag in &self.tags {
            tag.store(0, Relaxed);
        }
    }
}

const fn index(page: usize) -> usize {
    page / PAGE_SIZE % ENTRIES
}

const fn tag(page: usize) -> u64 {
    page as u64 | VALID
}
