//! What one change takes away from a space.

use super::{object::Space, page::UserPage, spaces::Spaces};
use crate::{Cpu, tlb::Batch};

/// Pages that were unmapped, and the translations that CPUs must forget before the pages are free
/// (Linux's `mmu_gather`). Tables are not among them: they are freed after a grace period either way,
/// since faults and reclaim walk them without asking the TLB (Linux's `MMU_GATHER_RCU_TABLE_FREE`);
/// and as no processor walks them ahead of its program, lazy CPUs need not be asked for their sake.
#[must_use]
pub(super) struct Gather<'a> {
    spaces: &'static Spaces,
    space: &'a Space,
    batch: Batch,
    /// Pages in the batch.
    pages: u64,
    /// The first of those that were unmapped, linked; 0 ends the list.
    first: usize,
}

impl<'a> Gather<'a> {
    /// Begins a change of `space`, before its first table is locked. Between this and
    /// [`Self::finish`] the space must not be freed.
    pub(super) fn new(spaces: &'static Spaces, space: &'a Space) -> Self {
        space.tlb.begin_gather();
        Self {
            spaces,
            space,
            batch: Batch::new(),
            pages: 0,
            first: 0,
        }
    }

    pub(super) fn is_of(&self, space: &Space) -> bool {
        core::ptr::eq(self.space, space)
    }

    /// The page at `address` was changed, or went: its translations are to be forgotten.
    pub(super) fn forget(&mut self, address: usize) {
        self.batch.add(address, 1);
        self.pages += 1;
    }

    /// `page` was unmapped at `address`.
    ///
    /// # Safety
    /// As of [`UserPage::free`] from [`Self::finish`] on, but that CPUs may still use translations that
    /// this gathers, and readers the page itself where there are no shootdowns.
    pub(super) unsafe fn take(&mut self, address: usize, page: &'static UserPage) {
        self.forget(address);
        page.link(self.first);
        self.first = page.address();
    }

    /// No CPU uses the translations any more when this returns, and the pages are free; or they will
    /// be after a grace period, where there are no shootdowns. With no table locked, and nothing held
    /// that others wait for with interrupts masked.
    pub(super) fn finish(self, cpu: &Cpu) {
        let Self { spaces, space, .. } = self;
        if let Some(shootdowns) = &spaces.shootdowns {
            let all = Batch::all();
            let batch = if space.tlb.gathers_beside() {
                &all
            } else {
                &self.batch
            };
            shootdowns.shoot(cpu, &space.tlb, batch, self.pages);
        }
        space.tlb.end_gather();
        let mut next = self.first;
        while next != 0 {
            // SAFETY: a page that `take` was given.
            let page = unsafe { UserPage::at(next) };
            next = page.linked();
            // SAFETY: no entry leads to it, nor any translation unless a grace period is waited for.
            unsafe {
                match &spaces.shootdowns {
                    Some(_) => page.free(cpu, spaces),
                    None => page.free_deferred(cpu, spaces),
                }
            }
        }
    }
}
