//! Where address spaces come from.

use super::{
    edit::Edit,
    object::Space,
    reclaim::Rmap,
    shootdowns::{Shootdowns, Translations},
    tree::{Node, Side, Tree},
    vma::Vma,
};
use crate::{
    Cpu,
    mm::{
        Objects,
        fragment::{TableAllocator, TableOwner},
        watermark::{AfterGracePeriod, BATCH, Mode, Reclaim, Refused, Watermarks},
    },
    sync::{Rcu, RcuHead},
};
use core::{
    mem::offset_of,
    ptr::NonNull,
    sync::atomic::Ordering::{Acquire, Relaxed, Release},
};
use underfoot_abi::{PageByte, PageKind};

/// Grace periods that who finds no slot waits for at most. What is gone needs two, as the halves of a
/// page of tables have one callback head, and one more may have begun before it went; but what comes
/// free then may be taken by others, who make room likewise.
const FULL_WAITS: usize = 256;
/// How long it sleeps after one of them by which nothing of this CPU's came free, only others' perhaps.
const FULL_NS: u64 = 1_000_000;

/// Pages of memory for each mapping that waits for its grace period: those of a small one, and its
/// tables.
const PAGES_EACH: usize = 32;

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
    /// None is needed: its allocations reclaim by themselves. Under the VMA's lock that may be, as it
    /// sleeps; where there is a read section only, there is no fast path then.
    Ordinary = 2,
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
    pub(super) nodes: Objects<Node>,
    pub(super) spaces: Objects<Space>,
    pub(super) rmap: Rmap,
    /// What is unmapped waits for a grace period if there are none.
    pub(super) shootdowns: Option<Shootdowns>,
}

