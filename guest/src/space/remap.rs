//! Moving a mapping (mremap).

use super::{
    change::{ChangeError, begin, begin_locked, end, lock_vma, range_of, unlock_vma},
    entry::{Entry, index},
    gather::Gather,
    object::Space,
    spaces::Spaces,
    vma::Vma,
};
use crate::{
    Cpu,
    mm::{
        fragment::ENTRIES,
        watermark::{Mode, Refused},
    },
};
use core::{
    ops::Range,
    sync::atomic::Ordering::{AcqRel, Release},
};
use underfoot_abi::PAGE_SIZE;

impl Spaces {
    /// Moves what is mapped in `len` bytes from `start` on, which one mapping must have, to `to` and
    /// on, where nothing may be mapped. Pages move with their content.
    ///
    /// The tables that are needed are made before: allocating within the write sections of the
    /// mappings' sequence counts is what closed the lock cycle of "Speculative page faults"
    /// (2017-08).
    ///
    /// # Errors
    /// See [`ChangeError`].
    pub fn remap(
        &'static self,
        cpu: &Cpu,
        space: &Space,
        start: usize,
        len: usize,
        to: usize,
    ) -> Result<(), ChangeError> {
        let (from, to) = (range_of(start, len)?, range_of(to, len)?);
        self.locked(cpu, space, || {
            if self.tree(space).overlapping(&to).next().is_some() {
                return Err(ChangeError::Mapped { start: to.start });
            }
            let whole = self.find(space, from.start);
            if whole.is_none_or(|vma| vma.range().end < from.end) {
                return Err(ChangeError::NotMapped { start });
            }
            self.split(cpu, space, from.start)?;
            self.split(cpu, space, from.end)?;
            let old = self.find(space, from.start);
            let old = old.ok_or(ChangeError::NotMapped { start })?;
            self.move_vma(cpu, space, old, to.clone())
        })
    }

    /// Moves a whole mapping.
    fn move_vma(
        &'static self,
        cpu: &Cpu,
        space: &Space,
        old: &'static Vma,
        to: Range<usize>,
    ) -> Result<(), ChangeError> {
        let from = old.range();
        let new = self.vmas.allocate(cpu)?;
        let offset = old.page_number(from.start);
        new.init(space.id(), to.clone(), offset, old.protection());
        let mut edit = self.edit(cpu, space);
        let edited = edit.remove(from.start).and_then(|()| edit.insert(new));
        // Faults under this lock make tables: from here on there are as many as will be moved.
        lock_vma(cpu, old, 0);
        if let Err(refused) = edited.and_then(|()| self.make_tables(cpu, space, &from, &to)) {
            unlock_vma(cpu, old);
            self.prune(cpu, space, &to, &self.tree(space).hole(&to));
            self.vmas.free(cpu, new);
            return Err(refused.into());
        }
        begin_locked(cpu, old, 0);
        begin(cpu, new, 1);
        old.detach();
        Self::publish(space, &edit);
        self.move_pages(cpu, space, &from, &to);
        self.prune(cpu, space, &from, &self.tree(space).hole(&from));
        end(cpu, new);
        end(cpu, old);
        self.finish(cpu, edit);
        // SAFETY: detached, and in no tree from now on.
        unsafe { self.free_vma(cpu, old) };
        Ok(())
    }

    /// Makes the leaf tables of `to` for those that `from` has.
    fn make_tables(
        &self,
        cpu: &Cpu,
        space: &Space,
        from: &Range<usize>,
        to: &Range<usize>,
    ) -> Result<(), Refused> {
        let mut made = Ok(());
        self.leaves(cpu, space, from, |_, part| {
            let start = to.start + (part.start - from.start);
            let last = start + part.len() - PAGE_SIZE;
            for address in [start, last] {
                if made.is_ok() {
                    made = self.make_leaf(cpu, space, address, Mode::Kernel).map(drop);
                }
            }
        });
        made
    }

    /// Moves the entries. A page is for a moment at neither place; faults on it wait for the locks.
    ///
    /// Translations of the old place are shot down before the pages are at the new one, a table's at a
    /// time: who takes a page away from there, as reclaim may at once, shoots that place's alone ("mremap:
    /// properly flush TLB before releasing the page", Linux commit eb66ae030829, 2018).
    fn move_pages(&'static self, cpu: &Cpu, space: &Space, from: &Range<usize>, to: &Range<usize>) {
        self.leaves(cpu, space, from, |leaf, part| {
            let Some(lock) = self.tables.lock_of(leaf) else {
                return;
            };
            let mut moved = [0; ENTRIES];
            let mut gather = Gather::new(self, space);
            let addresses = || part.clone().step_by(PAGE_SIZE);
            {
                let _locked = lock.lock(cpu);
                for (found, address) in moved.iter_mut().zip(addresses()) {
                    *found = leaf.entries()[index(address, 0)].swap(0, AcqRel);
                    if *found != 0 {
                        gather.forget(address);
                    }
                }
            }
            gather.finish(cpu);
            for (found, address) in moved.into_iter().zip(addresses()) {
                if found != 0 {
                    let address = to.start + (address - from.start);
                    self.put(cpu, space, address, Entry(found));
                }
            }
        });
    }

    /// Maps a page that was mapped elsewhere at `address`, which has a leaf table.
    fn put(&self, cpu: &Cpu, space: &Space, address: usize, entry: Entry) {
        let leaf = self.leaf(cpu, space, address);
        let place = leaf.and_then(|leaf| Some((leaf, self.tables.lock_of(leaf)?)));
        let Some((leaf, lock)) = place else {
            crate::record::error(cpu, address, entry.0);
            return;
        };
        let _locked = lock.lock(cpu);
        self.note_mapping(space, entry.address(), address);
        // Release: who finds the page finds it whole.
        leaf.entries()[index(address, 0)].store(entry.0, Release);
    }
}
