//! Another page of the same file, by `mmap(MAP_FIXED)`.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use super::locked::LockedCalls;
use super::{Backend, Source, bytes};
use crate::alias::Alias;
use crate::arena::ArenaError;
use crate::clock::{self, Tsc};
use crate::page_word::Lane;
use crate::regions::Regions;
use crate::registration::Registration;
use crate::sample::Sample;
use crate::uffd::{Transfer, UffdError, Watch, is_transient};
use crate::{Allocate, PAGE_SIZE, pattern};

/// Tries to register pages that were mapped anew.
const REGISTER_TRIES: u32 = 16;

/// A closed loop of places of the file, as [`MoveIn`](super::MoveIn) has one of frames. A page is
/// never missing: the mapping of the old place is replaced by that of the new one in one call, which
/// also drops the registration with userfaultfd.
///
/// Each call takes the address-space lock for writing: faults of all vCPUs wait for it meanwhile.
pub(crate) struct RemapIn {
    alias: Arc<Alias>,
    registration: Arc<Registration>,
    watch: Watch,
    regions: Regions,
    /// Places that wait, the oldest first.
    waiting: VecDeque<u32>,
    /// How many left at the front, since the start.
    left: u64,
    /// Frames older than this position were checked.
    checked: u64,
    sample: Sample,
    allocate: Allocate,
    locked: LockedCalls,
    /// The number of the first page of the open migration.
    first: u32,
    /// The places of its pages, as they were.
    old: Vec<u32>,
}

impl RemapIn {
    /// A loop for windows of up to `batch` pages with `limbo` places in it, one in `stride` of which
    /// is checked before it is used again.
    pub(crate) fn new(
        batch: u32,
        limbo: u32,
        stride: u32,
        alias: Arc<Alias>,
        registration: Arc<Registration>,
        watch: Watch,
        regions: Regions,
    ) -> Result<Self, ArenaError> {
        let full = limbo.max(batch);
        let first = alias.grow(full as usize)?;
        // SAFETY: these places were just made and are ours.
        unsafe { pattern::fill(alias.at(first), full as usize) };
        let mut waiting = VecDeque::with_capacity((full + batch) as usize);
        waiting.extend(first..first + full);
        Ok(Self {
            alias,
            registration,
            watch,
            regions,
            waiting,
            left: 0,
            checked: 0,
            sample: Sample::one_in(stride),
            allocate: Allocate::default(),
            // Each page mapped and registered by itself, and tried again now and then.
            locked: LockedCalls::new(4 * batch as usize),
            first: 0,
            old: Vec::with_capacity(batch as usize),
        })
    }

    /// The same, with frames allocated then.
    pub(crate) fn allocating(self, allocate: Allocate) -> Self {
        Self { allocate, ..self }
    }

    fn check_oldest(&mut self, pages: u32) -> u32 {
        let first = self.checked.max(self.left);
        let end = first.max(self.left + u64::from(pages));
        self.checked = end;
        let changed = |position: u64| {
            let place = self.waiting[(position - self.left) as usize];
            // SAFETY: a place that waits is ours, and was filled on entering.
            u32::from(unsafe { pattern::is_changed(self.alias.at(place)) })
        };
        self.sample.among(first..end).map(changed).sum()
    }

    /// Flips `pages` pages from the `skip`th on; how many, and why no more.
    fn flip(&mut self, lane: Lane, hva: usize, skip: u32, pages: u32) -> Transfer {
        let mut done = 0;
        while done < pages {
            let nth = (skip + done) as usize;
            let place = self.waiting[nth];
            let left = (pages - done) as usize;
            // Places in a row are mapped in one call.
            let run = (1..left)
                .find(|&more| self.waiting[nth + more] != place + more as u32)
                .unwrap_or(left) as u32;
            let start = hva + nth * PAGE_SIZE;
            let began = clock::now();
            // SAFETY: the caller claimed these guest pages; guest memory is reached by raw pointers
            // alone.
            let flipped = unsafe { self.alias.flip(start, self.first + nth as u32, place, run) };
            self.locked.note(began);
            let errno = match flipped {
                0 => self.register(lane, start, run),
                errno => errno,
            };
            if flipped == 0 {
                done += run;
            }
            if errno != 0 {
                return Transfer::of_pages(done, errno);
            }
        }
        Transfer::of_pages(done, 0)
    }

    fn register(&mut self, lane: Lane, hva: usize, pages: u32) -> i32 {
        let mut tries = 1;
        loop {
            let began = clock::now();
            let errno = self.registration.watch_again(lane, hva, pages, self.watch);
            self.locked.note(began);
            // Here, as the pages are mapped already: whoever maps the rest would not come back to them.
            if !is_transient(errno) || tries == REGISTER_TRIES {
                return errno;
            }
            tries += 1;
        }
    }