impl Spaces {
    /// For at most about `most` address spaces at a time. What is unmapped waits for shootdowns where it
    /// is told with what these are done, else for a grace period. `None` if no page is left. Never freed.
    #[must_use]
    pub fn build(
        cpu: &Cpu,
        memory: &'static Watermarks,
        rcu: &'static Rcu,
        tables: &'static TableAllocator,
        rules: Rules,
        translations: Option<Translations>,
        most: usize,
    ) -> Option<&'static Self> {
        let pages = memory.pages;
        // Mappings that wait for their grace period, for which their pages wait too: who makes more of them
        // than memory could bear waits for a slot.
        let waiting = (pages.free_pages(cpu) / PAGES_EACH).clamp(256, 4096);
        let spaces = Self {
            memory,
            rcu,
            tables,
            rules,
            vmas: Objects::build(cpu, pages, most * 32 + waiting)?,
            // As many, and the paths of versions that wait for theirs.
            nodes: Objects::build(cpu, pages, most * 64 + 16384)?,
            spaces: Objects::build(cpu, pages, most * 4 + 256)?,
            rmap: Rmap::new(),
            shootdowns: translations.map(Shootdowns::new),
        };
        pages.place(cpu, PageByte::new(PageKind::Data, false), spaces)
    }

    /// The page tables' allocator.
    #[must_use]
    pub const fn tables(&self) -> &'static TableAllocator {
        self.tables
    }

    /// An address space that maps nothing. May sleep: there may be as many as there may be, but of those
    /// that are gone some wait for their grace period.
    ///
    /// # Errors
    /// [`Refused`] if there is no memory, or there are too many and waiting has not helped.
    pub fn create(&'static self, cpu: &Cpu) -> Result<&'static Space, Refused> {
        self.patiently(
            cpu,
            || self.try_create(cpu),
            |refused| *refused == Refused::Full,
        )
    }

    /// Makes the attempt, and while it fails for want of a slot lets those go that wait for their grace
    /// period, and makes it again; [`FULL_WAITS`] times at most. May sleep.
    pub(super) fn patiently<T, E>(
        &self,
        cpu: &Cpu,
        attempt: impl Fn() -> Result<T, E>,
        is_full: impl Fn(&E) -> bool,
    ) -> Result<T, E> {
        let after = AfterGracePeriod { rcu: self.rcu };
        for _ in 0..FULL_WAITS {
            let result = attempt();
            if !result.as_ref().is_err_and(&is_full) {
                return result;
            }
            // Callbacks of this CPU's: the others' run there.
            if after.reclaim(cpu, BATCH) == 0 {
                cpu.sched.sleep_ns(cpu, FULL_NS);
            }
        }
        attempt()
    }

    pub(super) fn try_create(&'static self, cpu: &Cpu) -> Result<&'static Space, Refused> {
        let owner = self.tables.enter(cpu)?;
        let root = match self.tables.allocate(cpu, owner, Mode::Kernel) {
            Ok(root) => root,
            Err(refused) => {
                self.tables.leave(cpu, owner);
                return Err(refused);
            }
        };
        let space = match self.spaces.allocate(cpu) {
            Ok(space) => space,
            Err(refused) => {
                // SAFETY: nobody else knows it.
                unsafe { self.tables.free(cpu, root) };
                self.tables.leave(cpu, owner);
                return Err(refused);
            }
        };
        let address = core::ptr::from_ref(owner).expose_provenance();
        space.init(cpu, owner.id(), address, root);
        Ok(space)
    }

    /// The address space goes away: all is unmapped, and all tables are freed, which callbacks
    /// finish later.
    ///
    /// # Safety
    /// Nobody uses the space any more.
    pub unsafe fn destroy(&'static self, cpu: &Cpu, space: &'static Space) {
        if let Some(shootdowns) = &self.shootdowns {
            // Also where it is lazy: from here on no CPU has translations of it.
            shootdowns.retire(cpu, space);
        }
        self.unmap_all(cpu, space);
        self.free_tree(cpu, space.mappings.load(Relaxed));
        if let Some(root) = self.tables.at(space.root.load(Relaxed)) {
            // SAFETY: nobody uses the space, so nobody finds it again.
            unsafe { self.tables.free_deferred(cpu, root) };
        }
        if self.rules.wait_at_exit {
            self.rcu.synchronize(cpu);
        }
        self.tables.leave(cpu, self.owner(space));
        // SAFETY: no page leads to the space any more, so nobody finds it; its head is in no list.
        unsafe { self.call(cpu, &space.rcu, free_space) };
    }

    pub(super) fn owner(&self, space: &Space) -> &'static TableOwner {
        self.tables
            .owner_at(space.owner.load(Relaxed))
            .expect("a space has an owner as long as it lives")
    }

    /// The mappings of `space`: under its lock, or in a read section.
    pub(super) fn tree(&self, space: &Space) -> Tree<'_> {
        Tree {
            nodes: &self.nodes,
            vmas: &self.vmas,
            // Pairs with the release in `publish`.
            root: space.mappings.load(Acquire),
        }
    }

    /// The mapping of `address`, if there is one: under the space's lock, or in a read section, as
    /// long as which it is not freed.
    pub(super) fn find(&self, space: &Space, address: usize) -> Option<&'static Vma> {
        let vma = self.tree(space).floor(address);
        vma.filter(|vma| vma.range().contains(&address))
    }

    /// Begins a change of the mappings of `space`, under its lock.
    pub(super) fn edit<'a>(&'a self, cpu: &'a Cpu, space: &Space) -> Edit<'a> {
        Edit::new(cpu, &self.nodes, space.mappings.load(Relaxed))
    }

    /// From here on readers find the mappings of `space` as `edit` has them. The old version stays
    /// until [`Self::finish`].
    pub(super) fn publish(space: &Space, edit: &Edit<'_>) {
        // Release: who finds the tree finds it whole.
        space.mappings.store(edit.root(), Release);
    }

    /// The old version of what was published goes, after a grace period.
    pub(super) fn finish(&'static self, cpu: &Cpu, edit: Edit<'_>) {
        edit.finish(|node| {
            // SAFETY: no longer to be found. Its head is in no list, its memory stays, and the
            // callback gets these spaces, which live for ever.
            unsafe { self.call(cpu, &node.rcu, free_node) };
        });
    }

    /// Frees a tree that nobody can be reading.
    fn free_tree(&self, cpu: &Cpu, root: usize) {
        if let Some(node) = self.nodes.at(root) {
            self.free_tree(cpu, node.child(Side::Before));
            self.free_tree(cpu, node.child(Side::After));
            self.nodes.free(cpu, node);
        }
    }

    /// # Safety
    /// The mapping is detached: nobody finds it from now on.
    pub(super) unsafe fn free_vma(&'static self, cpu: &Cpu, vma: &'static Vma) {
        // SAFETY: as in `finish`.
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
/// `head` is the `rcu` of a node that no published tree has, and `spaces` the exposed address of its
/// [`Spaces`].
unsafe fn free_node(cpu: &Cpu, head: NonNull<RcuHead>, spaces: usize) {
    // SAFETY: the caller's promise.
    let spaces = unsafe { &*core::ptr::with_exposed_provenance::<Spaces>(spaces) };
    if let Some(node) = spaces.nodes.at(head.addr().get() - offset_of!(Node, rcu)) {
        spaces.nodes.free(cpu, node);
    }
}

/// # Safety
/// `head` is the `rcu` of a space that was destroyed, and `spaces` the exposed address of its
/// [`Spaces`].
unsafe fn free_space(cpu: &Cpu, head: NonNull<RcuHead>, spaces: usize) {
    // SAFETY: the caller's promise.
    let spaces = unsafe { &*core::ptr::with_exposed_provenance::<Spaces>(spaces) };
    if let Some(space) = spaces.spaces.at(head.addr().get() - offset_of!(Space, rcu)) {
        spaces.spaces.free(cpu, space);
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
