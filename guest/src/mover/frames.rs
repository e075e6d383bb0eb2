//! Whose frame is whose, and the frames that are nobody's.

use super::entry::State;
use crate::{
    Cpu,
    mm::{PageAllocator, PageTable, poison},
    sync::TicketLock,
};
use core::ops::Range;
use core::sync::atomic::{
    AtomicU8, AtomicU32, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};
use underfoot_abi::{PAGE_SIZE, POISON_LIMBO, PageByte, PageKind};

/// Frames that are nobody's: as many moves go by before one that was left is used again.
pub const SPARES: usize = 128;

const WORDS: usize = PAGE_SIZE / size_of::<u64>();
/// What the words of a frame that is filled so come to.
const BURIED: u64 = {
    let (mut sum, mut word) = (0, 0);
    while word < WORDS {
        sum = add_up(sum, POISON_LIMBO);
        word += 1;
    }
    sum
};

/// One word more; each value of the sum comes from one alone.
const fn add_up(sum: u64, word: u64) -> u64 {
    sum.rotate_left(5) ^ word
}

/// The page may not move: mover or fault handler need it.
const PINNED: u8 = 1;
/// A stack that may move: its thread never runs while the mover does.
const OWN_STACK: u8 = 2;

crate::lock_class!(pub(super) LimboLock = "limbo");

/// Frames in limbo, the one that was left longest first.
#[derive(Debug)]
pub(super) struct Limbo {
    frames: [usize; SPARES],
    /// What their words came to when they were left.
    sums: [u64; SPARES],
    oldest: usize,
}

impl Limbo {
    /// The oldest, and what its words came to.
    pub(super) const fn oldest(&self) -> (usize, u64) {
        (self.frames[self.oldest], self.sums[self.oldest])
    }

    /// Takes the oldest out, and puts `frame`, whose words come to `sum`, in behind all others.
    pub(super) const fn exchange(&mut self, frame: usize, sum: u64) {
        self.frames[self.oldest] = frame;
        self.sums[self.oldest] = sum;
        self.oldest = (self.oldest + 1) % SPARES;
    }
}

/// What a mover knows of memory beside the page table. Addresses are physical where they are called
/// frames, and virtual where they are called pages; before anything moves the two are the same.
#[derive(Debug)]
pub struct Frames {
    /// By frame: the number of the page that lies in it, plus one; 0 if nobody's.
    owners: &'static [AtomicU32],
    /// By page: [`PINNED`], [`OWN_STACK`].
    marks: &'static [AtomicU8],
    /// Address of the first frame, and page, of these.
    base: usize,
    /// What to add to a frame's address to reach it.
    direct: usize,
    /// Pages moved so far.
    moves: AtomicU64,
    pub(super) limbo: TicketLock<Limbo, false, LimboLock>,
}

impl Frames {
    /// Takes [`SPARES`] pages of `pages`, unmaps them from `table`, and pins them; all other pages are
    /// in their own frames. The frame at the address `frame` is reached at `frame + direct`. `None` if
    /// there is not enough memory, or so much that a record of it fits into no block (2 GiB). The caller
    /// flushes.
    ///
    /// # Safety
    /// All memory that `pages` covers is mapped, for ever and at once, at its own address and `direct`
    /// bytes above it, which is where nobody else reaches it.
    #[must_use]
    pub unsafe fn new(
        cpu: &Cpu,
        pages: &PageAllocator,
        table: &PageTable,
        direct: usize,
    ) -> Option<Self> {
        let reserved = PageByte::new(PageKind::Reserved, false);
        let covered = pages.covers();
        let count = covered.len() / PAGE_SIZE;
        let owners = pages.zeroed_slice::<AtomicU32>(cpu, count, reserved)?;
        let marks = pages.zeroed_slice::<AtomicU8>(cpu, count, reserved)?;
        for (index, owner) in owners.iter().enumerate() {
            owner.store(index as u32 + 1, Relaxed);
        }
        let mut frames = [0; SPARES];
        for frame in &mut frames {
            *frame = pages.allocate(cpu, 0, reserved)?;
        }
        let this = Self {
            owners,
            marks,
            base: covered.start,
            direct,
            moves: AtomicU64::new(0),
            limbo: TicketLock::new(Limbo {
                frames,
                sums: [BURIED; SPARES],
                oldest: 0,
            }),
        };
        for frame in frames {
            this.owner(frame).store(0, Relaxed);
            this.pin(frame..frame + PAGE_SIZE);
            // Whoever reaches for a spare frame by the address that it once had is caught.
            table.leaf(frame)?.store(0, Relaxed);
            let _ = this.bury(frame);
        }
        Some(this)
    }

    /// Keeps the pages in `range` from moving.
    pub fn pin(&self, range: Range<usize>) {
        self.mark(range, |mark| mark | PINNED);
    }

    /// Lets the pages in `range` move again.
    pub fn unpin(&self, range: Range<usize>) {
        self.mark(range, |mark| mark & !PINNED);
    }

    /// Says whether the pages in `range` are a stack whose thread never runs while the mover does.
    pub fn set_own_stack(&self, range: Range<usize>, own: bool) {
        self.mark(range, |mark| {
            if own {
                mark | OWN_STACK
            } else {
                mark & !OWN_STACK
            }
        });
    }

