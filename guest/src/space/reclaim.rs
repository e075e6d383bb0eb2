//! Taking pages away from address spaces, by the reverse map.

use super::{
    entry::{Entry, index},
    gather::Gather,
    object::Space,
    page::UserPage,
    spaces::Spaces,
};
use crate::{
    Cpu,
    mm::{
        Mapping,
        watermark::{AfterGracePeriod, Reclaim, Reclaimable},
    },
};
use core::{
    ptr::null_mut,
    sync::atomic::{
        AtomicPtr, AtomicU64, AtomicUsize,
        Ordering::{Acquire, Relaxed, Release},
    },
};
use underfoot_abi::{PAGE_SIZE, Variant};

/// What spaces lie at multiples of, so that 32 bits name one.
const UNIT: usize = 16;

const _: () = assert!(size_of::<Space>().is_multiple_of(UNIT));

/// Frames that one who looks for pages looks at before others may begin behind him.
const STRIDE: usize = 64;

/// How far those have come who follow the reverse map. They need no lock for that: in a read section
/// a space stays that a page leads to, and who finds another entry than he looks for lets go.
pub(super) struct Rmap {
    /// The frame at which the next one begins: all of them by turns, round and round.
    hand: AtomicUsize,
    /// Pages taken away.
    evicted: AtomicU64,
    /// Updates of pages that were given back.
    written_back: AtomicU64,
}

impl Rmap {
    pub(super) const fn new() -> Self {
        Self {
            hand: AtomicUsize::new(0),
            evicted: AtomicU64::new(0),
            written_back: AtomicU64::new(0),
        }
    }
}

impl Spaces {
    /// Pages that reclaim has taken away so far.
    #[must_use]
    pub fn evicted(&self) -> u64 {
        self.rmap.evicted.load(Relaxed)
    }

    /// Updates of all pages that were given back so far.
    #[must_use]
    pub fn written_back(&self) -> u64 {
        self.rmap.written_back.load(Relaxed)
    }

    /// Pages that spaces map, as of now: looks at every frame.
    fn mapped(&self) -> usize {
        let pages = self.memory.pages;
        let frames = pages.covers().step_by(PAGE_SIZE);
        frames.filter(|page| pages.mapping(*page).is_some()).count()
    }

    pub(super) fn write_back(&self, updates: u64) {
        self.rmap.written_back.fetch_add(updates, Relaxed);
    }

    /// Notes that the entry for `address` maps `page`. With the lock of its page table held.
    pub(super) fn note_mapping(&self, space: &Space, page: usize, address: usize) {
        let base = self.memory.pages.covers().start;
        let space = (core::ptr::from_ref(space).addr() - base) / UNIT;
        let mapping = Mapping {
            space: space as u32,
            number: (address / PAGE_SIZE) as u32,
        };
        self.memory.pages.set_mapping(page, mapping);
    }

    /// Takes about `pages` pages away from whatever spaces have them; how many it took. They are free
    /// by now, or become so after a grace period: see [`Gather::finish`]. What a page says of itself can
    /// be made anew, and its updates are added up. May sleep.
    pub(super) fn evict(&'static self, cpu: &Cpu, pages: usize) -> usize {
        let covers = self.memory.pages.covers();
        let frames = covers.len() / PAGE_SIZE;
        let mut taken = 0;
        for _ in 0..frames.div_ceil(STRIDE) {
            let first = self.rmap.hand.fetch_add(STRIDE, Relaxed);
            let stride = first..first + STRIDE;
            taken += self.evict_among(cpu, stride.map(|frame| frame % frames));
            if taken >= pages {
                break;
            }
        }
        self.rmap.evicted.fetch_add(taken as u64, Relaxed);
        taken
    }

    /// Takes the pages among these frames away; how many.
    fn evict_among(&'static self, cpu: &Cpu, frames: impl Iterator<Item = usize>) -> usize {
        let base = self.memory.pages.covers().start;
        // A space is freed a grace period after its last page was unmapped at the earliest: those that
        // are found in this section stay until it ends.
        let _section = self.rcu.read_lock(cpu);
        let mut taken = 0;
        let mut gather: Option<Gather<'_>> = None;
        for page in frames.map(|frame| base + frame * PAGE_SIZE) {
            let Some(mapping) = self.memory.pages.mapping(page) else {
                continue;
            };
            let Some(space) = self.spaces.at(base + mapping.space as usize * UNIT) else {
                continue;
            };
            if let Some(other) = gather.take_if(|gather| !gather.is_of(space)) {
                other.finish(cpu);
            }
            let gather = gather.get_or_insert_with(|| Gather::new(self, space));
            taken += usize::from(self.evict_one(cpu, space, page, mapping, gather));
        }
        if let Some(gather) = gather {
            gather.finish(cpu);
        }
        taken
    }

    /// Takes `page` away from `space` if `mapping`, which was found in this read section, is still where
    /// it is mapped (Linux's `try_to_unmap_one`).
    fn evict_one(
        &'static self,
        cpu: &Cpu,
        space: &Space,
        page: usize,
        mapping: Mapping,
        gather: &mut Gather<'_>,
    ) -> bool {
        let address = mapping.number as usize * PAGE_SIZE;
        let Some(leaf) = self.leaf(cpu, space, address) else {
            return false;
        };
        let Some(lock) = self.tables.lock_of(leaf) else {
            return false;
        };
        let entry = &leaf.entries()[index(address, 0)];
        {
            let _locked = lock.lock(cpu);
            let found = Entry(entry.load(Relaxed));
            if !found.is_page() || found.address() != page {
                return false;
            }
            entry.store(0, Release);
            self.memory.pages.clear_mapping(page);
        }
        // SAFETY: it was mapped by this entry alone, which led to an allocated page.
        let user = unsafe { UserPage::at(page) };
        if cpu.header.variant == Variant::DropsUpdates as u32 {
            user.forget_updates();
        }
        // SAFETY: as above, and no entry leads to it any more.
        unsafe { gather.take(address, user) };
        true
    }
}

/// Makes room by taking pages of address spaces away, and waiting for what is being freed already.
pub struct SpaceReclaim {
    after: AfterGracePeriod,
    /// There once there are spaces.
    spaces: AtomicPtr<Spaces>,
}

impl SpaceReclaim {
    /// One that has no spaces yet.
    #[must_use]
    pub const fn new(after: AfterGracePeriod) -> Self {
        Self {
            after,
            spaces: AtomicPtr::new(null_mut()),
        }
    }

    /// From now on pages of `spaces` are taken.
    pub fn attach(&self, spaces: &'static Spaces) {
        // Release: who finds them finds them whole.
        let spaces = core::ptr::from_ref(spaces).cast_mut();
        self.spaces.store(spaces, Release);
    }

    fn attached(&self) -> Option<&'static Spaces> {
        let spaces = self.spaces.load(Acquire);
        // SAFETY: null, or what `attach` was given, which lives for ever.
        unsafe { spaces.as_ref::<'static>() }
    }
}

impl Reclaim for SpaceReclaim {
    fn reclaim(&self, cpu: &Cpu, pages: usize) -> usize {
        let spaces = self.attached();
        let taken = spaces.map_or(0, |spaces| spaces.evict(cpu, pages));
        if taken > 0 && spaces.is_some_and(|spaces| spaces.shootdowns.is_some()) {
            // They are free already.
            return taken;
        }
        self.after.reclaim(cpu, pages.max(taken))
    }

    fn reclaimable(&self) -> Reclaimable {
        Reclaimable {
            mapped: self.attached().map_or(0, Spaces::mapped),
            ..self.after.reclaimable()
        }
    }
}
