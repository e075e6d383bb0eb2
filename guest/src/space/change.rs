//! Changes of the mappings: map, unmap, protect; split and merge.

use super::{
    edit::Edit,
    entry::{END, Entry, index},
    gather::Gather,
    object::Space,
    spaces::Spaces,
    vma::{Protection, Vma},
};
use crate::{Cpu, lock_class, mm::watermark::Refused, record, sync::lockdep};
use core::{
    fmt,
    ops::Range,
    sync::atomic::Ordering::{Relaxed, Release},
};
use underfoot_abi::{PAGE_SIZE, SPLITS, Variant};

lock_class!(
    /// Of a mapping: faults read it, and never wait for it.
    pub(super) VmaLock = "vma_lock"
);

lock_class!(
    /// Write sections of the mappings' sequence counts.
    VmSequence = "vm_sequence"
);

/// Why mappings could not be changed. They are as before, but perhaps split where it was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeError {
    /// The range is empty, not made of pages, or beyond the end of address spaces.
    BadRange {
        /// Its first address.
        start: usize,
        /// Its length.
        len: usize,
    },
    /// Something is mapped there already.
    Mapped {
        /// The address asked for.
        start: usize,
    },
    /// No mapping has the whole range.
    NotMapped {
        /// Its first address.
        start: usize,
    },
    /// No page is left.
    OutOfMemory,
    /// There are as many mappings as there may be, and waiting has not helped.
    TooMany,
}

impl fmt::Display for ChangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadRange { start, len } => {
                write!(
                    f,
                    "{len:#x} bytes from {start:#x} are no pages of an address space"
                )
            }
            Self::Mapped { start } => write!(f, "something is mapped from {start:#x} on"),
            Self::NotMapped { start } => write!(f, "no mapping has all from {start:#x} on"),
            Self::OutOfMemory => write!(f, "no page is left; give the guest more memory"),
            Self::TooMany => write!(f, "there are as many mappings as there may be; use fewer"),
        }
    }
}

impl core::error::Error for ChangeError {}

impl From<Refused> for ChangeError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Full => Self::TooMany,
            Refused::Empty | Refused::Reserve { .. } => Self::OutOfMemory,
        }
    }
}

/// The range of `len` bytes from `start` on, if it is one of pages.
pub(super) fn range_of(start: usize, len: usize) -> Result<Range<usize>, ChangeError> {
    let pages = start.is_multiple_of(PAGE_SIZE) && len.is_multiple_of(PAGE_SIZE) && len > 0;
    match start.checked_add(len) {
        Some(end) if pages && end <= END => Ok(start..end),
        _ => Err(ChangeError::BadRange { start, len }),
    }
}

impl Spaces {
    /// Maps `len` bytes from `start` on to pages of zeroes, which come when they are used.
    ///
    /// # Errors
    /// See [`ChangeError`].
    pub fn map(
        &'static self,
        cpu: &Cpu,
        space: &Space,
        start: usize,
        len: usize,
        protection: Protection,
    ) -> Result<(), ChangeError> {
        let range = range_of(start, len)?;
        self.locked(cpu, space, || {
            if self.tree(space).overlapping(&range).next().is_some() {
                return Err(ChangeError::Mapped { start });
            }
            let offset = start / PAGE_SIZE;
            self.insert(cpu, space, range.clone(), offset, protection)?;
            self.merge_around(cpu, space, &range);
            Ok(())
        })
    }

    /// Unmaps what is mapped in `len` bytes from `start` on.
    ///
    /// # Errors
    /// See [`ChangeError`].
    pub fn unmap(
        &'static self,
        cpu: &Cpu,
        space: &Space,
        start: usize,
        len: usize,
    ) -> Result<(), ChangeError> {
        let range = range_of(start, len)?;
        self.locked(cpu, space, || {
            self.split(cpu, space, range.start)?;
            self.split(cpu, space, range.end)?;
            let mut edit = self.edit(cpu, space);
            for vma in self.tree(space).overlapping(&range) {
                edit.remove(vma.range().start)?;
            }
            self.take_away(cpu, space, &range, Some(edit));
            Ok(())
        })
    }

    /// Changes what the mappings of `len` bytes from `start` on allow.
    ///
    /// # Errors
    /// See [`ChangeError`].
    pub fn protect(
        &'static self,
        cpu: &Cpu,
        space: &Space,
        start: usize,
        len: usize,
        protection: Protection,
    ) -> Result<(), ChangeError> {
        let range = range_of(start, len)?;
        self.locked(cpu, space, || {
            self.split(cpu, space, range.start)?;
            self.split(cpu, space, range.end)?;
            let mut gather = Gather::new(self, space);
            for vma in self.tree(space).overlapping(&range) {
                begin(cpu, vma, 0);
                vma.set_protection(protection);
                self.set_writable(cpu, space, vma, &mut gather);
                end(cpu, vma);
            }
            gather.finish(cpu);
            self.merge_around(cpu, space, &range);
            Ok(())
        })
    }

