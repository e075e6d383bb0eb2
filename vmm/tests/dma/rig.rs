//! Memory in a memfd, whose frames the device has mapped as a whole; a mover that gives pages other
//! frames; and a guest that posts descriptors and checks what comes back.

use std::num::NonZeroU64;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::pin::pin;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use underfoot_abi::{DMA_RING, DmaDescriptor, DmaQueue, DmaStatus, PAGE_SIZE};
use underfoot_migrator::{
    Gfn, InvalidationOptions, Invalidations, Laggard, OpenRange, PageRange, Tracking, Translate,
    Variant,
};
use underfoot_vmm::dma::{DmaCounts, DmaDevice, DmaOptions, Doorbells};

/// Pages that move.
const MOVING: u64 = 8;
/// The guest's queue, what it writes from, and what it reads back to: these stay.
const QUEUE: u64 = MOVING;
const SOURCE: u64 = MOVING + 1;
const BACK: u64 = MOVING + 2;
const PAGES: u64 = MOVING + 3;
/// The frame after those is the mover's spare at first.
const FRAMES: u64 = PAGES + 1;
const WORDS: usize = PAGE_SIZE / 8;
/// Words in one update.
pub const UPDATE_WORDS: usize = 8;
const UPDATE_BYTES: u64 = 8 * UPDATE_WORDS as u64;
/// Updates in a page, and updates posted at a time.
const SLOTS: usize = WORDS / UPDATE_WORDS;
const BATCH: usize = DMA_RING / 2;
/// Of so many times, a thread dawdles once.
const DAWDLES: u64 = 4;
/// A run that takes longer is taken for hung.
const HUNG: Duration = Duration::from_secs(120);
const POISON: u64 = 0xdead_dead_dead_dead;

/// The memfd, mapped, and which frame holds which page.
struct Frames {
    base: NonNull<u8>,
    lookup: [AtomicU64; PAGES as usize],
    random: AtomicU64,
    _file: OwnedFd,
}

// SAFETY: the mapping belongs to this and lives as long; it is read and written by atomics only.
unsafe impl Send for Frames {}
// SAFETY: as above.
unsafe impl Sync for Frames {}

