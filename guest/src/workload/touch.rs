//! Touches of every kind of page but slabs, each verified: every kind feels its own moves.

use super::{dentry::PAIR, text, worker::Worker};
use crate::random::mix;
use crate::{
    Cpu,
    mm::{PageAllocator, PageTable},
    mover::Frames,
    record::{self, access},
};
use core::{
    ops::Range,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};
use underfoot_abi::{MAX_CPUS, PAGE_SIZE, PageByte, PageKind};

/// Words in a page.
const WORDS: usize = PAGE_SIZE / size_of::<u64>();
/// Pages of constants and of static data.
const PAGES: usize = 16;
/// Nested calls that cross at least three pages of stack, and what each puts there.
const FRAMES: usize = 8;
const FRAME_WORDS: usize = 256;

const _: () = assert!(FRAMES * FRAME_WORDS * size_of::<u64>() >= 3 * PAGE_SIZE + PAGE_SIZE / 2);
const _: () = assert!(2 * MAX_CPUS <= WORDS);

/// The pages of the image that nobody but these touches need.
#[must_use]
pub fn movable_image() -> [Range<usize>; 3] {
    let around = |start: usize, bytes| start..start + bytes;
    [
        text::pages(),
        around(
            core::ptr::from_ref(&CONSTANTS).addr(),
            size_of::<Constants>(),
        ),
        around(core::ptr::from_ref(&DATA).addr(), size_of::<DataPages>()),
    ]
}

#[repr(C, align(4096))]
struct Constants([u64; PAGES * WORDS]);

/// Constants, each of which can be computed.
static CONSTANTS: Constants = Constants({
    let mut words = [0; PAGES * WORDS];
    let mut index = 0;
    while index < words.len() {
        words[index] = mix(index as u64);
        index += 1;
    }
    words
});

/// Pages of static data: in each, a pair of counters for each CPU.
#[repr(C, align(4096))]
pub struct DataPages([AtomicU64; PAGES * WORDS]);

impl DataPages {
    /// Pages of zeroes, which agree.
    #[must_use]
    pub const fn new() -> Self {
        Self([const { AtomicU64::new(0) }; PAGES * WORDS])
    }

    /// All their words.
    #[cfg(test)]
    pub(super) const fn words(&self) -> &[AtomicU64] {
        &self.0
    }
}

impl Default for DataPages {
    fn default() -> Self {
        Self::new()
    }
}

/// The guest's own [`DataPages`], for [`Targets::data`].
pub static DATA: DataPages = DataPages::new();

/// The memory that is touched beside the tree's.
#[derive(Clone)]
pub struct Targets {
    /// Where pages are allocated, and freed again.
    pub pages: &'static PageAllocator,
    /// The page tables in use.
    pub table: &'static PageTable,
    /// Where pages are if the guest moves them itself.
    pub frames: Option<&'static Frames>,
    /// Addresses that the page tables map, without a hole: to themselves, unless the guest moves its
    /// pages.
    pub identity: Range<usize>,
    /// Static data; [`DATA`] in the guest.
    pub data: &'static DataPages,
    /// Per-CPU data: the pages of CPU 0, then as many of CPU 1, and so on; zeroed, used by nobody
    /// else. Empty if there is none.
    pub percpu: &'static [AtomicU64],
    /// A region mapped by 2 MiB entries, used by nobody else, zeroed; empty if there is none. Whole
    /// pages.
    pub large: &'static [AtomicU64],
    /// Ranges of the descriptor tables that never change after boot (no TSS descriptor: the
    /// processor sets its busy bit; no TSS).
    pub descriptors: &'static [&'static [AtomicU64]],
    /// Their checksum, from [`Targets::checksum`].
    pub descriptors_sum: u64,
}

impl Targets {
    /// The checksum of descriptor tables, taken at boot.
    #[must_use]
    pub fn checksum(descriptors: &[&[AtomicU64]]) -> u64 {
        descriptors.iter().fold(0, |sum, range| fold(sum, range))
    }

    /// Touches some page of some kind. Tables come more often: they are few pages that move often, so
    /// that even windows of a few µs are met there.
    pub(super) fn touch(&self, cpu: &Cpu, worker: &mut Worker) {
        let number = worker.random.below(14);
        let page = worker.random.below(1 << 20);
        match number {
            0 => text::touch(cpu, page % text::COUNT, worker.random.bits()),
            1 => rodata(cpu, page % (PAGES * WORDS)),
            2 => pair(cpu, &self.data.0, page),
            3 => stack(cpu, worker.random.bits(), 0),
            4 => pair(cpu, self.percpu_of(cpu.id, cpu.header.cpus), page),
            5 | 6 => self.page_table(cpu, worker.random.bits() as usize),
            7..12 => self.descriptors(cpu),
            12 => self.free(cpu, worker),
            _ => pair(cpu, self.large, page),
        }
    }

