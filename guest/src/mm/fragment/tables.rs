//! The allocator of page tables.

use super::{
    descriptor::{Descriptor, PageTableLock, Tag, UNIT},
    owner::{OwnerGuard, Owners, Place, Side, TableOwner},
    state::{Deferred, Half},
    table::Table,
    usage::{Counts, Usage},
};
use crate::{
    Cpu,
    mm::{
        Objects, poison,
        watermark::{Mode, Refused, Watermarks},
    },
    record,
    sync::{Rcu, TicketLock},
};
use core::{fmt, sync::atomic::Ordering::Relaxed};
use underfoot_abi::{PAGE_SIZE, PageByte, PageKind, ReportKind, Variant};

/// Fills free halves.
pub(super) const POISON: u64 = 0x7ab1_f4ee_7ab1_f4ee;

const BYTE: PageByte = PageByte::new(PageKind::PageTable, false);

/// How tables lie in pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum TableKind {
    /// Two to a page.
    Fragments = 0,
    /// One to a page, whose other half is wasted: no list, and nothing to share.
    Whole = 1,
}

/// Page tables for address spaces.
///
/// What is found wrong is reported as [`ReportKind::Fragment`] and counted as an error; the page in
/// question is kept for ever.
pub struct TableAllocator {
    pub(super) memory: &'static Watermarks,
    pub(super) rcu: &'static Rcu,
    pub(super) descriptors: Objects<Descriptor>,
    owners: Owners,
    kind: TableKind,
    pub(super) counts: Counts,
}