    /// Whether `page`, of which the page map says `byte`, may move.
    #[must_use]
    pub fn may_move(&self, page: usize, byte: PageByte) -> bool {
        let Some(mark) = self.marks.get(self.index(page)) else {
            return false;
        };
        let mark = mark.load(Relaxed);
        mark & PINNED == 0
            && !byte.hypervisor()
            && underfoot_abi::refusal(byte.kind()).is_none()
            && (byte.kind() != PageKind::Stack || mark & OWN_STACK != 0)
    }

    /// Whether `table` maps `page` to the frame that is its own, or has it in flight from there; a
    /// spare one's old address must map nothing. While pages move.
    #[must_use]
    pub fn is_sound(&self, table: &PageTable, page: usize) -> bool {
        let Some(entry) = table.leaf(page) else {
            // Mapped by a larger entry, which never changes.
            return table.walk(page).is_some_and(|leaf| leaf.physical == page);
        };
        loop {
            // Acquire: the owner is read after it, and the entry again after that.
            let moves = self.moves.load(Acquire);
            let value = entry.load(Acquire);
            let sound = match State::of(value) {
                State::Mapped(frame) | State::InFlight(frame) => {
                    self.holds(frame) && self.owner(frame).load(Acquire) == self.tag(page)
                }
                State::Nothing => self.is_pinned(page),
            };
            // A frame is not used again before so many moves: until then its owner is the same as
            // when the entry was read, and can be held against it.
            // Acquire: before the count of moves that follows.
            let settled = entry.load(Acquire) == value;
            if sound || settled && self.moves.load(Relaxed) - moves < SPARES as u64 {
                return sound;
            }
        }
    }

    /// How many of the pages in `range` are not where they should be. Nothing moves.
    #[must_use]
    pub fn audit(&self, table: &PageTable, range: Range<usize>) -> u64 {
        let wrong = |page: &usize| !self.is_sound(table, *page);
        let pages = range.step_by(PAGE_SIZE);
        pages.filter(wrong).count() as u64
    }

    /// Gives `to`, a frame of nobody's, to `page`, before the page is mapped there.
    pub(super) fn give(&self, page: usize, to: usize) {
        self.owner(to).store(self.tag(page), Release);
    }

    /// Takes `from` away from the page that has left it.
    pub(super) fn take(&self, from: usize) {
        // Release: who sees that there was a move sees what it did.
        self.moves.fetch_add(1, Release);
        self.owner(from).store(0, Release);
    }

    /// Undoes [`Self::give`]: the page stayed where it was.
    pub(super) fn take_back(&self, to: usize) {
        self.owner(to).store(0, Release);
    }

    /// Copies a frame that nobody can write.
    pub(super) fn copy(&self, from: usize, to: usize) {
        for (to, from) in self.words(to).iter().zip(self.words(from)) {
            to.store(from.load(Relaxed), Relaxed);
        }
    }

    /// Touches a frame, so that whatever its first access costs is not paid in a window.
    pub(super) fn warm(&self, frame: usize) {
        core::hint::black_box(self.words(frame)[0].load(Relaxed));
    }

    /// Fills a frame that was left: a translation that outlived its shootdown shows by a write to it.
    /// Returns what its words come to.
    pub(super) fn bury(&self, frame: usize) -> u64 {
        poison::fill(self.words(frame), POISON_LIMBO);
        BURIED
    }

    /// What the words of `frame` come to; another value if any one of them is another.
    pub(super) fn sum(&self, frame: usize) -> u64 {
        let words = self.words(frame).iter();
        words.fold(0, |sum, word| add_up(sum, word.load(Relaxed)))
    }

    fn is_pinned(&self, page: usize) -> bool {
        self.marks[self.index(page)].load(Relaxed) & PINNED != 0
    }

    fn holds(&self, frame: usize) -> bool {
        self.index(frame) < self.owners.len()
    }

    /// Beyond all records for what they do not cover.
    fn index(&self, address: usize) -> usize {
        address.wrapping_sub(self.base) / PAGE_SIZE
    }

    /// What the owner of a frame says where `page` lies in it.
    fn tag(&self, page: usize) -> u32 {
        self.index(page) as u32 + 1
    }

    fn owner(&self, frame: usize) -> &AtomicU32 {
        &self.owners[self.index(frame)]
    }

    fn words(&self, frame: usize) -> &[AtomicU64] {
        debug_assert!(self.holds(frame));
        // SAFETY: `new` was promised that all memory is mapped there for ever; as a frame it is
        // accessed in whole words, and nobody else reaches one that the mover has.
        let words = unsafe { poison::words(frame + self.direct, PAGE_SIZE) };
        &words[..WORDS]
    }

    fn mark(&self, range: Range<usize>, change: impl Fn(u8) -> u8) {
        let first = range.start / PAGE_SIZE * PAGE_SIZE;
        for page in (first..range.end).step_by(PAGE_SIZE) {
            if let Some(mark) = self.marks.get(self.index(page)) {
                mark.store(change(mark.load(Relaxed)), Relaxed);
            }
        }
    }
}
