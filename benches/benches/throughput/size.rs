//! Single pages in random order: what the engine adds in much memory, beside what it adds in little.

use crate::memory::Memory;
use std::hint;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::Duration;
use underfoot_benches::noise;
use underfoot_benches::ratio::{Bars, Ratios, median, shown};
use underfoot_benches::sides;
use underfoot_benches::slice::Slice;

const LITTLE: usize = 64 << 20;
const MUCH: usize = 8 << 30;
const SLICE: Duration = Duration::from_millis(60);
const ROUNDS: usize = 19;
/// The bar: engine over bare in much memory, over the same in little.
const OVER_LITTLE: f64 = 1.1;

pub fn run(bars: &mut Bars) {
    let bytes = affordable();
    println!(
        "\nsingle pages in random order, without a guest, a thread awake on the other CPU, {ROUNDS} interleaved slices of {SLICE:?} a side"
    );
    println!("memory    bare ns/page  engine ns/page  engine/bare median (min to max)");
    let sizes = [LITTLE, bytes];
    let memories = sizes.map(|bytes| Memory::new(bytes, 1));
    let mut costs: [[Vec<Option<f64>>; 2]; 2] = Default::default();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        // A TLB flush skips a CPU on which this process does not run.
        scope.spawn(|| {
            if let Some([there, _]) = noise::cpus() {
                there.apply(0).expect("a CPU of ours");
            }
            while !done.load(Relaxed) {
                hint::spin_loop();
            }
        });
        scope.spawn(|| {
            if let Some([_, here]) = noise::cpus() {
                here.apply(0).expect("a CPU of ours");
            }
            for _ in 0..ROUNDS {
                for ([bare, engine], memory) in costs.iter_mut().zip(&memories) {
                    let span = &memory.spans[0];
                    bare.push(Slice::ns_per_page(&sides::bare(span, 1, SLICE)));
                    let slice = sides::engine(&memory.memory, span, 1, SLICE);
                    engine.push(slice.ns_per_page());
                }
            }
            done.store(true, Relaxed);
        });
    });
    for (bytes, [bare, engine]) in sizes.iter().zip(&costs) {
        println!(
            "{:>4} MiB  {:>12}  {:>14}  {}",
            bytes >> 20,
            shown(median(bare.iter().copied())),
            shown(median(engine.iter().copied())),
            Ratios::of(engine, bare),
        );
    }
    let over = costs.map(|[bare, engine]| Ratios::of(&engine, &bare).median());
    let [Some(little), Some(much)] = over else {
        let verdict = bars.hold_value(None, OVER_LITTLE);
        return println!("much/little: nothing moved: {verdict}");
    };
    let verdict = bars.hold_value(Some(much / little), OVER_LITTLE);
    println!("much/little: {:.2}: {verdict}", much / little);
}

/// As much as is wanted, or what fits into two thirds of the memory that the host has free.
fn affordable() -> usize {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let free_kib = text
        .lines()
        .find_map(|line| {
            line.strip_prefix("MemAvailable:")?
                .split_ascii_whitespace()
                .next()
        })
        .and_then(|number| number.parse::<usize>().ok())
        .unwrap_or(0);
    let fits = (free_kib / 3 * 2) >> 20 << 30;
    if fits < MUCH {
        println!(
            "\n(the host has no {} GiB of memory free: {} GiB instead)",
            MUCH >> 30,
            fits >> 30
        );
    }
    fits.clamp(LITTLE, MUCH)
}
