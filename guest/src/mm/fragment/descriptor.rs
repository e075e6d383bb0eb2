//! What is known of one page of tables, kept beside it: the page holds nothing but entries.

use super::{
    owner::TableOwner,
    state::{Half, PageState},
};
use crate::{
    Cpu, lock_class,
    mm::Object,
    record,
    sync::{RcuHead, TicketLock},
};
use core::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};

lock_class!(
    /// Of one table: held while its entries change.
    pub PageTableLock = "page_table_lock"
);

/// What a half's check word says of it, mixed with its owner's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tag {
    Free,
    Table,
    Pending,
}

impl Tag {
    const fn word(self, owner: u64) -> u64 {
        let state = match self {
            Self::Free => return 0xf4ee_7ab1_e000_0000,
            Self::Table => 0x1172_7ab1_e000_0000,
            Self::Pending => 0x9e2d_7ab1_e000_0000,
        };
        state ^ owner
    }
}

/// A page's descriptor, as Linux's `struct ptdesc` (mm_types.h). Atomics only: any bit pattern is a
/// valid value.
#[repr(C)]
pub struct Descriptor {
    slab_head: AtomicU64,
    /// The page.
    pub(super) page: AtomicUsize,
    /// The [`TableOwner`] whose tables these are, and which of its lives.
    pub(super) owner: AtomicUsize,
    pub(super) owner_id: AtomicU64,
    /// Which making of the owner's lock they know.
    pub(super) owner_made: AtomicU64,
    /// The neighbours on the owner's list; under its lock.
    pub(super) next: AtomicUsize,
    pub(super) previous: AtomicUsize,
    /// The one callback head of both halves.
    pub(super) rcu: RcuHead,
    /// Check words of the halves.
    tags: [AtomicU64; 2],
    /// The page-table locks of the halves.
    pub(super) locks: [TicketLock<(), false, PageTableLock>; 2],
    pub(super) state: PageState,
    padding: [AtomicU32; 9],
    slab_tail: AtomicU64,
}

/// Where descriptors begin: an offset in these units fits into a frame's owner word.
pub(super) const UNIT: usize = 64;

const _: () = assert!(size_of::<Descriptor>() == 192 && 192 % UNIT == 0);

// SAFETY: atomics; the first and last words are the slab's.
unsafe impl Object for Descriptor {}

impl Descriptor {
    /// Makes it that of a new page of `owner`'s, in no list. Nobody else knows it yet.
    pub(super) fn init(&self, page: usize, owner: &TableOwner) {
        self.page.store(page, Relaxed);
        self.owner
            .store(core::ptr::from_ref(owner).expose_provenance(), Relaxed);
        self.owner_id.store(owner.id(), Relaxed);
        self.owner_made.store(owner.made(), Relaxed);
        self.next.store(0, Relaxed);
        self.previous.store(0, Relaxed);
        for half in [Half::First, Half::Second] {
            self.set_tag(half, Tag::Free);
            self.locks[half as usize].reset();
        }
        for word in &self.padding {
            word.store(0, Relaxed);
        }
    }

    /// Where it is.
    pub(super) fn address(&self) -> usize {
        core::ptr::from_ref(self).expose_provenance()
    }

    pub(super) fn set_tag(&self, half: Half, tag: Tag) {
        let word = tag.word(self.owner_id.load(Relaxed));
        self.tags[half as usize].store(word, Relaxed);
    }

    /// Whether the check word of `half` says `tag`, of this life of the owner; counted as verified.
    #[inline]
    pub(super) fn has_tag(&self, cpu: &Cpu, half: Half, tag: Tag, owner: u64) -> bool {
        record::checked(cpu, 1);
        self.tags[half as usize].load(Relaxed) == tag.word(owner)
    }
}
