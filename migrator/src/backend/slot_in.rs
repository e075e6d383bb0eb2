//! A whole slot of guest memory, copied to fresh memory that takes its place.

use std::io;
use std::sync::Arc;

use super::locked::LockedCalls;
use super::slot_area::SlotArea;
use super::{Backend, Source, bytes};
use crate::arena::ArenaError;
use crate::clock::{self, Tsc};
use crate::memory_slots::MemorySlots;
use crate::page_word::Lane;
use crate::regions::Regions;
use crate::registration::Registration;
use crate::sample::Sample;
use crate::uffd::{Transfer, UffdError, Watch};
use crate::{PAGE_SIZE, PageRange, pattern};

/// Where the slot of the open window and its memory are. The way forward is from top to bottom, and from each state
/// there is one back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The hypervisor knows the slot.
    Known,
    /// It does not; the memory is where it was. Why it did not go, if it should have.
    Removed(i32),
    /// The old memory is in limbo, and nothing at the slot's address.
    Out,
    /// The new memory is at the slot's address, and faults of it are the kernel's own.
    In,
    /// They are watched again.
    Watched,
    /// The old memory is back at its address, unwatched.
    Back,
}

/// Calls of a window that are told, with those that are repeated.
const MAX_CALLS: usize = 64;

/// The spare memory of one window, as large as its slot.
struct Spare {
    /// Fresh frames, for the slot.
    staging: SlotArea,
    /// Where the slot's old frames go.
    limbo: SlotArea,
    pages: u32,
    /// Nothing was taken from staging yet.
    is_full: bool,
}

impl Spare {
    fn new(pages: u32) -> Result<Self, ArenaError> {
        Ok(Self {
            staging: SlotArea::new(pages, true)?,
            limbo: SlotArea::new(pages, false)?,
            pages,
            is_full: true,
        })
    }

    /// The frames for the slot, which are taken from here.
    fn staged(&mut self) -> &SlotArea {
        self.is_full = false;
        &self.staging
    }
}

/// Every vCPU is stopped. The hypervisor forgets the slot; mremap(2) takes the old frames to limbo, all are copied,
/// and mremap puts the new ones in their place; the hypervisor knows the slot again, at the address at which it was:
/// no pointer into guest memory that anybody in this process has becomes stale.
///
/// While nothing is at the slot's address its mapping stays, under userfaultfd (`MREMAP_DONTUNMAP`): who touches it
/// waits, and nobody else's memory can come to lie there.
pub(crate) struct SlotIn {
    slots: Arc<dyn MemorySlots>,
    regions: Regions,
    registration: Arc<Registration>,
    watch: Watch,
    sample: Sample,
    locked: LockedCalls,
    /// None before the first window, and where the kernel had none.
    spare: Option<Spare>,
    state: State,
    slot: PageRange,
    /// Pages in limbo after a commit, some of which are filled and not checked yet; the position of the first, counted over
    /// all windows.
    kept: u32,
    first: u64,
}

impl SlotIn {
    /// One in `stride` of the old frames is checked before they go.
    pub(crate) fn new(
        slots: Arc<dyn MemorySlots>,
        stride: u32,
        regions: Regions,
        registration: Arc<Registration>,
        watch: Watch,
    ) -> Self {
        Self {
            slots,
            regions,
            registration,
            watch,
            sample: Sample::one_in(stride),
            locked: LockedCalls::new(MAX_CALLS),
            spare: None,
            state: State::Known,
            slot: PageRange::default(),
            kept: 0,
            first: 0,
        }
    }

    fn spare(&self) -> &Spare {
        self.spare
            .as_ref()
            .expect("a window is opened only if there is one")
    }

    fn spare_mut(&mut self) -> &mut Spare {
        self.spare
            .as_mut()
            .expect("a window is opened only if there is one")
    }

    /// The filled pages in limbo.
    fn samples(&self) -> impl Iterator<Item = *mut u8> {
        let positions = self.first..self.first + u64::from(self.kept);
        let limbo = self.spare.as_ref().map(|spare| spare.limbo.address());
        let page = move |position| {
            limbo.map(|limbo| limbo.wrapping_add((position - self.first) as usize * PAGE_SIZE))
        };
        self.sample.among(positions).filter_map(page)
    }

    /// Checks the old frames of the last slot, and is done with them.
    fn check(&mut self) -> u32 {
        // SAFETY: pages of limbo, all of which hold a frame after a commit.
        let changed = |page: *mut u8| u32::from(unsafe { pattern::is_changed(page) });
        let stale = self.samples().map(changed).sum();
        self.first += u64::from(self.kept);
        self.kept = 0;
        stale
    }

    fn slot_at(&self, hva: usize, pages: u32) -> PageRange {
        let page = self.regions.by_hva(hva).expect("a page of the guest");
        PageRange::new(self.regions.of(page).gfn(page), pages)
    }

    /// One step on towards `State::Known`, whichever memory is the slot's by then; 0 or the errno.
    fn step(&mut self, lane: Lane, hva: usize, pages: u32) -> i32 {
        let began = clock::now();
        let (errno, next) = match self.state {
            State::Known => (0, State::Known),
            // SAFETY: the caller has claimed every page of the slot, no vCPU runs, and what else touches guest memory has
            // let go of it or waits.
            State::Out => (
                unsafe { self.spare_mut().staged().give(hva, pages) },
                State::In,
            ),
            State::In => (
                self.registration.watch_again(lane, hva, pages, self.watch),
                State::Watched,
            ),
            State::Back => (
                self.registration.watch_again(lane, hva, pages, self.watch),
                State::Removed(0),
            ),
            State::Watched | State::Removed(_) => match self.slots.restore(self.slot) {
                Ok(()) => (0, State::Known),
                Err(error) => (errno_of(&error), self.state),
            },
        };
        if matches!(self.state, State::Out | State::In | State::Back) {
            self.locked.note(began);
        }
        if errno == 0 {
            self.state = next;
        }
        errno
    }