    fn copy_page(&self, nth: u32, len: usize) {
        let (to, from) = (
            self.alias.at(self.waiting[nth as usize]),
            self.alias.at(self.old[nth as usize]),
        );
        // SAFETY: a place that waits is ours; the other is a guest page's, mapped here as well.
        unsafe { bytes::copy(to, from, len) };
    }

    fn note_places(&mut self, hva: usize, pages: u32) {
        let first = self.regions.by_hva(hva).expect("a page of the guest");
        self.first = first;
        self.old.clear();
        self.old
            .extend((first..first + pages).map(|page| self.alias.place(page)));
    }
}

impl Backend for RemapIn {
    fn prepare(&mut self, pages: u32) -> io::Result<u32> {
        self.locked.clear();
        let stale = self.check_oldest(pages);
        if self.allocate == Allocate::InWindow {
            for place in self.waiting.iter().take(pages as usize) {
                // SAFETY: a place that waits is ours, and was checked.
                unsafe { self.alias.punch(*place)? };
            }
        }
        Ok(stale)
    }

    fn protect(&mut self, lane: Lane, hva: usize, pages: u32) -> i32 {
        self.registration.protect(lane, hva, pages)
    }

    fn unprotect(&mut self, lane: Lane, hva: usize, pages: u32) -> i32 {
        self.registration.unprotect(lane, hva, pages)
    }

    /// Nothing is taken: the page stays mapped until the new one is.
    fn unmap(&mut self, hva: usize, pages: u32) -> Transfer {
        self.note_places(hva, pages);
        Transfer::of_pages(pages, 0)
    }

    fn copy(&mut self, source: Source, pages: u32, len: usize) {
        if let Source::Mapped(hva) = source {
            self.note_places(hva, pages);
        }
        for nth in 0..pages {
            self.copy_page(nth, len);
        }
    }

    /// There is no copy to compare: the table refuses who would.
    fn is_copied(&self, _: Source, _: u32) -> bool {
        false
    }

    fn map(&mut self, lane: Lane, hva: usize, skip: u32, pages: u32) -> Transfer {
        let given = self.flip(lane, hva, skip, pages);
        // Who waited to write the old page is not woken by its going.
        let woken = self.registration.wake(lane, hva, skip + pages);
        match woken {
            Ok(()) => given,
            Err(_) => Transfer {
                errno: libc::EIO,
                ..given
            },
        }
    }

    /// The old pages are still there; they may be write-protected.
    fn put_back(&mut self, lane: Lane, hva: usize, skip: u32, pages: u32) -> Transfer {
        let start = hva + skip as usize * PAGE_SIZE;
        if self.watch == Watch::Missing {
            return Transfer::of_pages(pages, 0);
        }
        match self.registration.unprotect(lane, start, pages) {
            0 => Transfer::of_pages(pages, 0),
            errno => Transfer::of_pages(0, errno),
        }
    }

    fn commit(&mut self, pages: u32) {
        // Full places leave at the front, and as many enter at the back.
        let entering = self.left + self.waiting.len() as u64;
        self.waiting.drain(..pages as usize);
        self.left += u64::from(pages);
        for position in self.sample.among(entering..entering + u64::from(pages)) {
            let place = self.old[(position - entering) as usize];
            // SAFETY: the guest has another page in its place.
            unsafe { pattern::fill(self.alias.at(place), 1) };
        }
        self.waiting.extend(&self.old[..pages as usize]);
    }

    fn forget(&mut self, _: u32) -> io::Result<()> {
        Ok(())
    }

    fn wake(&mut self, lane: Lane, hva: usize, pages: u32) -> Result<(), UffdError> {
        self.registration.wake(lane, hva, pages)
    }

    fn limbo_address(&self, nth: u32) -> usize {
        self.alias.at(self.old[nth as usize]) as usize
    }

    fn scribble(&mut self) {
        if let Some(&place) = self.waiting.back() {
            // SAFETY: a place of ours, aligned to a page.
            unsafe {
                let word = self.alias.at(place).cast::<u64>();
                word.write(u64::from_ne_bytes(*b"busted!!"));
            }
        }
    }

    fn audit(&mut self) -> u32 {
        self.check_oldest(self.waiting.len() as u32)
    }

    fn locked(&self) -> &[(Tsc, Tsc)] {
        self.locked.all()
    }

    fn take_uncounted(&mut self) -> u32 {
        0
    }

    fn populate(&self, hva: usize, pages: u32) -> io::Result<()> {
        let bytes = pages as usize * PAGE_SIZE;
        // SAFETY: guest memory, which keeps its contents.
        let result =
            unsafe { libc::madvise(hva as *mut libc::c_void, bytes, libc::MADV_POPULATE_READ) };
        if result == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    }
}
