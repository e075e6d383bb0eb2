//! Two movers beside two bare loops, over one mapping and over two, in memory without a guest: on a host with
//! two CPUs its vCPU would have none.

use crate::memory::Memory;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;
use underfoot_benches::attached::Attached;
use underfoot_benches::bare::Bare;
use underfoot_benches::noise;
use underfoot_benches::ratio::{Bars, Ratios, median, shown};
use underfoot_benches::samples::Tally;
use underfoot_benches::sides::tsc_khz;
use underfoot_benches::slice::Slice;
use underfoot_benches::span::{Everything, Span};
use underfoot_benches::uffd::{Uffd, Watch};
use underfoot_migrator::{Migrator, Observer, clock};

const BYTES: usize = 64 << 20;
const SLICE: Duration = Duration::from_millis(50);
const ROUNDS: usize = 11;
const BATCHES: [u32; 3] = [1, 32, 512];
/// The bar: time of the engine over that of bare loops, so that the engine moves 0.9 as much.
const OVER_BARE: f64 = 1.0 / 0.9;

pub fn run(bars: &mut Bars) {
    println!(
        "\ntwo movers in memory without a guest, ns per page of all together, {ROUNDS} interleaved slices of {SLICE:?} a side"
    );
    println!(
        "mappings  batch  one bare loop  two bare loops  two/one pages a second  two movers  movers/bare             bar"
    );
    for shards in [1, 2] {
        let memory = Memory::new(BYTES, shards);
        for batch in BATCHES {
            compare(&memory, batch, bars);
        }
    }
}

fn compare(memory: &Memory, batch: u32, bars: &mut Bars) {
    let mut costs: [Vec<Option<f64>>; 3] = Default::default();
    for _ in 0..ROUNDS {
        costs[0].push(bare(memory, 1, batch));
        costs[1].push(bare(memory, 2, batch));
        costs[2].push(engine(memory, 2, batch));
    }
    let [one, two, movers] = costs;
    let gain = Ratios::of(&one, &two);
    let ratios = Ratios::of(&movers, &two);
    println!(
        "{:>8}  {batch:>5}  {:>13}  {:>14}  {gain:<22}  {:>10}  {ratios:<22}  {}",
        memory.spans.len(),
        shown(median(one)),
        shown(median(two)),
        shown(median(movers)),
        bars.hold(&ratios, OVER_BARE),
    );
}

/// Bare loops on as many threads, each over its part of the memory; ns per page of all together.
fn bare(memory: &Memory, threads: usize, batch: u32) -> Option<f64> {
    let uffd = Arc::new(Uffd::new().expect("userfaultfd"));
    for span in &memory.spans {
        uffd.register(span.start(), span.bytes(), Watch::Missing)
            .expect("memory that can be watched");
    }
    let loops: Vec<_> = (0..threads)
        .map(|nth| Bare::new(Arc::clone(&uffd), batch as usize).map(|bare| (nth, bare)))
        .collect::<Result<_, _>>()
        .expect("userfaultfd with MOVE");
    let ready = Barrier::new(threads);
    let slices: Vec<Slice> = thread::scope(|scope| {
        let running: Vec<_> = loops
            .into_iter()
            .map(|(nth, mut bare)| {
                let (span, ready) = (part(memory, nth), &ready);
                scope.spawn(move || {
                    place(nth);
                    let starts = span.shuffled(batch);
                    let mut starts = starts.iter().cycle();
                    ready.wait();
                    Slice::of(SLICE, || {
                        let start = *starts.next().expect("a span that is not empty");
                        bare.migrate(start).expect("a page that can move");
                        batch.into()
                    })
                })
            })
            .collect();
        let join = |thread: thread::ScopedJoinHandle<'_, Slice>| thread.join().expect("no panic");
        running.into_iter().map(join).collect()
    });
    together(&slices)
}

/// The part of one of two threads: a mapping of its own where there are two.
fn part(memory: &Memory, nth: usize) -> Span {
    match &memory.spans[..] {
        [only] => only.part(nth as u64, 2),
        spans => spans[nth].clone(),
    }
}

/// As many movers of one engine over all the memory.
fn engine(memory: &Memory, movers: usize, batch: u32) -> Option<f64> {
    let builder = Migrator::builder(Arc::clone(&memory.memory))
        .page_map(Arc::new(Everything))
        .batch(batch)
        .tsc_hz(clock::measured_hz());
    let tallies: Vec<_> = (0..movers).map(|_| Tally::new(tsc_khz())).collect();
    let observers: Vec<Arc<dyn Observer>> = tallies
        .iter()
        .map(|tally| Arc::clone(tally) as Arc<dyn Observer>)
        .collect();
    Attached::new(builder).move_for(SLICE, &observers, place);
    let slices: Vec<Slice> = tallies.iter().map(|tally| tally.slice()).collect();
    together(&slices)
}

/// Each on a CPU of its own, where there are two.
fn place(nth: usize) {
    if let Some(places) = noise::cpus() {
        places[nth % places.len()].apply(0).expect("a CPU of ours");
    }
}

fn together(slices: &[Slice]) -> Option<f64> {
    let pages_per_ns: f64 = slices
        .iter()
        .filter_map(|slice| slice.ns_per_page())
        .map(|ns| 1.0 / ns)
        .sum();
    (pages_per_ns > 0.0).then(|| 1.0 / pages_per_ns)
}