    /// Goes on until the hypervisor knows the slot.
    fn walk(&mut self, lane: Lane, hva: usize, pages: u32) -> Transfer {
        while self.state != State::Known {
            match self.step(lane, hva, pages) {
                0 => {}
                errno => return Transfer::of_pages(0, errno),
            }
        }
        let woken = self.registration.wake(lane, hva, pages);
        Transfer::of_pages(pages, if woken.is_ok() { 0 } else { libc::EIO })
    }
}

/// What a call said; never that there is no such page, which nobody asked.
fn errno_of(error: &io::Error) -> i32 {
    match error.raw_os_error() {
        None | Some(0 | libc::ENOENT) => libc::EIO,
        Some(errno) => errno,
    }
}

impl Backend for SlotIn {
    /// Old frames go back to the kernel here, and as many fresh ones come.
    fn prepare(&mut self, pages: u32) -> io::Result<u32> {
        self.locked.clear();
        let stale = self.check();
        if self
            .spare
            .as_ref()
            .is_some_and(|spare| spare.is_full && spare.pages == pages)
        {
            return Ok(stale);
        }
        // First, so that there is never more than one.
        self.spare = None;
        // A host that has no memory left now may have some later.
        self.spare = Spare::new(pages).ok();
        Ok(stale)
    }

    fn is_ready(&self, _: u32) -> bool {
        self.spare.is_some()
    }

    /// The table refuses who would protect.
    fn protect(&mut self, _: Lane, _: usize, _: u32) -> i32 {
        libc::ENOTSUP
    }

    fn unprotect(&mut self, _: Lane, _: usize, _: u32) -> i32 {
        0
    }

    /// Once the slot is removed its pages are out, whatever comes after: there is a way back to be gone.
    fn unmap(&mut self, hva: usize, pages: u32) -> Transfer {
        self.slot = self.slot_at(hva, pages);
        if let Err(error) = self.slots.remove(self.slot) {
            return Transfer::of_pages(0, errno_of(&error));
        }
        let began = clock::now();
        // SAFETY: as in `step`.
        self.state = match unsafe { self.spare().limbo.take(hva, pages) } {
            0 => State::Out,
            errno => State::Removed(errno),
        };
        self.locked.note(began);
        Transfer::of_pages(pages, 0)
    }

    fn copy(&mut self, source: Source, pages: u32, len: usize) {
        let spare = self.spare();
        let from = match source {
            Source::Mapped(hva) => hva as *const u8,
            Source::Limbo if self.state == State::Out => spare.limbo.address().cast_const(),
            Source::Limbo => return,
        };
        let (whole, nths) = match len {
            PAGE_SIZE => (pages as usize * PAGE_SIZE, 0..1),
            _ => (len, 0..pages as usize),
        };
        for offset in nths.map(|nth| nth * PAGE_SIZE) {
            // SAFETY: staging, limbo and the slot's own mapping are as large as the slot; no page is copied beyond its end
            // but with those after it.
            unsafe { bytes::copy(spare.staging.address().add(offset), from.add(offset), whole) };
        }
    }

    /// There is no copy to compare: the table refuses who would.
    fn is_copied(&self, _: Source, _: u32) -> bool {
        false
    }

    fn map(&mut self, lane: Lane, hva: usize, _: u32, pages: u32) -> Transfer {
        match self.state {
            State::Removed(errno) => Transfer::of_pages(0, errno),
            _ => self.walk(lane, hva, pages),
        }
    }

    fn put_back(&mut self, lane: Lane, hva: usize, _: u32, pages: u32) -> Transfer {
        if matches!(self.state, State::Out | State::In | State::Watched) {
            // SAFETY: as in `step`. New frames that are there already are given up: nobody has seen them.
            match unsafe { self.spare().limbo.give(hva, pages) } {
                0 => self.state = State::Back,
                errno => return Transfer::of_pages(0, errno),
            }
        }
        self.walk(lane, hva, pages)
    }

    fn commit(&mut self, pages: u32) {
        self.kept = pages;
        for page in self.samples() {
            // SAFETY: a page of limbo, whose frame the guest has another one for.
            unsafe { pattern::fill(page, 1) };
        }
    }

    fn forget(&mut self, _: u32) -> io::Result<()> {
        Ok(())
    }

    fn wake(&mut self, lane: Lane, hva: usize, pages: u32) -> Result<(), UffdError> {
        self.registration.wake(lane, hva, pages)
    }

    fn limbo_address(&self, nth: u32) -> usize {
        self.spare().limbo.address() as usize + nth as usize * PAGE_SIZE
    }

    fn scribble(&mut self) {
        if let Some(page) = self.samples().next() {
            // SAFETY: a page of ours, aligned to one.
            unsafe { page.cast::<u64>().write(u64::from_ne_bytes(*b"busted!!")) };
        }
    }

    fn audit(&mut self) -> u32 {
        self.check()
    }

    fn locked(&self) -> &[(Tsc, Tsc)] {
        self.locked.all()
    }

    fn take_uncounted(&mut self) -> u32 {
        0
    }
}
