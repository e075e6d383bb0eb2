//! What happens to a freed table when its grace period is over.

use super::{
    descriptor::{Descriptor, Tag},
    owner::Side,
    state::{Half, Settled},
    table::{TABLE_BYTES, Table},
    tables::{POISON, TableAllocator, misused},
};
use crate::{Cpu, mm::poison, record, sync::RcuHead};
use core::{
    mem::offset_of,
    ptr::NonNull,
    sync::atomic::Ordering::{Acquire, Relaxed},
};
use underfoot_abi::Variant;

impl TableAllocator {
    /// Queues the page's callback head, which is this CPU's to use.
    pub(super) fn queue(&'static self, cpu: &Cpu, descriptor: &'static Descriptor) {
        let this = core::ptr::from_ref(self).expose_provenance();
        // SAFETY: the state's head bit was clear and this caller set it, so the head is in no list;
        // the descriptor stays until its state is 0, which the bit prevents; the allocator lives for
        // ever.
        unsafe {
            self.rcu.call_sized(
                cpu,
                NonNull::from(&descriptor.rcu),
                grace_period_over,
                this,
                TABLE_BYTES as u32,
            );
        }
    }

    /// The callback: the half for which the head was queued becomes free.
    fn settle(&'static self, cpu: &Cpu, descriptor: &'static Descriptor) {
        self.counts.pending.fetch_sub(1, Relaxed);
        let Some(half) = descriptor.state.queued() else {
            let words = [descriptor.address() as u64, 0, 0, 0];
            misused(
                cpu,
                words,
                format_args!("a page's callback ran for none of its halves"),
            );
            return self.counts.gone(false);
        };
        self.clear(cpu, descriptor, half);
        let Some(owner) = self.owner_of(cpu, descriptor) else {
            return self.counts.gone(false);
        };
        let settled = if cpu.header.variant == Variant::FreedListed as u32 {
            let settled = descriptor.state.settle_unlocked(half);
            self.counts.gone(settled.gives_back());
            settled
        } else {
            let guard = owner.lock(cpu, Side::Callback);
            let alive = self.lists(&guard, descriptor);
            let mut place = self.place(&guard, descriptor);
            let settled = descriptor.state.settle(half, alive, &mut place);
            self.counts.gone(settled.gives_back());
            settled
        };
        self.finish(cpu, descriptor, settled);
    }

    /// Verifies that a half is pending and empty, and poisons it.
    fn clear(&self, cpu: &Cpu, descriptor: &Descriptor, half: Half) {
        let page = descriptor.page.load(Relaxed);
        let owner = descriptor.owner_id.load(Relaxed);
        if !descriptor.has_tag(cpu, half, Tag::Pending, owner) {
            let words = [page as u64, half as u64, owner, 0];
            misused(
                cpu,
                words,
                format_args!("a table was given out before its grace period ended"),
            );
            return;
        }
        // SAFETY: a page of tables, and a half of it.
        let table = unsafe { Table::new(page + half as usize * TABLE_BYTES) };
        let words = table.entries();
        record::checked(cpu, words.len() as u64);
        let late = words
            .iter()
            .map(|entry| entry.load(Acquire))
            .find(|entry| *entry != 0);
        if let Some(entry) = late {
            let words = [table.address() as u64, entry, owner, 0];
            misused(
                cpu,
                words,
                format_args!("an entry landed in a table that was freed"),
            );
        }
        record::access(cpu, table.address(), || poison::fill(words, POISON));
        descriptor.set_tag(half, Tag::Free);
    }

    /// What follows on a half that became free, without the lock.
    pub(super) fn finish(
        &'static self,
        cpu: &Cpu,
        descriptor: &'static Descriptor,
        settled: Settled,
    ) {
        let page = descriptor.page.load(Relaxed);
        if !settled.sound {
            let words = [page as u64, u64::from(descriptor.state.word()), 0, 0];
            misused(
                cpu,
                words,
                format_args!("a table was in use when it became free"),
            );
            self.counts.lost.fetch_add(1, Relaxed);
        } else if settled.gives_back() {
            self.descriptors.free(cpu, descriptor);
            // SAFETY: both halves are free and on no list, so nobody finds the page.
            unsafe { self.memory.pages.free(cpu, page, 0) };
            return;
        }
        if settled.requeue {
            self.queue(cpu, descriptor);
        }
    }
}

/// # Safety
/// `head` is the `rcu` of a [`Descriptor`] of the allocator whose exposed address is `allocator`,
/// which lives for ever.
unsafe fn grace_period_over(cpu: &Cpu, head: NonNull<RcuHead>, allocator: usize) {
    // SAFETY: the caller's promise.
    let allocator = unsafe { &*core::ptr::with_exposed_provenance::<TableAllocator>(allocator) };
    let address = head.addr().get() - offset_of!(Descriptor, rcu);
    if let Some(descriptor) = allocator.descriptors.at(address) {
        allocator.settle(cpu, descriptor);
    }
}
