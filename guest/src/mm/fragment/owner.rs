//! Whose tables they are: the list of pages with a free half, and its lock.
//!
//! The callback of a freed table may run after the address space is gone, so lock and list lie in an
//! object of their own, whose memory stays of its type for ever (the thread's `SLAB_TYPESAFE_BY_RCU`
//! cache). A later space may have it by then; the lock is the same one, and under it the number of
//! the life tells whether the page belongs to this one.

use super::{descriptor::Descriptor, state::List};
use crate::{
    Cpu, lock_class,
    mm::{Object, Objects, PageAllocator, watermark::Refused},
    record,
    sync::{TicketGuard, TicketLock},
};
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use underfoot_abi::{ReportKind, Variant};

lock_class!(TableListLock = "table_list_lock");
lock_class!(UnusedOwners = "unused_owners");

/// Who takes the lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// A thread.
    Task,
    /// An RCU callback, in a bottom half.
    Callback,
}

/// What outlives an address space of its page tables. Atomics only: any bit pattern is a valid value.
#[repr(C)]
pub struct TableOwner {
    slab_head: AtomicU64,
    /// Made once and never again: somebody may wait for it from an earlier life.
    lock: TicketLock<(), false, TableListLock>,
    /// The number of this life, 0 between two of them. Changed under the lock.
    id: AtomicU64,
    /// The first listed page's [`Descriptor`], or 0. Under the lock.
    first: AtomicUsize,
    /// Tables allocated and not freed.
    pub(super) tables: AtomicU64,
    /// Which making of the lock this is: never another one, as long as the memory stays of its type.
    made: AtomicU64,
    /// The next one without a life, or 0. Under the pool's lock.
    next_unused: AtomicUsize,
    slab_tail: AtomicU64,
}

// SAFETY: atomics; the first and last words are the slab's.
unsafe impl Object for TableOwner {}

impl TableOwner {
    /// The number of this life.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id.load(Relaxed)
    }

    /// Which making of the lock this is.
    pub(super) fn made(&self) -> u64 {
        self.made.load(Relaxed)
    }

    /// Takes the lock of the list. Threads keep bottom halves off their CPU meanwhile, since the
    /// callback takes the same lock: one that came in between would spin for ever. The busted form
    /// forgets that.
    pub(super) fn lock<'a>(&'a self, cpu: &'a Cpu, side: Side) -> OwnerGuard<'a> {
        let held_back = side == Side::Task && cpu.header.variant != Variant::PlainLock as u32;
        if held_back {
            cpu.bottom_half_disable();
        }
        OwnerGuard {
            // Out of turn: the callbacks of every CPU want it, for they free the tables of the same few
            // spaces, one after the other.
            guard: Some(self.lock.lock_unfair(cpu)),
            owner: self,
            cpu,
            held_back,
        }
    }

    /// Whether a bottom half that came now would get the lock.
    #[cfg(test)]
    pub(super) fn is_free(&self, cpu: &Cpu) -> bool {
        self.lock.try_lock(cpu).is_some()
    }
}

/// The list's lock, held.
pub(super) struct OwnerGuard<'a> {
    /// `Some` until dropped: the lock must be free before bottom halves come in.
    guard: Option<TicketGuard<'a, (), false, TableListLock>>,
    owner: &'a TableOwner,
    cpu: &'a Cpu,
    held_back: bool,
}

impl OwnerGuard<'_> {
    /// Whether the tables of the life `id` may be listed here.
    pub(super) fn is_alive(&self, id: u64) -> bool {
        id != 0 && self.owner.id() == id
    }

    /// The first listed page's descriptor.
    pub(super) fn first(&self, descriptors: &Objects<Descriptor>) -> Option<&'static Descriptor> {
        descriptors.at(self.owner.first.load(Relaxed))
    }

    /// Forgets the list, which is broken.
    pub(super) fn forget(&self) {
        self.owner.first.store(0, Relaxed);
    }

    /// Ends this life.
    pub(super) fn end(&self) {
        self.owner.id.store(0, Relaxed);
    }
}

impl Drop for OwnerGuard<'_> {
    fn drop(&mut self) {
        self.guard = None;
        if self.held_back {
            self.cpu.bottom_half_enable();
        }
    }
}

