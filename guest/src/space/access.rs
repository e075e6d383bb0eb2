//! What threads do in an address space: read and write.

use super::{
    entry::{Entry, index},
    fault::{FaultError, page_of},
    object::Space,
    page::UserPage,
    spaces::Spaces,
};
use crate::{Cpu, record};
use core::{fmt, sync::atomic::Ordering::Acquire};
use underfoot_abi::PAGE_SIZE;

/// Faults that an access takes at most: others may unmap what it faults in.
const ATTEMPTS: usize = 64;

/// Why an access came to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessError {
    /// The fault could not be handled.
    Fault(FaultError),
    /// The page was unmapped again each time.
    Starved {
        /// The address.
        address: usize,
    },
}

impl fmt::Display for AccessError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fault(error) => error.fmt(f),
            Self::Starved { address } => {
                write!(f, "the page at {address:#x} was unmapped {ATTEMPTS} times")
            }
        }
    }
}

impl core::error::Error for AccessError {}

impl Spaces {
    /// Reads or writes a word at `address` and verifies the page, faulting it in if need be. How
    /// many faults that took. May sleep. Not in a read section, nor under a lock.
    ///
    /// # Errors
    /// See [`AccessError`].
    pub fn access(
        &'static self,
        cpu: &Cpu,
        space: &Space,
        address: usize,
        write: bool,
    ) -> Result<usize, AccessError> {
        for faults in 0..ATTEMPTS {
            if self.try_access(cpu, space, address, write) {
                return Ok(faults);
            }
            self.fault(cpu, space, address, write)
                .map_err(AccessError::Fault)?;
        }
        Err(AccessError::Starved { address })
    }

    /// How often the page at `address` was written, if there is one. As [`Self::access`], but it faults
    /// nothing in.
    pub fn written(&self, cpu: &Cpu, space: &Space, address: usize) -> Option<u64> {
        self.by_translation(cpu, space, address, |found, _| {
            found.is_page().then(|| {
                // SAFETY: as in `use_page`.
                let page = unsafe { UserPage::at(found.address()) };
                record::access(cpu, found.address(), || page.updates())
            })
        })
    }

    /// The access, if a page is mapped that allows it.
    fn try_access(&self, cpu: &Cpu, space: &Space, address: usize, write: bool) -> bool {
        let done = self.by_translation(cpu, space, address, |found, walk| {
            let sound = Self::use_page(cpu, address, write, found)?;
            if let Some(shootdowns) = &self.shootdowns
                && !sound
            {
                let now = walk();
                if now != Some(found.0) {
                    shootdowns.stale(cpu, address, found.0, now);
                }
            }
            Some(())
        });
        done.is_some()
    }

    /// Uses what `address` is mapped to: by a walk of the tables, which stay as long as the read section,
    /// or by this CPU's translation, which is then there until it is shot down. `by` gets the entry, and
    /// the walk, to find what it is by now.
    fn by_translation<T>(
        &self,
        cpu: &Cpu,
        space: &Space,
        address: usize,
        by: impl FnOnce(Entry, &dyn Fn() -> Option<u64>) -> Option<T>,
    ) -> Option<T> {
        let _section = self.rcu.read_lock(cpu);
        let walk = || {
            let leaf = self.leaf(cpu, space, address)?;
            // Pairs with the release of who mapped the page.
            let found = Entry(leaf.entries()[index(address, 0)].load(Acquire));
            (!found.is_none()).then_some(found.0)
        };
        let by = |found| by(Entry(found), &walk);
        let Some(shootdowns) = &self.shootdowns else {
            return walk().and_then(by);
        };
        let soft = shootdowns.activate(cpu, self, space);
        soft.access_in_steps(cpu, page_of(address), walk, by)
    }

    /// Uses the page at `address` by what its entry was; whether it was the right one. `None` if the
    /// entry does not allow it.
    fn use_page(cpu: &Cpu, address: usize, write: bool, found: Entry) -> Option<bool> {
        if write && !found.is_writable() {
            return None;
        }
        if !found.is_page() {
            record::error(cpu, address, found.0);
            return Some(false);
        }
        // SAFETY: what an entry maps is an allocated page, and stays one until the read section ends, or
        // until this CPU has answered a shootdown.
        let page = unsafe { UserPage::at(found.address()) };
        Some(record::access(cpu, found.address(), || {
            if !page.verify(cpu) {
                return false;
            }
            record::checked(cpu, 1);
            if !found.maps(page.identity()) {
                record::error(cpu, found.address(), found.0);
                return false;
            }
            page.touch(cpu, (address % PAGE_SIZE) / 8, write);
            true
        }))
    }

    /// Verifies that every page of `space` is where it belongs, with nobody else at work in it; the
    /// pages found.
    pub fn audit(&self, cpu: &Cpu, space: &Space) -> usize {
        let mut pages = 0;
        self.leaves(cpu, space, &(0..super::entry::END), |leaf, part| {
            for address in part.step_by(PAGE_SIZE) {
                let entry = &leaf.entries()[index(address, 0)];
                let found = Entry(entry.load(Acquire));
                if found.is_none() {
                    continue;
                }
                pages += 1;
                let right = self
                    .find(space, page_of(address))
                    .map(|vma| vma.identity(space.id(), address));
                record::checked(cpu, 1);
                // SAFETY: as in `try_access`; nobody else is at work.
                let page = unsafe { UserPage::at(found.address()) };
                let sound = found.is_page() && page.verify(cpu) && Some(page.identity()) == right;
                if !sound || !right.is_some_and(|identity| found.maps(identity)) {
                    record::error(cpu, address, found.0);
                }
            }
        });
        pages
    }
}
