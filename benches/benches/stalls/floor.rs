//! How little a guest can be stalled at all: pages are taken out and put back at once, as they are. No strategy that
//! unmaps can do with less: the guest must fault again on what it reads. Beside it the same with a copy in
//! between, which is what `unmap-copy` does.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};
use underfoot_abi::{PAGE_SIZE, StallRecord, WorkloadId};
use underfoot_benches::area::Area;
use underfoot_benches::guest::{self, Guest};
use underfoot_benches::noise::GAP_NS;
use underfoot_benches::ratio::{Ratios, median, shown};
use underfoot_benches::ring;
use underfoot_benches::span::Span;
use underfoot_benches::uffd::{Uffd, Watch};
use underfoot_migrator::{PageSize, clock};
use underfoot_vmm::{Backing, Machine};

/// Rounds of interleaved slices.
pub const ROUNDS: usize = 11;
const SLICE: Duration = Duration::from_millis(300);
/// Rings of stalls are emptied so often.
const DRAIN: Duration = Duration::from_millis(2);
const HUGE: NonZeroUsize = NonZeroUsize::new(2 << 20).expect("not 0");

/// What is done to a page in a slice.
#[derive(Clone, Copy, PartialEq)]
enum Done {
    Nothing,
    PutBack,
    Copied,
}
const ALL: [Done; 3] = [Done::Nothing, Done::PutBack, Done::Copied];

/// Measures and shows it for pages of `size`, of which `per_s` move a second.
pub fn show(size: PageSize, per_s: u32) {
    let rig = Rig::new(size);
    let mut sides: [Vec<Felt>; ALL.len()] = Default::default();
    for round in 0..ROUNDS {
        for nth in 0..ALL.len() {
            let side = (nth + round) % ALL.len();
            sides[side].push(rig.slice(ALL[side], per_s));
        }
    }
    guest::end(rig.machine);
    let [nothing, put_back, copied] = sides;
    let more = |with: &[Felt], of: fn(&Felt) -> f64| -> Vec<Option<f64>> {
        let pairs = with.iter().zip(&nothing);
        pairs
            .map(|(with, without)| Some(of(with) - of(without)))
            .collect()
    };
    let ns = |felt: &Felt| felt.ns_per_page;
    let stalls = |felt: &Felt| felt.stalls_per_page;
    let ratios = Ratios::of(&more(&put_back, ns), &more(&copied, ns));
    println!(
        "{:<5}  put back at once: {} ns a page in {:.3} stalls; after a copy: {} ns in {:.3}; the floor: {ratios} of it",
        size.name(),
        shown(median(more(&put_back, ns))),
        median(more(&put_back, stalls)).unwrap_or_default(),
        shown(median(more(&copied, ns))),
        median(more(&copied, stalls)).unwrap_or_default(),
    );
}

/// Of one slice, by pages of 4 KiB that moved, or would have.
struct Felt {
    ns_per_page: f64,
    stalls_per_page: f64,
}

struct Rig {
    machine: Machine,
    ring: Span,
    uffd: Uffd,
    limbo: Area,
    copy: Area,
    /// Bytes that move at once.
    bytes: usize,
}

impl Rig {
    fn new(size: PageSize) -> Self {
        let machine = Guest {
            backing: match size {
                PageSize::Small => Backing::Small,
                PageSize::Huge => Backing::Huge,
            },
            workload: WorkloadId::Chase,
            parameters: Guest::CHASE,
            ..Guest::default()
        }
        .boot();
        let ring = ring::find(&machine, Guest::RING);
        let uffd = Uffd::new().expect("userfaultfd");
        let [limbo, copy] = [(); 2].map(|()| Area::new(HUGE.get(), HUGE).expect("memory"));
        limbo
            .advise(libc::MADV_DONTNEED)
            .expect("memory of our own");
        if size == PageSize::Huge {
            limbo
                .advise(libc::MADV_HUGEPAGE)
                .expect("memory of our own");
        }
        for (start, bytes) in [
            (ring.start(), ring.bytes()),
            (limbo.address(), limbo.bytes()),
        ] {
            uffd.register(start, bytes, Watch::Missing)
                .expect("memory that can be watched");
        }
        Self {
            machine,
            ring,
            uffd,
            limbo,
            copy,
            bytes: size.bytes(),
        }
    }

    fn slice(&self, done: Done, per_s: u32) -> Felt {
        let over = AtomicBool::new(false);
        let shared = self.machine.shared();
        shared.drain_stalls(|_, _| ());
        let mut pages = 0;
        let mut stalls: Vec<StallRecord> = Vec::new();
        thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Relaxed) {
                    thread::sleep(DRAIN);
                    shared.drain_stalls(|_, stall| stalls.push(stall));
                }
            });
            pages = self.disturb(done, per_s);
            over.store(true, Relaxed);
        });
        let ns_per_tick = 1e9 / clock::measured_hz() as f64;
        let ns = stalls
            .iter()
            .map(|stall| (stall.end_tsc - stall.start_tsc) as f64 * ns_per_tick);
        // The others were preempted by the host.
        let ns: Vec<f64> = ns.filter(|ns| *ns < GAP_NS as f64).collect();
        Felt {
            ns_per_page: ns.iter().sum::<f64>() / pages as f64,
            stalls_per_page: ns.len() as f64 / pages as f64,
        }
    }

    /// Disturbs pages of the ring in an order without pattern, at the rate; how many of 4 KiB.
    fn disturb(&self, done: Done, per_s: u32) -> usize {
        let small = self.bytes / PAGE_SIZE;
        let every = Duration::from_secs(1) * small as u32 / per_s;
        let starts = self.ring.shuffled(small as u32);
        let began = Instant::now();
        let mut next = began;
        let mut pages = 0;
        for start in starts.iter().cycle() {
            if began.elapsed() >= SLICE {
                break;
            }
            self.once(*start, done).expect("pages that can move");
            pages += small;
            next += every;
            // Late pages are not caught up with: the guest has touched them in between.
            next = next.max(Instant::now());
            thread::sleep(next - Instant::now());
        }
        pages
    }

    fn once(&self, start: usize, done: Done) -> std::io::Result<()> {
        if done == Done::Nothing {
            return Ok(());
        }
        let limbo = self.limbo.address();
        self.uffd.move_pages(limbo, start, self.bytes)?;
        if done == Done::Copied {
            // SAFETY: two areas of ours, as long as the largest page; the guest cannot reach either now.
            unsafe {
                let from = self.limbo.pointer().cast_const();
                self.copy
                    .pointer()
                    .copy_from_nonoverlapping(from, self.bytes);
            }
        }
        self.uffd.move_pages(start, limbo, self.bytes)
    }
}