impl TableAllocator {
    /// An allocator of at most about `most` pages of tables at a time, for at most about `spaces`
    /// address spaces. `None` if no page is left. It is never freed.
    #[must_use]
    pub fn build(
        cpu: &Cpu,
        memory: &'static Watermarks,
        rcu: &'static Rcu,
        kind: TableKind,
        most: usize,
        spaces: usize,
    ) -> Option<&'static Self> {
        let pages = memory.pages;
        let allocator = Self {
            memory,
            rcu,
            descriptors: Objects::build(cpu, pages, most)?,
            owners: Owners::build(cpu, pages, spaces)?,
            kind,
            counts: Counts::default(),
        };
        pages.place(cpu, PageByte::new(PageKind::Data, false), allocator)
    }

    /// What tables take at the moment.
    #[must_use]
    pub fn usage(&self) -> Usage {
        self.counts.usage()
    }

    /// The owner of a new address space's tables.
    ///
    /// # Errors
    /// [`Refused::Full`] if there are too many, [`Refused::Empty`] if no page is left.
    pub fn enter(&self, cpu: &Cpu) -> Result<&'static TableOwner, Refused> {
        self.owners.enter(cpu)
    }

    /// The address space goes away, after all its tables were freed: a table that was not is lost,
    /// and that is an error. Callbacks may come later. Nobody may use `owner` any more.
    pub fn leave(&self, cpu: &Cpu, owner: &'static TableOwner) {
        let left = owner.tables.load(Relaxed);
        if left != 0 {
            let words = [owner.id(), left, 0, 0];
            misused(
                cpu,
                words,
                format_args!("{left} tables are lost: no table leads to them"),
            );
        }
        let guard = owner.lock(cpu, Side::Task);
        self.abandon_from(cpu, guard.first(&self.descriptors));
        guard.forget();
        guard.end();
        drop(guard);
        self.owners.leave(cpu, owner);
    }

    /// A table of zeroes. May sleep if `mode` allows it. Not in a bottom half.
    ///
    /// # Errors
    /// [`Refused`]. A table that shares a page with another costs none and is not refused.
    pub fn allocate(
        &'static self,
        cpu: &Cpu,
        owner: &'static TableOwner,
        mode: Mode,
    ) -> Result<Table, Refused> {
        let table = match self.reuse(cpu, owner) {
            Some(table) => table,
            None => self.grow(cpu, owner, mode)?,
        };
        owner.tables.fetch_add(1, Relaxed);
        let words = table.entries();
        let sound = record::access(cpu, table.address(), || {
            let sound = poison::verify(cpu, words, POISON);
            poison::fill(words, 0);
            sound
        });
        if !sound {
            let words = [table.address() as u64, owner.id(), 0, 0];
            let text = format_args!("a table was written after it was freed");
            record::report(cpu, ReportKind::Fragment, words, text);
        }
        Ok(table)
    }

    /// Frees a table that no walker ever could reach. Not in a bottom half.
    ///
    /// # Safety
    /// Nobody else knows the table.
    pub unsafe fn free(&'static self, cpu: &Cpu, table: Table) {
        let Some(descriptor) = self.owned(cpu, table) else {
            return;
        };
        let half = table.half();
        poison::fill(table.entries(), POISON);
        descriptor.set_tag(half, Tag::Free);
        self.count_freed(descriptor);
        let Some(owner) = self.owner_of(cpu, descriptor) else {
            return self.counts.gone(false);
        };
        let guard = owner.lock(cpu, Side::Task);
        let alive = self.lists(&guard, descriptor);
        let mut place = self.place(&guard, descriptor);
        let settled = descriptor.state.settle_now(half, alive, &mut place);
        self.counts.gone(settled.gives_back());
        drop(guard);
        self.finish(cpu, descriptor, settled);
    }

    /// Frees a table that walkers may still be reading, after a grace period. It must be empty, and
    /// nothing may lead to it any more.
    ///
    /// # Safety
    /// Who finds the table from now on found it before, in a read section that is not over yet.
    pub unsafe fn free_deferred(&'static self, cpu: &Cpu, table: Table) {
        let Some(descriptor) = self.owned(cpu, table) else {
            return;
        };
        let half = table.half();
        descriptor.set_tag(half, Tag::Pending);
        self.count_freed(descriptor);
        self.counts.pending.fetch_add(1, Relaxed);
        match descriptor.state.defer(half, true) {
            Deferred::Queue => self.queue(cpu, descriptor),
            Deferred::Later => {}
            Deferred::Misuse(word) => {
                let words = [table.address() as u64, u64::from(word), 0, 0];
                misused(
                    cpu,
                    words,
                    format_args!("a table is freed that is not allocated"),
                );
            }
        }
    }

    /// Whether the table is one of `owner`'s life `id`, allocated or pending: what a walker may meet.
    /// If not, that is an error, which is reported.
    #[inline]
    pub fn verify(&self, cpu: &Cpu, table: Table, id: u64) -> bool {
        let sound = self.descriptor_of(table).is_some_and(|descriptor| {
            [Tag::Table, Tag::Pending]
                .into_iter()
                .any(|tag| descriptor.has_tag(cpu, table.half(), tag, id))
        });
        if !sound {
            let words = [table.address() as u64, id, 0, 0];
            misused(
                cpu,
                words,
                format_args!("a walker met a table that was freed"),
            );
        }
        sound
    }

    /// The page-table lock of a table, to be taken under RCU or by who keeps the table from being
    /// freed. `None` of what is no table any more.
    #[inline]
    #[must_use]
    pub fn lock_of(&self, table: Table) -> Option<&'static TicketLock<(), false, PageTableLock>> {
        Some(&self.descriptor_of(table)?.locks[table.half() as usize])
    }

    /// The table at `address`, if there may be one.
    #[inline]
    #[must_use]
    pub fn at(&self, address: usize) -> Option<Table> {
        let inside = self.memory.pages.covers().contains(&address);
        // SAFETY: inside of RAM that the page allocator has for ever; `descriptor_of` says no to
        // pages that hold no tables, and their words are atomics whoever has them.
        let table = unsafe { Table::new(address & !(super::TABLE_BYTES - 1)) };
        (inside && self.descriptor_of(table).is_some()).then_some(table)
    }

    /// The owner at `address`, if there may be one.
    #[inline]
    #[must_use]
    pub fn owner_at(&self, address: usize) -> Option<&'static TableOwner> {
        self.owners.objects.at(address)
    }

    /// A free half of a listed page.
    fn reuse(&self, cpu: &Cpu, owner: &'static TableOwner) -> Option<Table> {
        let guard = owner.lock(cpu, Side::Task);
        let descriptor = guard.first(&self.descriptors)?;
        if !self.descriptors.verify(cpu, descriptor)
            || !descriptor.state.is_listed()
            || !guard.is_alive(descriptor.owner_id.load(Relaxed))
        {
            guard.forget();
            let words = [descriptor.address() as u64, owner.id(), 0, 0];
            misused(
                cpu,
                words,
                format_args!("a page was given back while it was listed"),
            );
            return None;
        }
        let check_pending = cpu.header.variant != Variant::NoPendingCheck as u32;
        let mut place = self.place(&guard, descriptor);
        let half = descriptor.state.take(check_pending, &mut place)?;
        if !descriptor.has_tag(cpu, half, Tag::Free, 0) {
            let words = [descriptor.page.load(Relaxed) as u64, half as u64, 0, 0];
            misused(
                cpu,
                words,
                format_args!("a table is given out that is not free"),
            );
        }
        descriptor.set_tag(half, Tag::Table);
        self.counts.taken();
        self.counts.reused.fetch_add(1, Relaxed);
        if descriptor.state.is_beside_pending(half) {
            self.counts.beside_pending.fetch_add(1, Relaxed);
        }
        let page = descriptor.page.load(Relaxed);
        // SAFETY: a page of the page allocator's, and a half of it.
        Some(unsafe { Table::new(page + half as usize * super::TABLE_BYTES) })
    }

    /// A new page's first half.
    fn grow(&self, cpu: &Cpu, owner: &'static TableOwner, mode: Mode) -> Result<Table, Refused> {
        let page = self.memory.allocate(cpu, BYTE, mode)?;
        // SAFETY: nobody else knows the page.
        let give_back = |_: &Refused| unsafe { self.memory.pages.free(cpu, page, 0) };
        let descriptor = self.descriptors.allocate(cpu).inspect_err(give_back)?;
        descriptor.init(page, owner);
        descriptor.set_tag(Half::First, Tag::Table);
        // SAFETY: a page that the allocator gave out, for atomics only.
        let words = unsafe { poison::words(page, PAGE_SIZE) };
        record::access(cpu, page, || poison::fill(words, POISON));
        let pages = self.memory.pages;
        let unit = (descriptor.address() - pages.covers().start) / UNIT;
        pages.set_owner(page, unit as u32);
        self.counts.grown();
        let guard = owner.lock(cpu, Side::Task);
        let mut place = self.place(&guard, descriptor);
        let shared = self.kind == TableKind::Fragments;
        descriptor.state.reset(shared.then_some(&mut place));
        drop(guard);
        // SAFETY: as above.
        Ok(unsafe { Table::new(page) })
    }

    /// Takes the pages from `first` on off their list, whose owner goes away.
    fn abandon_from(&self, cpu: &Cpu, first: Option<&'static Descriptor>) {
        let mut next = first;
        while let Some(descriptor) = next {
            if !self.descriptors.verify(cpu, descriptor) {
                let words = [descriptor.address() as u64, 0, 0, 0];
                misused(
                    cpu,
                    words,
                    format_args!("a page was given back while it was listed"),
                );
                return;
            }
            next = self.descriptors.at(descriptor.next.load(Relaxed));
            descriptor.state.abandon();
        }
    }

    fn count_freed(&self, descriptor: &Descriptor) {
        // The space still lives: its tables are freed before it leaves.
        if let Some(owner) = self.owners.objects.at(descriptor.owner.load(Relaxed)) {
            owner.tables.fetch_sub(1, Relaxed);
        }
    }

    /// Whether the page may be listed, now that the lock of its owner is held.
    pub(super) fn lists(&self, guard: &OwnerGuard<'_>, descriptor: &Descriptor) -> bool {
        self.kind == TableKind::Fragments && guard.is_alive(descriptor.owner_id.load(Relaxed))
    }

    pub(super) fn place<'a>(
        &'a self,
        guard: &'a OwnerGuard<'a>,
        descriptor: &'static Descriptor,
    ) -> Place<'a> {
        Place {
            guard,
            descriptor,
            descriptors: &self.descriptors,
        }
    }

    /// The owner of the page, past or present, whose lock is good to be taken.
    pub(super) fn owner_of(
        &self,
        cpu: &Cpu,
        descriptor: &Descriptor,
    ) -> Option<&'static TableOwner> {
        let owner = self.owners.objects.at(descriptor.owner.load(Relaxed));
        let sound = owner.filter(|owner| {
            self.owners.objects.verify(cpu, owner)
                && owner.made() == descriptor.owner_made.load(Relaxed)
        });
        if sound.is_none() {
            let words = [
                descriptor.page.load(Relaxed) as u64,
                descriptor.owner_id.load(Relaxed),
                0,
                0,
            ];
            misused(
                cpu,
                words,
                format_args!("a table's owner was used after it was freed"),
            );
            self.counts.lost.fetch_add(1, Relaxed);
        }
        sound
    }

    /// The descriptor of a table's page, if it has one.
    #[inline]
    fn descriptor_of(&self, table: Table) -> Option<&'static Descriptor> {
        let pages = self.memory.pages;
        let unit = pages.owner(table.page())? as usize;
        let descriptor = self.descriptors.at(pages.covers().start + unit * UNIT)?;
        (descriptor.page.load(Relaxed) == table.page()).then_some(descriptor)
    }

    /// The descriptor of a table that is to be freed, if it is allocated.
    fn owned(&self, cpu: &Cpu, table: Table) -> Option<&'static Descriptor> {
        let descriptor = self.descriptor_of(table).filter(|descriptor| {
            let owner = descriptor.owner_id.load(Relaxed);
            descriptor.has_tag(cpu, table.half(), Tag::Table, owner)
        });
        if descriptor.is_none() {
            let words = [table.address() as u64, 0, 0, 0];
            misused(
                cpu,
                words,
                format_args!("a table is freed that is not allocated"),
            );
        }
        descriptor
    }
}

/// Reports a finding and counts it as an error at the first of `words`.
#[cold]
pub(super) fn misused(cpu: &Cpu, words: [u64; 4], text: fmt::Arguments<'_>) {
    record::error(cpu, words[0] as usize, words[1]);
    record::report(cpu, ReportKind::Fragment, words, text);
}

#[cfg(test)]
mod tests;
