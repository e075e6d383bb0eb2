//! Page faults, by three ways.

use super::change::VmaLock;
use super::{
    entry::{Entry, index},
    object::Space,
    outcome::Outcome,
    page::UserPage,
    spaces::{Fallback, Path, Spaces},
    vma::Vma,
};
use crate::{
    Cpu,
    mm::{fragment::Table, watermark::Mode},
    record::Span,
    sync::lockdep,
    workload::is_over,
};
use core::{
    fmt,
    sync::atomic::Ordering::{Acquire, Relaxed, Release},
};
use underfoot_abi::{Metric, Mover, PAGE_SIZE, PageByte, PageKind, Variant};

/// Times that a fast path makes room and tries again before it takes the classic one.
const RETRIES: usize = 3;

const PAGE: PageByte = PageByte::new(PageKind::Data, false);
/// One that the guest's own mover leaves alone.
const PINNED: PageByte = PageByte::new(PageKind::Reserved, false);

/// Why a fault could not be handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultError {
    /// Nothing is mapped at the address, or the mapping forbids the access.
    Refused {
        /// The address.
        address: usize,
    },
    /// No page is left for it or for a table.
    OutOfMemory {
        /// The address.
        address: usize,
    },
}

impl fmt::Display for FaultError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused { address } => write!(f, "no mapping allows the access to {address:#x}"),
            Self::OutOfMemory { address } => {
                write!(
                    f,
                    "no page is left for {address:#x}; give the guest more memory"
                )
            }
        }
    }
}

impl core::error::Error for FaultError {}

/// What kind of stability the mapping has while a page is put under it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Hold {
    /// A lock: mapping and tables stay as they are.
    Locked(Mode),
    /// Nothing but a read section; the sequence count was this one.
    Sequence(u32),
}

impl Spaces {
    /// Maps a page at `address`, where an access found none. May sleep. Every outcome, also of what
    /// was tried on the way, is counted, and the whole is timed as [`Metric::Fault`].
    ///
    /// # Errors
    /// See [`FaultError`].
    pub fn fault(
        &'static self,
        cpu: &Cpu,
        space: &Space,
        address: usize,
        write: bool,
    ) -> Result<Outcome, FaultError> {
        let span = Span::start(cpu);
        let result = match self.fast(cpu, space, address, write) {
            Some(outcome) => Ok(outcome),
            None => self.classic(cpu, space, address, write),
        };
        let outcome = match result {
            Ok(outcome) => outcome,
            Err(FaultError::Refused { .. }) => Outcome::Refused,
            Err(FaultError::OutOfMemory { .. }) => Outcome::OutOfMemory,
        };
        outcome.count(cpu);
        span.finish(cpu, Metric::Fault);
        result
    }

    /// The fast path, if there is one; `None` if it comes to nothing.
    fn fast(&self, cpu: &Cpu, space: &Space, address: usize, write: bool) -> Option<Outcome> {
        let mut retries = RETRIES;
        while retries > 0 {
            let why = match self.try_fast(cpu, space, address, write)? {
                Ok(outcome) => return Some(outcome),
                Err(why) => why,
            };
            why.count(cpu);
            if why != Outcome::NoMemory || self.rules.fallback != Fallback::Reclaim {
                return None;
            }
            if cpu.header.variant == Variant::NeverPays as u32 {
                if is_over(cpu) {
                    return None;
                }
                // Until others have made room.
                cpu.sched.yield_now(cpu);
                continue;
            }
            // No read section and no lock any more: the task pays for what it wants.
            self.memory.make_room(cpu);
            Outcome::Reclaimed.count(cpu);
            retries -= 1;
        }
        None
    }

    /// One attempt of the fast path, if there is one.
    fn try_fast(
        &self,
        cpu: &Cpu,
        space: &Space,
        address: usize,
        write: bool,
    ) -> Option<Result<Outcome, Outcome>> {
        match self.rules.path {
            Path::MmapLock => None,
            Path::VmaLock if cpu.header.variant == Variant::NoVmaLock as u32 => {
                Some(self.without_lock(cpu, space, address, write))
            }
            Path::VmaLock => Some(self.under_vma_lock(cpu, space, address, write)),
            Path::Speculative if self.rules.fallback == Fallback::Ordinary => None,
            Path::Speculative => Some(self.speculative(cpu, space, address, write)),
        }
    }

    /// Looks the mapping up under RCU and tries its lock (Linux's `lock_vma_under_rcu`).
    fn under_vma_lock(
        &self,
        cpu: &Cpu,
        space: &Space,
        address: usize,
        write: bool,
    ) -> Result<Outcome, Outcome> {
        let section = self.rcu.read_lock(cpu);
        let vma = self.find(space, address).ok_or(Outcome::NoVma)?;
        if !vma.lock.try_read() {
            return Err(Outcome::Busy);
        }
        lockdep::acquired::<VmaLock>(cpu, vma.lock_address());
        // Who detaches it waits for the lock first: it stays without the section.
        drop(section);
        let result = if !vma.is_live(space.id(), address) {
            Err(Outcome::Changed)
        } else if !vma.allows(write) {
            Err(Outcome::NoVma)
        } else {
            let hold = Hold::Locked(match self.rules.fallback {
                Fallback::Ordinary => Mode::Kernel,
                Fallback::Reclaim | Fallback::Classic => Mode::FastPath,
            });
            self.populate(cpu, space, vma, address, hold)
        };
        lockdep::release::<VmaLock>(cpu, vma.lock_address());
        vma.lock.read_end();
        result.map(|mapped| mapped.unwrap_or(Outcome::VmaLock))
    }

