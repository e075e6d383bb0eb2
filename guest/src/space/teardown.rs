//! Taking pages and tables away from under walkers.

use super::{
    entry::{Entry, LEVELS, entry_span, index, table_span},
    gather::Gather,
    object::Space,
    page::UserPage,
    spaces::Spaces,
};
use crate::{
    Cpu,
    mm::fragment::{ENTRIES, Table},
};
use core::{
    ops::Range,
    sync::atomic::Ordering::{AcqRel, Release},
};
use underfoot_abi::PAGE_SIZE;

impl Spaces {
    /// Calls `each` with every leaf table that `range` has, and the part of the range under it.
    pub(super) fn leaves(
        &self,
        cpu: &Cpu,
        space: &Space,
        range: &Range<usize>,
        mut each: impl FnMut(Table, Range<usize>),
    ) {
        let root = self
            .tables
            .at(space.root.load(core::sync::atomic::Ordering::Relaxed));
        if let Some(root) = root {
            self.leaves_of(cpu, space, root, LEVELS - 1, range, &mut each);
        }
    }

    fn leaves_of(
        &self,
        cpu: &Cpu,
        space: &Space,
        table: Table,
        level: usize,
        range: &Range<usize>,
        each: &mut dyn FnMut(Table, Range<usize>),
    ) {
        if level == 0 {
            each(table, range.clone());
            return;
        }
        for part in parts(range, level) {
            let entry = &table.entries()[index(part.start, level)];
            if let Some(below) = self.below(cpu, space, entry) {
                self.leaves_of(cpu, space, below, level - 1, &part, each);
            }
        }
    }

    /// Unmaps every page in `range`, whose tables are kept by the space's lock; they are used until
    /// `gather`, into which they go, is finished.
    pub(super) fn zap(
        &'static self,
        cpu: &Cpu,
        space: &Space,
        range: &Range<usize>,
        gather: &mut Gather<'_>,
    ) {
        self.leaves(cpu, space, range, |leaf, part| {
            let mut taken = [(0, 0); ENTRIES];
            let mut count = 0;
            let Some(lock) = self.tables.lock_of(leaf) else {
                return;
            };
            {
                let _locked = lock.lock(cpu);
                for address in part.step_by(PAGE_SIZE) {
                    let entry = &leaf.entries()[index(address, 0)];
                    let found = Entry(entry.swap(0, AcqRel));
                    if found.is_page() {
                        self.memory.pages.clear_mapping(found.address());
                        taken[count] = (address, found.address());
                        count += 1;
                    }
                }
            }
            for &(address, page) in &taken[..count] {
                // SAFETY: it was mapped by this entry alone, which led to an allocated page.
                unsafe { gather.take(address, UserPage::at(page)) };
            }
        });
    }

    /// Frees the tables that only `range`, which has no pages any more, needed: those wholly inside
    /// of `free`, in which nothing is mapped (Linux's `free_pgtables` with its floor and ceiling).
    pub(super) fn prune(
        &'static self,
        cpu: &Cpu,
        space: &Space,
        range: &Range<usize>,
        free: &Range<usize>,
    ) {
        let root = self
            .tables
            .at(space.root.load(core::sync::atomic::Ordering::Relaxed));
        if let Some(root) = root {
            self.prune_below(cpu, space, root, LEVELS - 1, range, free);
        }
    }

    fn prune_below(
        &'static self,
        cpu: &Cpu,
        space: &Space,
        table: Table,
        level: usize,
        range: &Range<usize>,
        free: &Range<usize>,
    ) {
        for part in parts(range, level) {
            let entry = &table.entries()[index(part.start, level)];
            let Some(below) = self.below(cpu, space, entry) else {
                continue;
            };
            if level > 1 {
                self.prune_below(cpu, space, below, level - 1, &part, free);
            }
            let start = part.start - part.start % table_span(level - 1);
            if free.start <= start && start + table_span(level - 1) <= free.end {
                entry.store(0, Release);
                // SAFETY: the entry was the only way to it.
                unsafe { self.tables.free_deferred(cpu, below) };
            }
        }
    }
}

/// `range` by the entries of a table of `level`.
fn parts(range: &Range<usize>, level: usize) -> impl Iterator<Item = Range<usize>> + use<> {
    let (span, end) = (entry_span(level), range.end);
    let mut start = range.start;
    core::iter::from_fn(move || {
        let part = start..(start - start % span).saturating_add(span).min(end);
        start = part.end;
        (!part.is_empty()).then_some(part)
    })
}