/// One page's place on its owner's list, with the lock held.
pub(super) struct Place<'a> {
    pub(super) guard: &'a OwnerGuard<'a>,
    pub(super) descriptor: &'static Descriptor,
    pub(super) descriptors: &'a Objects<Descriptor>,
}

impl Place<'_> {
    /// What Linux's `CONFIG_DEBUG_LIST` looks for.
    fn check(&self, right: bool, address: usize) {
        if !right {
            let cpu = self.guard.cpu;
            record::error(cpu, self.descriptor.address(), address as u64);
            record::report(
                cpu,
                ReportKind::Fragment,
                [
                    self.descriptor.page.load(Relaxed) as u64,
                    address as u64,
                    0,
                    0,
                ],
                format_args!("the list of pages with a free half is corrupted"),
            );
        }
    }
}

impl List for Place<'_> {
    fn push(&mut self) {
        let (head, page) = (&self.guard.owner.first, self.descriptor);
        let first = head.load(Relaxed);
        self.check(first != page.address(), first);
        page.next.store(first, Relaxed);
        page.previous.store(0, Relaxed);
        if let Some(first) = self.descriptors.at(first) {
            first.previous.store(page.address(), Relaxed);
        }
        head.store(page.address(), Relaxed);
    }

    fn remove(&mut self) {
        let page = self.descriptor;
        let (next, previous) = (page.next.load(Relaxed), page.previous.load(Relaxed));
        let before = match self.descriptors.at(previous) {
            Some(previous) => &previous.next,
            None => &self.guard.owner.first,
        };
        let here = before.load(Relaxed);
        self.check(here == page.address(), here);
        before.store(next, Relaxed);
        if let Some(next) = self.descriptors.at(next) {
            next.previous.store(previous, Relaxed);
        }
        page.next.store(0, Relaxed);
        page.previous.store(0, Relaxed);
    }
}

/// The owners, in use and not. Their memory never becomes anything else.
pub(super) struct Owners {
    pub(super) objects: Objects<TableOwner>,
    /// The first without a life.
    unused: TicketLock<usize, false, UnusedOwners>,
    lives: AtomicU64,
    made: AtomicU64,
}

impl Owners {
    pub(super) fn build(cpu: &Cpu, pages: &'static PageAllocator, most: usize) -> Option<Self> {
        Some(Self {
            objects: Objects::build(cpu, pages, most)?,
            unused: TicketLock::new(0),
            lives: AtomicU64::new(0),
            made: AtomicU64::new(0),
        })
    }

    /// An owner with a new life.
    pub(super) fn enter(&self, cpu: &Cpu) -> Result<&'static TableOwner, Refused> {
        let owner = match self.reuse(cpu) {
            Some(owner) => owner,
            None => self.make(cpu)?,
        };
        let id = self.lives.fetch_add(1, Relaxed) + 1;
        let _guard = owner.lock(cpu, Side::Task);
        owner.tables.store(0, Relaxed);
        owner.first.store(0, Relaxed);
        owner.id.store(id, Relaxed);
        Ok(owner)
    }

    /// Takes an owner back, whose life has ended.
    pub(super) fn leave(&self, cpu: &Cpu, owner: &'static TableOwner) {
        if cpu.header.variant == Variant::OwnerGone as u32 {
            self.objects.free(cpu, owner);
            return;
        }
        let mut unused = self.unused.lock_unfair(cpu);
        owner.next_unused.store(*unused, Relaxed);
        *unused = core::ptr::from_ref(owner).expose_provenance();
    }

    fn reuse(&self, cpu: &Cpu) -> Option<&'static TableOwner> {
        let mut unused = self.unused.lock_unfair(cpu);
        let owner = self.objects.at(*unused)?;
        *unused = owner.next_unused.load(Relaxed);
        Some(owner)
    }

    fn make(&self, cpu: &Cpu) -> Result<&'static TableOwner, Refused> {
        let owner = self.objects.allocate(cpu)?;
        owner.lock.reset();
        owner
            .made
            .store(self.made.fetch_add(1, Relaxed) + 1, Relaxed);
        owner.next_unused.store(0, Relaxed);
        Ok(owner)
    }
}
