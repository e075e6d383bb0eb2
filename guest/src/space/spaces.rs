//! Where address spaces come from.

use super::{
    array::{VmaArray, VmaList},
    object::Space,
    vma::Vma,
};
use crate::{
    Cpu,
    mm::{
        Objects,
        fragment::{TableAllocator, TableOwner},
        watermark::{Mode, Refused, Watermarks},
    },
    sync::{Rcu, RcuHead},
};
use core::{
    mem::offset_of,
    ptr::NonNull,
    sync::atomic::Ordering::{AcqRel, Acquire, Relaxed},
};
use underfoot_abi::{PageByte, PageKind};

/// How faults are handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Path {
    /// Under the address space's lock, taken for reading.
    MmapLock = 0,
    /// Under the VMA's lock, if it is to be had at once; else as above.
    VmaLock = 1,
    /// Without a lock: the VMA's sequence count is checked with the page-table lock held; if it
    /// changed or a table is missing, as above ("Speculative page faults", 2017-08).
    Speculative = 2,
}

/// What a fast path does that is given no page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Fallback {
    /// Leaves the read section, makes room, and tries again.
    Reclaim = 0,
    /// Takes the classic path, whose allocations reclaim by themselves.
    Classic = 1,
}

/// What can be chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// How faults are handled.
    pub path: Path,
    /// What a fast path does that is given no page.
    pub fallback: Fallback,
    /// Whether an exit waits for a grace period instead of leaving the rest to callbacks.
    pub wait_at_exit: bool,
}

/// Address spaces, and all that they are made of.
pub struct Spaces {
    pub(super) memory: &'static Watermarks,
    pub(super) rcu: &'static Rcu,
    pub(super) tables: &'static TableAllocator,
    pub(super) rules: Rules,
    pub(super) vmas: Objects<Vma>,
    pub(super) arrays: Objects<VmaArray>,
    spaces: Objects<Space>,
}