    /// Takes the pages away that are there in `len` bytes from `start` on; mappings and tables stay,
    /// and the next access finds zeroes (MADV_DONTNEED). Faults go on meanwhile.
    ///
    /// # Errors
    /// [`ChangeError::BadRange`].
    pub fn discard(
        &'static self,
        cpu: &Cpu,
        space: &Space,
        start: usize,
        len: usize,
    ) -> Result<(), ChangeError> {
        let range = range_of(start, len)?;
        let _held = space.lock.read(cpu);
        let mut gather = Gather::new(self, space);
        self.zap(cpu, space, &range, &mut gather);
        gather.finish(cpu);
        Ok(())
    }

    /// Unmaps all, for an exit: needs no memory.
    pub(super) fn unmap_all(&'static self, cpu: &Cpu, space: &Space) {
        let _held = space.lock.write(cpu);
        self.take_away(cpu, space, &(0..END), None);
    }

    /// Runs `change` as the one who changes the mappings; again while there is no slot for it. Undone or
    /// done in part, it must be one that can be begun anew.
    pub(super) fn locked(
        &self,
        cpu: &Cpu,
        space: &Space,
        change: impl Fn() -> Result<(), ChangeError>,
    ) -> Result<(), ChangeError> {
        let attempt = || {
            let _held = space.lock.write(cpu);
            change()
        };
        self.patiently(cpu, attempt, |error| *error == ChangeError::TooMany)
    }