    /// The per-CPU pages of CPU `id` of `cpus`.
    fn percpu_of(&self, id: usize, cpus: u32) -> &'static [AtomicU64] {
        let each = self.percpu.len() / cpus.max(1) as usize;
        &self.percpu[id * each..(id + 1) * each]
    }

    /// Updates found in the pairs of CPU `id` of `cpus`, wherever they are: as many as it made, if
    /// none was lost. A page that goes back to what it held before agrees with itself; its updates
    /// are gone all the same.
    pub(super) fn updates_of(&self, id: usize, cpus: u32) -> u64 {
        [&self.data.0[..], self.large, self.percpu_of(id, cpus)]
            .into_iter()
            .flat_map(|words| words.iter().skip(2 * id).step_by(WORDS))
            .fold(0, |sum: u64, first| sum.wrapping_add(first.load(Relaxed)))
    }

    /// Walks the page tables for some address, every entry read timed.
    fn page_table(&self, cpu: &Cpu, random: usize) {
        let pages = self.identity.len() / PAGE_SIZE;
        if pages == 0 {
            return;
        }
        let virt = self.identity.start + random % pages * PAGE_SIZE;
        let leaf = self.table.walk_with(virt, |address, entry| {
            access(cpu, address, || core::hint::black_box(entry.load(Relaxed)));
        });
        record::checked(cpu, 1);
        let sound = match self.frames {
            Some(frames) => frames.is_sound(self.table, virt),
            None => leaf.is_some_and(|leaf| leaf.physical == virt),
        };
        if !sound {
            record::error(cpu, virt, leaf.map_or(0, |leaf| leaf.entry.value));
        }
    }

    fn descriptors(&self, cpu: &Cpu) {
        let Some(first) = self.descriptors.first() else {
            return;
        };
        let address = first.as_ptr().addr();
        let found = self.descriptors.iter().fold(0, |sum, range| {
            access(cpu, range.as_ptr().addr(), || fold(sum, range))
        });
        record::checked(cpu, 1);
        if found != self.descriptors_sum {
            record::error(cpu, address, found);
        }
    }

    /// Allocates a page, or frees one that was allocated and verifies it: a ring of them fills and
    /// empties, so that many pages are free that were used before.
    fn free(&self, cpu: &Cpu, worker: &mut Worker) {
        let Some(address) = worker.held.turn(|| {
            let byte = PageByte::new(PageKind::Data, false);
            let address = self.pages.allocate(cpu, 0, byte)?;
            mark(cpu, address, |word, right| {
                word.store(right, Relaxed);
                right
            });
            Some(address)
        }) else {
            return;
        };
        mark(cpu, address, |word, _| word.load(Relaxed));
        // SAFETY: this CPU allocated it, and forgot its address just now.
        unsafe { self.pages.free(cpu, address, 0) };
    }
}

/// Goes on with a checksum over `words`.
fn fold(sum: u64, words: &[AtomicU64]) -> u64 {
    let next = |sum, word: &AtomicU64| mix(sum ^ word.load(Relaxed));
    words.iter().fold(sum, next)
}

/// Writes or reads a word at either end of a page that this CPU allocated, and verifies it.
fn mark(cpu: &Cpu, address: usize, word: impl Fn(&AtomicU64, u64) -> u64) {
    for place in [address, address + PAGE_SIZE - size_of::<u64>()] {
        // SAFETY: in a page that this CPU allocated and has not freed.
        let entry = unsafe { &*core::ptr::with_exposed_provenance::<AtomicU64>(place) };
        let right = mix(place as u64);
        let found = access(cpu, place, || word(entry, right));
        record::checked(cpu, 1);
        if found != right {
            record::error(cpu, place, found);
        }
    }
}

fn rodata(cpu: &Cpu, index: usize) {
    // Opaque, or the compiler would know the constant.
    let word: &u64 = core::hint::black_box(&CONSTANTS.0[index]);
    let address = core::ptr::from_ref(word).addr();
    // SAFETY: a reference; volatile, so that memory is read here and now.
    let found = access(cpu, address, || unsafe { core::ptr::read_volatile(word) });
    record::checked(cpu, 1);
    if found != mix(index as u64) {
        record::error(cpu, address, found);
    }
}

/// Verifies this CPU's pair of counters in some page of `words` and moves it on. A pair that is
/// wrong is counted once: it is set right.
fn pair(cpu: &Cpu, words: &[AtomicU64], page: usize) {
    let pages = words.len() / WORDS;
    if pages == 0 {
        return;
    }
    let at = page % pages * WORDS + 2 * cpu.id;
    let (first, second) = (&words[at], &words[at + 1]);
    let address = core::ptr::from_ref(first).addr();
    // Other threads of this CPU have the same pair.
    cpu.preempt_disable();
    let found = access(cpu, address, || {
        let (a, b) = (first.load(Relaxed), second.load(Relaxed));
        let next = a.wrapping_add(1);
        first.store(next, Relaxed);
        second.store(next.wrapping_mul(PAIR), Relaxed);
        (a, b)
    });
    cpu.preempt_enable();
    record::checked(cpu, 1);
    record::updated(cpu);
    if found.1 != found.0.wrapping_mul(PAIR) {
        record::error(cpu, address, found.1);
    }
}

/// Puts canaries on the stack, calls itself, and verifies them on the way back.
#[inline(never)]
fn stack(cpu: &Cpu, seed: u64, depth: usize) {
    let mut canaries = [0u64; FRAME_WORDS];
    let address = canaries.as_ptr().addr();
    access(cpu, address, || {
        for (index, word) in canaries.iter_mut().enumerate().step_by(32) {
            *word = mix(seed ^ index as u64);
        }
        // Opaque, so that the canaries are in memory.
        core::hint::black_box(&mut canaries);
    });
    if depth + 1 < FRAMES {
        stack(cpu, seed.wrapping_add(1), depth + 1);
    }
    let canaries = core::hint::black_box(&canaries);
    access(cpu, address, || {
        for (index, word) in canaries.iter().enumerate().step_by(32) {
            record::checked(cpu, 1);
            if *word != mix(seed ^ index as u64) {
                record::error(cpu, core::ptr::from_ref(word).addr(), *word);
                return;
            }
        }
    });
}
