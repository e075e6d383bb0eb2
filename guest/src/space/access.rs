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

    /// The access, if a page is mapped that allows it. Tables and page stay as long as the section.
    fn try_access(&self, cpu: &Cpu, space: &Space, address: usize, write: bool) -> bool {
        let _section = self.rcu.read_lock(cpu);
        let Some(leaf) = self.leaf(cpu, space, address) else {
            return false;
        };
        let entry = &leaf.entries()[index(address, 0)];
        // Pairs with the release of who mapped the page.
        let found = Entry(entry.load(Acquire));
        if found.is_none() || (write && !found.is_writable()) {
            return false;
        }
        if !found.is_page() {
            record::error(cpu, core::ptr::from_ref(entry).addr(), found.0);
            return true;
        }
        // SAFETY: what an entry maps is an allocated page, and stays one until the section ends.
        let page = unsafe { UserPage::at(found.address()) };
        record::access(cpu, found.address(), || {
            if page.verify(cpu) {
                record::checked(cpu, 1);
                if !found.maps(page.identity()) {
                    record::error(cpu, core::ptr::from_ref(entry).addr(), found.0);
                }
                page.touch(cpu, (address % PAGE_SIZE) / 8, write);
            }
        });
        true
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
