//! Walks of the tables, without a lock.

use super::{
    entry::{Entry, LEVELS, index},
    object::Space,
    spaces::Spaces,
};
use crate::{
    Cpu,
    mm::{
        fragment::Table,
        watermark::{Mode, Refused},
    },
    record,
};
use core::sync::atomic::{
    AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed},
};
use underfoot_abi::Variant;

/// Turns that the busted form dawdles between finding a table and installing one below it.
const DAWDLE: usize = 300;

impl Spaces {
    /// The leaf table for `address`, if there is one. In a read section, or where the tables cannot
    /// be freed. Every table on the way is verified.
    #[inline]
    pub(super) fn leaf(&self, cpu: &Cpu, space: &Space, address: usize) -> Option<Table> {
        let mut table = self.tables.at(space.root.load(Relaxed))?;
        for level in (1..LEVELS).rev() {
            let entry = &table.entries()[index(address, level)];
            table = self.below(cpu, space, entry)?;
        }
        Some(table)
    }

    /// The leaf table for `address`; the tables that are missing are made.
    pub(super) fn make_leaf(
        &self,
        cpu: &Cpu,
        space: &Space,
        address: usize,
        mode: Mode,
    ) -> Result<Table, Refused> {
        let root = self.tables.at(space.root.load(Relaxed));
        let mut table = root.ok_or(Refused::Empty)?;
        for level in (1..LEVELS).rev() {
            let entry = &table.entries()[index(address, level)];
            table = match self.below(cpu, space, entry) {
                Some(below) => below,
                None => self.install(cpu, space, entry, mode)?,
            };
        }
        Ok(table)
    }

    /// The table that `entry` leads to, if it does.
    #[inline]
    pub(super) fn below(&self, cpu: &Cpu, space: &Space, entry: &AtomicU64) -> Option<Table> {
        // Pairs with the release in `install`: who finds a table finds it zeroed.
        let found = Entry(entry.load(Acquire));
        if found.is_none() {
            return None;
        }
        let id = space.id();
        record::checked(cpu, 1);
        if !found.leads_to_table_of(id) {
            record::error(cpu, core::ptr::from_ref(entry).addr(), found.0);
            return None;
        }
        let table = self.tables.at(found.address())?;
        self.tables.verify(cpu, table, id).then_some(table)
    }

    /// Makes a table and installs it in `entry`, unless somebody else does so first. What `entry` is
    /// in must not be freed meanwhile: that is what the VMA's lock is for, and RCU is not enough.
    fn install(
        &self,
        cpu: &Cpu,
        space: &Space,
        entry: &AtomicU64,
        mode: Mode,
    ) -> Result<Table, Refused> {
        let table = self.tables.allocate(cpu, self.owner(space), mode)?;
        if cpu.header.variant == Variant::NoVmaLock as u32 {
            dawdle();
        }
        let new = Entry::table(table.address(), space.id());
        // Release: pairs with the acquire in `below`.
        let Err(found) = entry.compare_exchange(0, new.0, AcqRel, Acquire) else {
            return Ok(table);
        };
        // SAFETY: it was never installed.
        unsafe { self.tables.free(cpu, table) };
        self.tables.at(Entry(found).address()).ok_or(Refused::Empty)
    }
}

/// Takes its time, in a busted form.
#[cold]
fn dawdle() {
    for _ in 0..DAWDLE {
        core::hint::spin_loop();
    }
    #[cfg(test)]
    std::thread::yield_now();
}