    /// Adds a mapping where nothing is mapped.
    pub(super) fn insert(
        &'static self,
        cpu: &Cpu,
        space: &Space,
        range: Range<usize>,
        offset: usize,
        protection: Protection,
    ) -> Result<&'static Vma, ChangeError> {
        let vma = self.vmas.allocate(cpu)?;
        vma.init(space.id(), range, offset, protection);
        let edit = self.edit_with(cpu, space, vma)?;
        Self::publish(space, &edit);
        self.finish(cpu, edit);
        Ok(vma)
    }

    /// A change by which `vma`, which nobody knows yet, comes. Without memory it is freed.
    fn edit_with<'a>(
        &'a self,
        cpu: &'a Cpu,
        space: &Space,
        vma: &Vma,
    ) -> Result<Edit<'a>, ChangeError> {
        let mut edit = self.edit(cpu, space);
        if let Err(error) = edit.insert(vma) {
            self.vmas.free(cpu, vma);
            return Err(error.into());
        }
        Ok(edit)
    }

    /// Has no mapping reach across `address`.
    pub(super) fn split(
        &'static self,
        cpu: &Cpu,
        space: &Space,
        address: usize,
    ) -> Result<(), ChangeError> {
        let Some(low) = self.find(space, address) else {
            return Ok(());
        };
        let range = low.range();
        if range.start == address {
            return Ok(());
        }
        let high = self.vmas.allocate(cpu)?;
        let offset = low.page_number(address);
        high.init(space.id(), address..range.end, offset, low.protection());
        let edit = self.edit_with(cpu, space, high)?;
        begin(cpu, low, 0);
        low.set_end(address);
        Self::publish(space, &edit);
        end(cpu, low);
        record::count(cpu, SPLITS, 1);
        self.finish(cpu, edit);
        Ok(())
    }

    /// Makes one of the mappings that meet at the ends of `range`, where they may be one. Without
    /// memory they stay two.
    fn merge_around(&'static self, cpu: &Cpu, space: &Space, range: &Range<usize>) {
        for address in [range.start, range.end] {
            let low = address
                .checked_sub(1)
                .and_then(|last| self.find(space, last));
            let high = self.find(space, address);
            if let (Some(low), Some(high)) = (low, high)
                && !core::ptr::eq(low, high)
                && low.continues(high)
            {
                self.merge(cpu, space, low, high);
            }
        }
    }

    fn merge(&'static self, cpu: &Cpu, space: &Space, low: &'static Vma, high: &'static Vma) {
        let mut edit = self.edit(cpu, space);
        if edit.remove(high.range().start).is_err() {
            return;
        }
        begin(cpu, low, 0);
        begin(cpu, high, 1);
        low.set_end(high.range().end);
        high.detach();
        Self::publish(space, &edit);
        end(cpu, high);
        end(cpu, low);
        record::count(cpu, SPLITS + 1, 1);
        self.finish(cpu, edit);
        // SAFETY: detached, and in no tree from now on.
        unsafe { self.free_vma(cpu, high) };
    }

    /// Takes the mappings inside of `range` away, at whose ends none reaches across and which `edit`
    /// does without; without an edit all of them go, and are found no more as the space is not.
    fn take_away(
        &'static self,
        cpu: &Cpu,
        space: &Space,
        range: &Range<usize>,
        edit: Option<Edit<'_>>,
    ) {
        let old = self.tree(space);
        let gone = || old.overlapping(range);
        // Any number of mappings at once, which nobody else changes: one stretch for the checker.
        let locked = lockdep::enter::<VmaLock>(cpu);
        let sections = lockdep::enter::<VmSequence>(cpu);
        for vma in gone() {
            lock_unchecked(cpu, vma);
            vma.seq.write_begin();
            vma.detach();
        }
        let hole = match &edit {
            Some(edit) => {
                Self::publish(space, edit);
                self.tree(space).hole(range)
            }
            None => range.clone(),
        };
        let mut gather = Gather::new(self, space);
        for vma in gone() {
            self.zap(cpu, space, &vma.range(), &mut gather);
        }
        // All at once: several of them may need one table, which must be empty when it is freed.
        let first = gone().next().map(|vma| vma.range().start);
        let last = old.floor(range.end - 1).map(|vma| vma.range().end);
        if let (Some(start), Some(end)) = (first, last) {
            self.prune(cpu, space, &(start..end), &hole);
        }
        for vma in gone() {
            vma.seq.write_end();
            unlock_unchecked(cpu, vma);
            // SAFETY: detached, and in no tree from now on but one that dies with the space.
            unsafe { self.free_vma(cpu, vma) };
        }
        drop((sections, locked));
        gather.finish(cpu);
        if let Some(edit) = edit {
            self.finish(cpu, edit);
        }
    }

    /// Makes the entries under a locked mapping say what it allows. Translations that allow less than
    /// that are left alone: who needs more finds out by a fault.
    fn set_writable(&self, cpu: &Cpu, space: &Space, vma: &Vma, gather: &mut Gather<'_>) {
        let writable = vma.allows(true);
        self.leaves(cpu, space, &vma.range(), |leaf, part| {
            let Some(lock) = self.tables.lock_of(leaf) else {
                return;
            };
            let _locked = lock.lock(cpu);
            for address in part.step_by(PAGE_SIZE) {
                let entry = &leaf.entries()[index(address, 0)];
                let found = Entry(entry.load(Relaxed));
                if found.is_page() {
                    entry.store(found.with_writable(writable).0, Release);
                    if found.is_writable() && !writable {
                        gather.forget(address);
                    }
                }
            }
        });
    }
}

/// Locks a mapping for a change, within `level` others; faults on it wait, or fall back.
pub(super) fn begin(cpu: &Cpu, vma: &Vma, level: usize) {
    lock_vma(cpu, vma, level);
    begin_locked(cpu, vma, level);
}

/// The rest of [`begin`] after [`lock_vma`].
pub(super) fn begin_locked(cpu: &Cpu, vma: &Vma, level: usize) {
    vma.seq.write_begin_classed::<VmSequence>(cpu, level);
}

/// Undoes [`begin`].
pub(super) fn end(cpu: &Cpu, vma: &Vma) {
    vma.seq.write_end_classed::<VmSequence>(cpu);
    unlock_vma(cpu, vma);
}

/// Waits for the faults on a mapping, within `level` others. The busted form does not.
pub(super) fn lock_vma(cpu: &Cpu, vma: &Vma, level: usize) {
    lockdep::acquire::<VmaLock>(cpu, vma.lock_address(), level);
    lock_unchecked(cpu, vma);
}

pub(super) fn unlock_vma(cpu: &Cpu, vma: &Vma) {
    lockdep::release::<VmaLock>(cpu, vma.lock_address());
    unlock_unchecked(cpu, vma);
}

/// As [`lock_vma`], where the lock-order checker knows already.
fn lock_unchecked(cpu: &Cpu, vma: &Vma) {
    if cpu.header.variant != Variant::NoVmaLock as u32 {
        vma.lock.write(cpu);
    }
}

fn unlock_unchecked(cpu: &Cpu, vma: &Vma) {
    if cpu.header.variant != Variant::NoVmaLock as u32 {
        vma.lock.write_end();
    }
}