impl Frames {
    fn new() -> Self {
        // SAFETY: a name that ends in zero; the kernel makes a new descriptor.
        let raw = unsafe { libc::memfd_create(c"dma-rig".as_ptr(), libc::MFD_CLOEXEC) };
        assert!(raw >= 0);
        // SAFETY: nobody else knows the descriptor.
        let file = unsafe { OwnedFd::from_raw_fd(raw) };
        let bytes = FRAMES as usize * PAGE_SIZE;
        // SAFETY: an ordinary call on a file of ours.
        let sized = unsafe { libc::ftruncate(file.as_raw_fd(), bytes as i64) };
        assert_eq!(sized, 0);
        let rights = libc::PROT_READ | libc::PROT_WRITE;
        let raw = file.as_raw_fd();
        // SAFETY: a new mapping, wherever the kernel likes.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                rights,
                libc::MAP_SHARED,
                raw,
                0,
            )
        };
        assert_ne!(base, libc::MAP_FAILED);
        Self {
            base: NonNull::new(base.cast()).expect("mappings are not at 0"),
            lookup: std::array::from_fn(|page| AtomicU64::new(page as u64)),
            random: AtomicU64::new(1),
            _file: file,
        }
    }

    fn at(&self, frame: u64) -> NonNull<u8> {
        assert!(frame < FRAMES);
        // SAFETY: within the mapping.
        unsafe { self.base.add(frame as usize * PAGE_SIZE) }
    }

    fn frame(&self, frame: u64) -> &[AtomicU64; WORDS] {
        // SAFETY: a page of the mapping, of atomics.
        unsafe { self.at(frame).cast().as_ref() }
    }

    fn page(&self, gfn: u64) -> &[AtomicU64; WORDS] {
        self.frame(self.lookup[gfn as usize].load(Ordering::Relaxed))
    }

    /// Offers the CPU to others now and then, a few times: without chance in it threads fall into step.
    fn dawdle(&self) {
        let number = self.random.fetch_add(1, Ordering::Relaxed);
        let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
        if mixed.is_multiple_of(DAWDLES) {
            (0..mixed / DAWDLES % 4 + 1).for_each(|_| thread::yield_now());
        }
    }

    /// Gives a page the frame `to`, and spoils its old one, which is returned.
    fn relocate(&self, gfn: u64, to: u64) -> u64 {
        let from = self.lookup[gfn as usize].load(Ordering::Relaxed);
        for (new, old) in self.frame(to).iter().zip(self.frame(from)) {
            new.store(old.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        // A mover may lose its CPU in the midst of it.
        self.dawdle();
        self.lookup[gfn as usize].store(to, Ordering::Relaxed);
        let old = self.frame(from).iter();
        old.for_each(|word| word.store(POISON, Ordering::Relaxed));
        from
    }
}

impl Drop for Frames {
    fn drop(&mut self) {
        // SAFETY: the mapping is this one's alone.
        unsafe { libc::munmap(self.base.as_ptr().cast(), FRAMES as usize * PAGE_SIZE) };
    }
}

impl Translate for Frames {
    fn translate(&self, gfn: Gfn) -> Option<NonNull<u8>> {
        let frame = self.lookup.get(gfn.0 as usize)?.load(Ordering::Relaxed);
        // A look-up may take its time: that is what the sequence is for.
        self.dawdle();
        Some(self.at(frame))
    }
}

struct Bell {
    gpa: AtomicU64,
    posted: AtomicU64,
}

impl Doorbells for Bell {
    fn queues(&self) -> u32 {
        1
    }

    fn queue_gpa(&self, _: u32) -> u64 {
        self.gpa.load(Ordering::Relaxed)
    }

    fn posted(&self, _: u32) -> u64 {
        self.posted.load(Ordering::Acquire)
    }
}

pub struct Rig {
    frames: Arc<Frames>,
    bell: Arc<Bell>,
    invalidations: Arc<Invalidations>,
}

/// What came of a run.
pub struct Outcome {
    pub updates: u64,
    pub moves: u64,
    pub lost: u64,
    pub counts: DmaCounts,
    pub laggards: Vec<Laggard>,
    pub unbalanced: Vec<(Arc<str>, i64)>,
}

impl Rig {
    pub fn new(tracking: Tracking, variant: Variant) -> Self {
        let options = InvalidationOptions {
            tracking,
            variant,
            // The host of a test may have other things to do.
            patience: HUNG,
            ..InvalidationOptions::default()
        };
        let memory = PageRange::new(Gfn(0), PAGES as u32);
        Self {
            frames: Arc::new(Frames::new()),
            bell: Arc::new(Bell {
                gpa: AtomicU64::new(QUEUE * PAGE_SIZE as u64),
                posted: AtomicU64::new(0),
            }),
            invalidations: Arc::new(Invalidations::new([memory], options)),
        }
    }

    pub fn bytes(&self) -> u64 {
        PAGES * PAGE_SIZE as u64
    }

    fn device(&self, renew_every: Option<u64>) -> DmaDevice {
        DmaDevice::start(DmaOptions {
            doorbells: self.bell.clone(),
            ranges: vec![PageRange::new(Gfn(0), PAGES as u32)],
            invalidations: self.invalidations.clone(),
            translate: self.frames.clone(),
            threads: 1,
            cache: 16,
            renew_every: renew_every.and_then(NonZeroU64::new),
            renew_busy: false,
        })
        .expect("a device")
    }

    fn descriptor(&self, number: u64) -> &DmaDescriptor {
        let page: *const _ = self.frames.page(QUEUE);
        // SAFETY: the queue's page never moves, a queue fits into it and is atomics throughout.
        let queue: &DmaQueue = unsafe { &*page.cast() };
        &queue.descriptors[number as usize % DMA_RING]
    }

    /// Posts copies (source, target, bytes), at most a ring of them, and waits for all.
    fn post(&self, copies: &[[u64; 3]]) -> Vec<DmaStatus> {
        let first = self.bell.posted.load(Ordering::Relaxed);
        for (number, [source, target, bytes]) in (first..).zip(copies) {
            let descriptor = self.descriptor(number);
            descriptor.source.store(*source, Ordering::Relaxed);
            descriptor.target.store(*target, Ordering::Relaxed);
            descriptor.bytes.store(*bytes, Ordering::Relaxed);
            let posted = DmaStatus::Posted as u64;
            descriptor.status.store(posted, Ordering::Release);
        }
        self.ring(copies.len() as u64);
        let began = Instant::now();
        let finished = |number| loop {
            let status = self.descriptor(number).status.load(Ordering::Acquire);
            if status != DmaStatus::Posted as u64 {
                break DmaStatus::from_number(status).expect("a status");
            }
            assert!(
                began.elapsed() < HUNG,
                "descriptor {number} is not answered"
            );
            thread::yield_now();
        };
        (first..).take(copies.len()).map(finished).collect()
    }

    /// Rings the doorbell for `more` descriptors.
    pub fn ring(&self, more: u64) {
        self.bell.posted.fetch_add(more, Ordering::Release);
    }

    /// Has a device do these copies.
    pub fn submit(&self, copies: &[[u64; 3]]) -> Vec<DmaStatus> {
        let mut device = self.device(None);
        let statuses = self.post(copies);
        device.stop(HUNG).expect("it ends");
        statuses
    }

    /// A device looks at a queue at `gpa`, in which `then` posts something.
    pub fn with_queue_at(&self, gpa: u64, then: impl FnOnce()) {
        let mut device = self.device(None);
        let good = self.bell.gpa.swap(gpa, Ordering::Relaxed);
        then();
        thread::sleep(Duration::from_millis(3));
        device.stop(HUNG).expect("it ends");
        self.bell.gpa.store(good, Ordering::Relaxed);
    }

    /// Updates pages by the device while they move, until there were `updates` or one was lost.
    pub fn run(&self, updates: u64, renew_every: Option<u64>) -> Outcome {
        let mut device = self.device(renew_every);
        let over = AtomicBool::new(false);
        let (made, lost, moves) = thread::scope(|scope| {
            let mover = scope.spawn(|| self.move_until(&over));
            let (mut made, mut lost) = (0, 0);
            let mut expected = [[0; SLOTS]; MOVING as usize];
            while made < updates && lost == 0 {
                made += self.update(made, &mut expected);
                lost += self.verify(&expected, made);
            }
            over.store(true, Ordering::Relaxed);
            (made, lost, mover.join().expect("a mover"))
        });
        let (laggards, unbalanced) = (
            self.invalidations.laggards(),
            self.invalidations.unbalanced(),
        );
        device.stop(HUNG).expect("it ends");
        Outcome {
            updates: made,
            moves,
            lost,
            counts: device.counts(),
            laggards,
            unbalanced,
        }
    }

    /// A batch of updates, the first of them number `made`; how many.
    fn update(&self, made: u64, expected: &mut [[u64; SLOTS]; MOVING as usize]) -> u64 {
        let mut copies = Vec::with_capacity(BATCH);
        for nth in 0..BATCH as u64 {
            let value = made + nth + 1;
            let (page, slot) = place(value);
            expected[page as usize][slot] = value;
            let from = nth as usize * UPDATE_WORDS;
            let source = &self.frames.page(SOURCE)[from..from + UPDATE_WORDS];
            source
                .iter()
                .for_each(|word| word.store(value, Ordering::Relaxed));
            let target = page * PAGE_SIZE as u64 + slot as u64 * UPDATE_BYTES;
            copies.push([
                SOURCE * PAGE_SIZE as u64 + nth * UPDATE_BYTES,
                target,
                UPDATE_BYTES,
            ]);
        }
        assert!(self.post(&copies).iter().all(|one| *one == DmaStatus::Done));
        BATCH as u64
    }

    /// Has the device read a page back, by turns, and compares; the updates that are not there.
    fn verify(&self, expected: &[[u64; SLOTS]; MOVING as usize], made: u64) -> u64 {
        let page = made / BATCH as u64 % MOVING;
        let copy = [page, BACK].map(|page| page * PAGE_SIZE as u64);
        let done = self.post(&[[copy[0], copy[1], PAGE_SIZE as u64]]);
        assert_eq!(done, [DmaStatus::Done]);
        let words = self.frames.page(BACK).iter().enumerate();
        let wrong = words.filter(|(word, found)| {
            found.load(Ordering::Relaxed) != expected[page as usize][word / UPDATE_WORDS]
        });
        wrong.count().div_ceil(UPDATE_WORDS) as u64
    }

    /// Moves pages until it is over; how many.
    fn move_until(&self, over: &AtomicBool) -> u64 {
        // As two movers of one range: the second is open while the first changes something, or not.
        let open = pin!(OpenRange::new(&self.invalidations));
        let other = pin!(OpenRange::new(&self.invalidations));
        let (mut spare, mut moves) = (PAGES, 0);
        while !over.load(Ordering::Relaxed) {
            let gfn = moves * 5 % MOVING;
            let range = PageRange::new(Gfn(gfn), 1);
            other.as_ref().start(range).expect("patience enough");
            self.frames.dawdle();
            open.as_ref().start(range).expect("patience enough");
            other.end();
            spare = self.frames.relocate(gfn, spare);
            open.end();
            moves += 1;
            // The device gets on.
            thread::yield_now();
            self.frames.dawdle();
        }
        moves
    }
}

/// Where update number `value` goes.
fn place(value: u64) -> (u64, usize) {
    let mixed = value.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    (mixed % MOVING, (mixed / MOVING) as usize % SLOTS)
}