impl Spaces {
    /// For at most about `most` address spaces at a time. `None` if no page is left. Never freed.
    #[must_use]
    pub fn build(
        cpu: &Cpu,
        memory: &'static Watermarks,
        rcu: &'static Rcu,
        tables: &'static TableAllocator,
        rules: Rules,
        most: usize,
    ) -> Option<&'static Self> {
        let pages = memory.pages;
        let spaces = Self {
            memory,
            rcu,
            tables,
            rules,
            // Some wait for their grace period.
            vmas: Objects::build(cpu, pages, most * 32 + 4096)?,
            arrays: Objects::build(cpu, pages, most * 4 + 1024)?,
            spaces: Objects::build(cpu, pages, most)?,
        };
        pages.place(cpu, PageByte::new(PageKind::Data, false), spaces)
    }

    /// The page tables' allocator.
    #[must_use]
    pub const fn tables(&self) -> &'static TableAllocator {
        self.tables
    }

    /// An address space that maps nothing.
    ///
    /// # Errors
    /// [`Refused`] if there is no memory, or there are too many.
    pub fn create(&'static self, cpu: &Cpu) -> Result<&'static Space, Refused> {
        let owner = self.tables.enter(cpu).ok_or(Refused::Empty)?;
        let root = match self.tables.allocate(cpu, owner, Mode::Kernel) {
            Ok(root) => root,
            Err(refused) => {
                self.tables.leave(cpu, owner);
                return Err(refused);
            }
        };
        let space = self.spaces.allocate(cpu);
        let array = self.arrays.allocate(cpu);
        let (Some(space), Some(array)) = (space, array) else {
            if let Some(space) = space {
                self.spaces.free(cpu, space);
            }
            // SAFETY: nobody else knows it.
            unsafe { self.tables.free(cpu, root) };
            self.tables.leave(cpu, owner);
            return Err(Refused::Empty);
        };
        array.init(&VmaList::default());
        let address = core::ptr::from_ref(owner).expose_provenance();
        space.init(cpu, owner.id(), address, root, array);
        Ok(space)
    }

    /// The address space goes away: all is unmapped, and all tables are freed, which callbacks
    /// finish later.
    ///
    /// # Safety
    /// Nobody uses the space any more.
    pub unsafe fn destroy(&'static self, cpu: &Cpu, space: &'static Space) {
        self.unmap_all(cpu, space);
        let array = self.arrays.at(space.array.load(Relaxed));
        let root = self.tables.at(space.root.load(Relaxed));
        if let (Some(array), Some(root)) = (array, root) {
            // SAFETY: nobody uses the space, so nobody finds them again.
            unsafe {
                self.tables.free_deferred(cpu, root);
                self.free_array(cpu, array);
            }
        }
        if self.rules.wait_at_exit {
            self.rcu.synchronize(cpu);
        }
        self.tables.leave(cpu, self.owner(space));
        self.spaces.free(cpu, space);
    }

    pub(super) fn owner(&self, space: &Space) -> &'static TableOwner {
        self.tables
            .owner_at(space.owner.load(Relaxed))
            .expect("a space has an owner as long as it lives")
    }

    /// The mappings of `space`, under its lock.
    pub(super) fn list(&self, space: &Space) -> VmaList {
        let array = self.arrays.at(space.array.load(Acquire));
        array.map_or_else(VmaList::default, |array| array.list(&self.vmas))
    }

    /// The mapping of `address`, if there is one: under the space's lock, or in a read section, as
    /// long as which it is not freed.
    pub(super) fn find(&self, space: &Space, address: usize) -> Option<&'static Vma> {
        // Pairs with the release in `publish`.
        let array = self.arrays.at(space.array.load(Acquire))?;
        array
            .find(&self.vmas, address)
            .filter(|vma| vma.range().contains(&address))
    }

    /// Replaces the array of `space`, under its lock, by `array`, whose content is to be `list`.
    pub(super) fn publish(
        &'static self,
        cpu: &Cpu,
        space: &Space,
        array: &'static VmaArray,
        list: &VmaList,
    ) {
        array.init(list);
        // Release: who finds the array finds it whole.
        let new = core::ptr::from_ref(array).expose_provenance();
        if let Some(old) = self.arrays.at(space.array.swap(new, AcqRel)) {
            // SAFETY: no longer to be found.
            unsafe { self.free_array(cpu, old) };
        }
    }

    /// # Safety
    /// Nobody finds the array from now on.
    unsafe fn free_array(&'static self, cpu: &Cpu, array: &'static VmaArray) {
        // SAFETY: its head is in no list, its memory stays, and the callback gets these spaces,
        // which live for ever.
        unsafe { self.call(cpu, &array.rcu, free_array) };
    }

    /// # Safety
    /// The mapping is detached: nobody finds it from now on.
    pub(super) unsafe fn free_vma(&'static self, cpu: &Cpu, vma: &'static Vma) {
        // SAFETY: as in `free_array`.
        unsafe { self.call(cpu, &vma.rcu, free_vma) };
    }

    /// # Safety
    /// As of [`Rcu::call`], with the exposed address of these spaces as the value.
    unsafe fn call(
        &'static self,
        cpu: &Cpu,
        head: &'static RcuHead,
        callback: crate::sync::RcuCallback,
    ) {
        let this = core::ptr::from_ref(self).expose_provenance();
        // SAFETY: the caller's promise.
        unsafe { self.rcu.call(cpu, NonNull::from(head), callback, this) };
    }
}

/// # Safety
/// `head` is the `rcu` of an array that was replaced, and `spaces` the exposed address of its
/// [`Spaces`].
unsafe fn free_array(cpu: &Cpu, head: NonNull<RcuHead>, spaces: usize) {
    // SAFETY: the caller's promise.
    let spaces = unsafe { &*core::ptr::with_exposed_provenance::<Spaces>(spaces) };
    if let Some(array) = spaces
        .arrays
        .at(head.addr().get() - offset_of!(VmaArray, rcu))
    {
        spaces.arrays.free(cpu, array);
    }
}

/// # Safety
/// `head` is the `rcu` of a detached mapping, and `spaces` the exposed address of its [`Spaces`].
unsafe fn free_vma(cpu: &Cpu, head: NonNull<RcuHead>, spaces: usize) {
    // SAFETY: the caller's promise.
    let spaces = unsafe { &*core::ptr::with_exposed_provenance::<Spaces>(spaces) };
    if let Some(vma) = spaces.vmas.at(head.addr().get() - offset_of!(Vma, rcu)) {
        spaces.vmas.free(cpu, vma);
    }
}
