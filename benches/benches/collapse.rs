//! What a guest gains once its small pages are huge ones, and what it pays for that: the backend `kernel` has
//! `MADV_COLLAPSE` build them under a guest that reads pages in an order without pattern. Beside it a guest that
//! nobody touches, in the same rounds.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};
use underfoot_benches::area::advise;
use underfoot_benches::attached::Attached;
use underfoot_benches::flat::{FlatMachine, Log, PAGES, Stalls};
use underfoot_benches::noise;
use underfoot_benches::ratio::{Ratios, median, shown};
use underfoot_migrator::{BackendKind, Migrator, PageSize, Silent, StrategyKind, clock};

const ROUNDS: usize = 7;
/// How long the guest's speed is measured, before and after.
const SLICE: Duration = Duration::from_millis(300);
/// Long enough for all blocks.
const COLLAPSING: Duration = Duration::from_millis(500);

/// One guest, from before to after.
#[derive(Clone, Copy)]
struct Felt {
    before_per_s: f64,
    after_per_s: f64,
    /// Blocks that were made huge.
    blocks: u64,
    /// Stalls between the two: how many, all together, and the longest.
    stalls: u64,
    stalled_ns: f64,
    longest_ns: f64,
}

fn main() {
    if !noise::begin("collapse") {
        return;
    }
    noise::report("before");
    let mut sides: [Vec<Felt>; 2] = Default::default();
    for round in 0..ROUNDS {
        for nth in 0..2 {
            let side = (nth + round) % 2;
            sides[side].push(felt(side == 1));
        }
    }
    println!(
        "reads of 256 MiB page by page, one vCPU, {ROUNDS} interleaved rounds; medians; stalls in the {COLLAPSING:?} between"
    );
    println!(
        "           reads/s before     after  after/before            blocks  stalls  stalled µs  longest µs"
    );
    for (name, all) in ["left alone", "collapsed"].iter().zip(&sides) {
        show(name, all);
    }
    gain(&sides);
    noise::report("after");
}

fn show(name: &str, all: &[Felt]) {
    let column = |of: fn(&Felt) -> f64| all.iter().map(|felt| Some(of(felt))).collect::<Vec<_>>();
    let before = column(|felt| felt.before_per_s);
    let after = column(|felt| felt.after_per_s);
    let middle = |of: fn(&Felt) -> f64| shown(median(column(of)));
    println!(
        "{name:<10} {:>14}  {:>8}  {:<22}  {:>6}  {:>6}  {:>10}  {:>10}",
        shown(median(before.iter().copied())),
        shown(median(after.iter().copied())),
        Ratios::of(&after, &before),
        middle(|felt| felt.blocks as f64),
        middle(|felt| felt.stalls as f64),
        middle(|felt| felt.stalled_ns / 1e3),
        middle(|felt| felt.longest_ns / 1e3),
    );
}

/// What collapsing did more than leaving alone, and when it has paid for itself.
fn gain([alone, collapsed]: &[Vec<Felt>; 2]) {
    let faster = |felt: &Felt| felt.after_per_s / felt.before_per_s;
    let pairs = || collapsed.iter().zip(alone);
    let gained: Ratios = pairs()
        .map(|(with, without)| faster(with) / faster(without))
        .collect();
    let per_block =
        pairs().map(|(with, without)| (with.stalled_ns - without.stalled_ns) / with.blocks as f64);
    let per_block: Ratios = per_block.map(|ns| ns / 1e3).collect();
    let repaid = pairs().map(|(with, without)| {
        let lost = with.stalled_ns - without.stalled_ns;
        lost / 1e6 / (1.0 - faster(without) / faster(with))
    });
    let repaid: Ratios = repaid.collect();
    println!("gain: {gained} times; stalled for it: {per_block} µs a block of 2 MiB");
    println!("repaid after {repaid} ms of such reads");
}

/// A guest whose pages are collapsed, or left alone for as long.
fn felt(collapses: bool) -> Felt {
    let machine = FlatMachine::boot(1, true);
    let before_per_s = reads_per_s(&machine);
    let since = log(&machine).cursor();
    let blocks = if collapses {
        collapse(&machine)
    } else {
        thread::sleep(COLLAPSING);
        0
    };
    let stalls = Stalls::of_ticks(&log(&machine).ticks_since(since));
    Felt {
        before_per_s,
        blocks,
        stalls: stalls.count(),
        stalled_ns: stalls.sum(),
        longest_ns: stalls.longest().unwrap_or(0.0),
        after_per_s: reads_per_s(&machine),
    }
}

/// How many blocks became huge.
///
/// # Panics
/// If none did: there is nothing to measure then.
fn collapse(machine: &FlatMachine) -> u64 {
    let area = machine.area();
    advise(area.start(), area.bytes(), libc::MADV_HUGEPAGE).expect("memory of our own");
    let builder = Migrator::builder(Arc::clone(machine.memory()))
        .page_map(Arc::new(area))
        .strategy(StrategyKind::UnmapCopy)
        .backend(BackendKind::Kernel)
        .page_size(PageSize::Huge)
        .tsc_hz(clock::measured_hz());
    let engine = Attached::new(builder);
    engine.move_for(COLLAPSING, &[Arc::new(Silent)], |_| ());
    let pages = engine.migrator().counters().total().committed;
    let small = u64::from(PageSize::Huge.pages());
    assert!(pages > 0, "no block of {} became huge", PAGES / small);
    pages / small
}

fn reads_per_s(machine: &FlatMachine) -> f64 {
    let (began, before) = (Instant::now(), log(machine).reads());
    thread::sleep(SLICE);
    let (after, took) = (log(machine).reads(), began.elapsed());
    (after - before) as f64 / took.as_secs_f64()
}

fn log(machine: &FlatMachine) -> Log {
    machine.logs().remove(0)
}
