//! Memory with threads in the guest's place, which write it while its pages move.

use std::fs::File;
use std::iter;
use std::os::fd::FromRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use underfoot_migrator::{
    BackendKind, Builder, Class, Counters, Event, Gfn, Handler, HandlerError, Migrator, Mover,
    MoverError, Observer, PAGE_SIZE, PageMap, Stop, Vcpus, probe,
};
use vm_memory::{FileOffset, GuestAddress, GuestMemoryBackend, GuestMemoryMmap};

/// After this a run that does not get on is taken for hung. No outcome depends on it otherwise.
const HUNG: Duration = Duration::from_secs(120);

/// Ends the process, for want of a way to end its threads, if it is not dropped in time.
struct Deadline(#[expect(dead_code, reason = "dropping it tells")] Sender<()>);

impl Deadline {
    fn new() -> Self {
        let (alive, dropped) = channel();
        let test = thread::current().name().unwrap_or_default().to_owned();
        thread::spawn(move || {
            if dropped.recv_timeout(HUNG) == Err(RecvTimeoutError::Timeout) {
                eprintln!("{test} hangs for {HUNG:?}");
                std::process::abort();
            }
        });
        Self(alive)
    }
}

/// Guest threads: each has two counters of its own in every page.
pub const WRITERS: usize = 2;
const STRIDE: usize = 64;
const TWIN: usize = 2048;
const FILL: usize = 4000;

/// Whether userfaultfd can be used; a test that cannot run says so, or fails where it must run.
pub fn rights() -> bool {
    match probe() {
        Ok(()) => true,
        Err(error) => {
            let required = std::env::var("UNDERFOOT_REQUIRE_KVM").is_ok_and(|value| value == "1");
            assert!(!required, "userfaultfd is required here: {error}");
            eprintln!("skipped: {error}");
            false
        }
    }
}

/// Those of the `pages` pages of the mapping at `base` that have no frame.
pub fn holes(base: usize, pages: usize) -> Vec<usize> {
    let mut resident = vec![0u8; pages];
    // SAFETY: a mapping, and a byte for each of its pages.
    let result = unsafe {
        libc::mincore(
            base as *mut libc::c_void,
            pages * PAGE_SIZE,
            resident.as_mut_ptr(),
        )
    };
    assert_eq!(result, 0);
    (0..pages).filter(|&page| resident[page] & 1 == 0).collect()
}

/// Class 0 but for every eighth page, which is of class 1; every sixteenth page sleeps.
pub struct Eighths;

impl PageMap for Eighths {
    fn class(&self, gfn: Gfn) -> Option<Class> {
        Class::new(u8::from(gfn.0.is_multiple_of(8)))
    }

    fn sleeps(&self, gfn: Gfn) -> bool {
        gfn.0.is_multiple_of(16)
    }
}

/// Counts events by kind.
#[derive(Default)]
pub struct Tally {
    pub committed: AtomicU64,
    pub aborted: AtomicU64,
    pub skipped: AtomicU64,
    pub faults: AtomicU64,
    pub stale: AtomicU64,
    pub same: AtomicU64,
    pub unordered: AtomicU64,
    /// Aborts whose window begins or ends at 0, but not both.
    pub half_windows: AtomicU64,
}

impl Observer for Tally {
    fn on(&self, event: &Event) {
        let (counter, n) = match *event {
            Event::Committed { range, times } => {
                let order = [
                    times.start,
                    times.protect,
                    times.protected,
                    times.window,
                    times.unmapped,
                    times.mapped,
                    times.end,
                ];
                let copied = times.start..=times.mapped;
                let done = order.iter().filter(|&&time| time != 0);
                if !done.is_sorted() || !copied.contains(&times.copied) {
                    self.unordered.fetch_add(1, Ordering::Relaxed);
                }
                (&self.committed, range.pages)
            }
            Event::Aborted { range, times, .. } => {
                if (times.window == 0) != (times.mapped == 0) || times.window > times.mapped {
                    self.half_windows.fetch_add(1, Ordering::Relaxed);
                }
                (&self.aborted, range.pages)
            }
            Event::Skipped { range, .. } => (&self.skipped, range.pages),
            Event::Fault { .. } => (&self.faults, 1),
            Event::StaleWrite { frames, .. } => (&self.stale, frames),
            Event::Verified { same, .. } => (&self.same, same),
            _ => return,
        };
        counter.fetch_add(n.into(), Ordering::Relaxed);
    }
}

/// Where guest threads stop when they are told to.
#[derive(Default)]
pub struct Gate {
    closed: AtomicBool,
    parked: AtomicUsize,
    pub pauses: AtomicU64,
}

impl Gate {
    /// Whether every guest thread stands.
    pub fn holds_all(&self) -> bool {
        self.closed.load(Ordering::SeqCst) && self.parked.load(Ordering::SeqCst) == WRITERS
    }

    fn pass(&self) {
        if self.closed.load(Ordering::SeqCst) {
            self.parked.fetch_add(1, Ordering::SeqCst);
            while self.closed.load(Ordering::SeqCst) {
                thread::yield_now();
            }
            self.parked.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

impl Vcpus for Gate {
    fn pause(&self) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        // Those of the last pause must have left, or they would be counted for this one.
        while self.parked.load(Ordering::SeqCst) != 0 {
            thread::yield_now();
        }
        self.closed.store(true, Ordering::SeqCst);
        while self.parked.load(Ordering::SeqCst) != WRITERS {
            thread::yield_now();
        }
        self.pauses.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn resume(&self) {
        self.closed.store(false, Ordering::SeqCst);
    }
}

/// Bytes of the process's memory at `address` that lie in huge pages.
pub fn huge_bytes(address: usize) -> usize {
    let maps = std::fs::read_to_string("/proc/self/smaps").expect("/proc");
    let mut inside = false;
    let mut bytes = 0;
    for line in maps.lines() {
        if let Some((range, _)) = line.split_once(' ')
            && let Some((start, end)) = range.split_once('-')
            && let (Ok(start), Ok(end)) = (
                usize::from_str_radix(start, 16),
                usize::from_str_radix(end, 16),
            )
        {
            inside = (start..end).contains(&address);
        } else if inside && let Some(size) = line.strip_prefix("AnonHugePages:") {
            let kib = size.trim().trim_end_matches(" kB");
            bytes += kib.parse::<usize>().expect("a size") * 1024;
        }
    }
    bytes
}

/// A file in memory.
fn memfd(bytes: usize) -> File {
    // SAFETY: a name and flags; a new descriptor comes back, or -1.
    let fd = unsafe { libc::memfd_create(c"guest".as_ptr(), libc::MFD_CLOEXEC) };
    assert!(fd >= 0, "{}", std::io::Error::last_os_error());
    // SAFETY: the kernel just made this descriptor for us.
    let file = unsafe { File::from_raw_fd(fd) };
    file.set_len(bytes as u64).expect("room");
    file
}

/// The backends that keep old frames and work on pages of 4 KiB on any host.
pub const RECYCLING: [BackendKind; 3] = [BackendKind::Move, BackendKind::Copy, BackendKind::Remap];

pub struct Rig {
    pub memory: Arc<GuestMemoryMmap>,
    pub tally: Arc<Tally>,
    pub gate: Arc<Gate>,
    pub base: usize,
    pages: usize,
}

/// What came out of a run.
pub struct Outcome {
    pub counters: Counters,
    pub mover: Result<(), MoverError>,
    /// Why handlers ended early, each of which was run again.
    pub handlers: Vec<HandlerError>,
    /// Counters in memory that differ from what their writer counted.
    pub lost: usize,
    /// Pages whose constant part changed.
    pub torn: usize,
    /// Increments that the writers made.
    pub increments: u64,
}

impl Rig {
    /// `pages` pages, the first `filled` of them written.
    pub fn new(pages: usize, filled: usize) -> Self {
        Self::advised(pages, filled, libc::MADV_NOHUGEPAGE)
    }

    /// `pages` pages, all written, in huge pages of the host if it gives any.
    pub fn huge(pages: usize) -> Self {
        Self::advised(pages, pages, libc::MADV_HUGEPAGE)
    }

    /// `pages` pages, all written, of the kind that `backend` works on.
    pub fn fit(backend: BackendKind, pages: usize) -> Self {
        if !backend.needs_file() {
            return Self::new(pages, pages);
        }
        let file = memfd(pages * PAGE_SIZE);
        let ranges = [(
            GuestAddress(0),
            pages * PAGE_SIZE,
            Some(FileOffset::new(file, 0)),
        )];
        let memory = GuestMemoryMmap::from_ranges_with_files(ranges).expect("guest memory");
        Self::over(memory, pages, pages, libc::MADV_NOHUGEPAGE)
    }

    fn advised(pages: usize, filled: usize, advice: libc::c_int) -> Self {
        let ranges = [(GuestAddress(0), pages * PAGE_SIZE)];
        let memory = GuestMemoryMmap::from_ranges(&ranges).expect("guest memory");
        Self::over(memory, pages, filled, advice)
    }

    fn over(memory: GuestMemoryMmap, pages: usize, filled: usize, advice: libc::c_int) -> Self {
        let base = memory
            .get_host_address(GuestAddress(0))
            .expect("the first page") as usize;
        // SAFETY: the mapping was just made; huge pages would be split by the first move.
        let advised =
            unsafe { libc::madvise(base as *mut libc::c_void, pages * PAGE_SIZE, advice) };
        assert_eq!(advised, 0);
        let rig = Self {
            memory: Arc::new(memory),
            tally: Arc::default(),
            gate: Arc::default(),
            base,
            pages,
        };
        for page in 0..filled {
            rig.word(page, FILL)
                .store(page as u64 + 1, Ordering::Relaxed);
        }
        rig
    }

    /// Changes what may be done with all guest memory, behind the engine's back.
    pub fn protect(&self, rights: libc::c_int) {
        // SAFETY: the mapping is this rig's; who touches it meanwhile is ended by a signal.
        let result = unsafe { libc::mprotect(self.base as *mut libc::c_void, self.len(), rights) };
        assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
    }

    /// Has the kernel take all pages for old: it changes their page-table entries.
    pub fn age(&self) {
        // SAFETY: keeps the contents of this rig's mapping.
        let result =
            unsafe { libc::madvise(self.base as *mut libc::c_void, self.len(), libc::MADV_COLD) };
        assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
    }

    pub fn len(&self) -> usize {
        self.pages * PAGE_SIZE
    }

    pub fn builder(&self) -> Builder {
        Migrator::builder(Arc::clone(&self.memory))
            .page_map(Arc::new(Eighths))
            .observer(self.tally.clone())
            .vcpus(self.gate.clone())
            .seed(7)
    }

    /// A word of guest memory, through the mapping whose pages move.
    pub fn word(&self, page: usize, offset: usize) -> &AtomicU64 {
        assert!(page < self.pages && offset + 8 <= PAGE_SIZE && offset.is_multiple_of(8));
        let address = self.base + page * PAGE_SIZE + offset;
        // SAFETY: an aligned word of the mapping, which lives as long as the memory; all accesses
        // are atomic.
        unsafe { AtomicU64::from_ptr(address as *mut u64) }
    }

    fn write_until(&self, writer: usize, pages: usize, done: &AtomicBool) -> Vec<u64> {
        let mut counts = vec![0; pages];
        loop {
            for (page, count) in counts.iter_mut().enumerate() {
                for offset in [writer * STRIDE, TWIN + writer * STRIDE] {
                    let word = self.word(page, offset);
                    word.store(word.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
                }
                *count += 1;
                self.gate.pass();
            }
            if done.load(Ordering::Relaxed) {
                return counts;
            }
        }
    }

    /// Moves pages under `WRITERS` threads that write the first `written` pages, until `goal` pages
    /// were attempted. A mover that ends early is run once more.
    pub fn run(&self, migrator: &Migrator, movers: usize, written: usize, goal: u64) -> Outcome {
        let enough = || migrator.counters().total().attempted >= goal;
        let outcome = self.run_as(migrator, movers, written, &enough, &|| {});
        assert!(outcome.handlers.is_empty(), "{:?}", outcome.handlers);
        outcome
    }

    /// The same until it is `enough`, with `enter` called first by each thread of the engine.
    pub fn run_as(
        &self,
        migrator: &Migrator,
        movers: usize,
        written: usize,
        enough: &dyn Fn() -> bool,
        enter: &(dyn Fn() + Sync),
    ) -> Outcome {
        let (stop, handler_stop) = (Stop::new().expect("eventfd"), Stop::new().expect("eventfd"));
        let done = AtomicBool::new(false);
        let handlers = migrator.handlers();
        let _deadline = Deadline::new();
        let (counts, mover, handlers) = thread::scope(|scope| {
            let served: Vec<_> = handlers
                .iter()
                .map(|handler| {
                    let stop = &handler_stop;
                    scope.spawn(move || {
                        enter();
                        iter::from_fn(|| Handler::run(handler, stop).err()).collect::<Vec<_>>()
                    })
                })
                .collect();
            let writers: Vec<_> = (0..WRITERS)
                .map(|writer| {
                    let done = &done;
                    scope.spawn(move || self.write_until(writer, written, done))
                })
                .collect();
            let moving: Vec<_> = (0..movers)
                .map(|_| {
                    let mut mover = migrator.mover().expect("a mover");
                    let stop = &stop;
                    scope.spawn(move || {
                        enter();
                        run_on(&mut mover, stop)
                    })
                })
                .collect();
            while !enough() && !moving.iter().any(|mover| mover.is_finished()) {
                thread::sleep(Duration::from_millis(1));
            }
            stop.request().expect("eventfd");
            let ends: Vec<_> = moving
                .into_iter()
                .map(|mover| mover.join().expect("panics are caught"))
                .collect();
            done.store(true, Ordering::Relaxed);
            let counts: Vec<_> = writers
                .into_iter()
                .map(|writer| writer.join().expect("a writer"))
                .collect();
            handler_stop.request().expect("eventfd");
            let served = served
                .into_iter()
                .map(|served| served.join().expect("a handler"));
            (
                counts,
                ends.into_iter().collect::<Result<(), _>>(),
                served.flatten().collect(),
            )
        });
        Outcome {
            counters: migrator.counters(),
            mover,
            handlers,
            lost: self.count_lost(&counts),
            torn: (0..written).filter(|&page| !self.is_intact(page)).count(),
            increments: counts.iter().flatten().sum(),
        }
    }

    /// Whether the page still holds what it was filled with.
    pub fn is_intact(&self, page: usize) -> bool {
        self.word(page, FILL).load(Ordering::Relaxed) == page as u64 + 1
    }

    fn count_lost(&self, counts: &[Vec<u64>]) -> usize {
        let wrong = |writer: usize, page: usize, count: u64| {
            [writer * STRIDE, TWIN + writer * STRIDE]
                .iter()
                .filter(|&&offset| self.word(page, offset).load(Ordering::Relaxed) != count)
                .count()
        };
        counts
            .iter()
            .enumerate()
            .flat_map(|(writer, counts)| {
                counts
                    .iter()
                    .enumerate()
                    .map(move |(page, &count)| wrong(writer, page, count))
            })
            .sum()
    }
}

/// The first error, if any; a mover can be run again after one.
fn run_on(mover: &mut Mover, stop: &Stop) -> Result<(), MoverError> {
    let first = mover.run(stop);
    // Whoever asks for pages gives up by [`HUNG`].
    while first.is_err() && mover.run(stop).is_err() {}
    first
}

impl Outcome {
    /// Nothing was lost, and the counters add up, class by class.
    pub fn assert_sound(&self, what: &str) {
        assert_eq!((self.lost, self.torn), (0, 0), "{what}: lost, torn");
        self.assert_counts(what);
        assert_eq!(self.counters.integrity_errors(), 0, "{what}");
    }

    pub fn assert_counts(&self, what: &str) {
        for (class, counts) in self.counters.by_class.iter().enumerate() {
            assert!(counts.add_up(), "{what}: class {class}: {counts:?}");
        }
        assert!(self.counters.total().add_up());
    }
}