    /// The busted form: all of it under RCU, which does not keep tables from being unlinked.
    fn without_lock(
        &self,
        cpu: &Cpu,
        space: &Space,
        address: usize,
        write: bool,
    ) -> Result<Outcome, Outcome> {
        let _section = self.rcu.read_lock(cpu);
        let vma = self.find(space, address).ok_or(Outcome::NoVma)?;
        if !vma.is_live(space.id(), address) || !vma.allows(write) {
            return Err(Outcome::Changed);
        }
        let hold = Hold::Locked(Mode::FastPath);
        let mapped = self.populate(cpu, space, vma, address, hold)?;
        Ok(mapped.unwrap_or(Outcome::VmaLock))
    }

    /// Takes no lock but the page table's, with which the sequence count is checked.
    fn speculative(
        &self,
        cpu: &Cpu,
        space: &Space,
        address: usize,
        write: bool,
    ) -> Result<Outcome, Outcome> {
        let _section = self.rcu.read_lock(cpu);
        let vma = self.find(space, address).ok_or(Outcome::NoVma)?;
        let seq = vma.seq.read_begin_raw();
        if !vma.is_live(space.id(), address) {
            return Err(Outcome::Changed);
        }
        if !vma.allows(write) {
            return Err(Outcome::NoVma);
        }
        let mapped = self.populate(cpu, space, vma, address, Hold::Sequence(seq))?;
        Ok(mapped.unwrap_or(Outcome::Speculative))
    }

    /// Under the space's lock.
    fn classic(
        &self,
        cpu: &Cpu,
        space: &Space,
        address: usize,
        write: bool,
    ) -> Result<Outcome, FaultError> {
        let held = space.lock.read(cpu);
        let vma = self.find(space, address).filter(|vma| vma.allows(write));
        let result = vma.map(|vma| {
            let hold = Hold::Locked(Mode::Kernel);
            self.populate(cpu, space, vma, address, hold)
        });
        drop(held);
        match result {
            None => Err(FaultError::Refused { address }),
            Some(Ok(mapped)) => Ok(mapped.unwrap_or(Outcome::Classic)),
            Some(Err(_)) => {
                self.memory.out_of_memory(cpu, "a fault");
                Err(FaultError::OutOfMemory { address })
            }
        }
    }

    /// Maps a new page at `address`. `Ok(Some)` if nothing was to be done.
    fn populate(
        &self,
        cpu: &Cpu,
        space: &Space,
        vma: &Vma,
        address: usize,
        hold: Hold,
    ) -> Result<Option<Outcome>, Outcome> {
        let (leaf, mode) = match hold {
            Hold::Locked(mode) => {
                let leaf = self.make_leaf(cpu, space, address, mode);
                (leaf.map_err(|_| Outcome::NoMemory)?, mode)
            }
            Hold::Sequence(_) => {
                let leaf = self.leaf(cpu, space, address);
                let wrong = cpu.header.variant == Variant::ReclaimsUnderRcu as u32;
                let mode = if wrong { Mode::Kernel } else { Mode::FastPath };
                (leaf.ok_or(Outcome::MissingTable)?, mode)
            }
        };
        self.populate_leaf(cpu, space, vma, address, hold, (leaf, mode))
    }

    /// The same, in the table that was found or made for it, with a page that is allocated so.
    pub(super) fn populate_leaf(
        &self,
        cpu: &Cpu,
        space: &Space,
        vma: &Vma,
        address: usize,
        hold: Hold,
        (leaf, mode): (Table, Mode),
    ) -> Result<Option<Outcome>, Outcome> {
        let entry = &leaf.entries()[index(address, 0)];
        if !Entry(entry.load(Acquire)).is_none() {
            return Ok(Some(Outcome::Spurious));
        }
        // Who waits for the guest's own mover answers shootdowns, also in the midst of an access, which
        // must use no page then that may go.
        let moves_itself = cpu.header.mover == Mover::Guest as u32;
        let pinned = moves_itself && self.shootdowns.is_some();
        let page = self
            .memory
            .allocate(cpu, if pinned { PINNED } else { PAGE }, mode);
        let page = page.map_err(|_| Outcome::NoMemory)?;
        // SAFETY: just allocated.
        let user = unsafe { UserPage::at(page) };
        let identity = vma.identity(space.id(), address);
        user.init(cpu, identity);
        let result = if let Some(lock) = self.tables.lock_of(leaf) {
            let _locked = lock.lock(cpu);
            // The lock orders this against unmapping, whose write section began before it took the
            // lock: either the count has changed, or unmapping will find the entry.
            if matches!(hold, Hold::Sequence(seq) if vma.seq.read_retry(seq))
                && cpu.header.variant != Variant::NoSequenceCheck as u32
            {
                Err(Outcome::Changed)
            } else if entry.load(Relaxed) != 0 {
                Ok(Some(Outcome::Spurious))
            } else {
                let writable = vma.allows(true);
                self.note_mapping(space, page, address);
                // Release: who finds the page finds it whole.
                entry.store(Entry::page(page, identity, writable).0, Release);
                Ok(None)
            }
        } else {
            Err(Outcome::Changed)
        };
        if result != Ok(None) {
            // SAFETY: nobody else knows it.
            unsafe { self.memory.pages.free(cpu, page, 0) };
        }
        result
    }
}

/// The page that `address` is in.
pub(super) const fn page_of(address: usize) -> usize {
    address & !(PAGE_SIZE - 1)
}
