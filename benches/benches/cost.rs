//! What the engine adds to its primitives: cost per page, with the guest running, at several sizes
//! of batch, beside a bare loop over the same pages in the same run.

use std::time::Duration;
use underfoot_benches::guest::{self, Guest};
use underfoot_benches::noise;
use underfoot_benches::ratio::{Bars, Ratios, median, shown};
use underfoot_benches::sides;
use underfoot_benches::slice::Slice;
use underfoot_benches::span::Span;

/// The pages that move: 16 MiB in the middle of memory, most of them free, some in use.
const PAGES: std::ops::Range<u64> = 6144..10_240;
const SLICE: Duration = Duration::from_millis(100);
const ROUNDS: usize = 15;
const BATCHES: [u32; 3] = [1, 32, 512];
/// The bar: engine over bare.
const ALLOWED: f64 = 1.25;

fn main() {
    if !noise::begin("cost") {
        return;
    }
    noise::report("before");
    let machine = Guest::default().boot();
    let span = Span::of(&machine, PAGES);
    println!(
        "cost of moving a 4 KiB page, guest running on 1 vCPU, {ROUNDS} interleaved slices of {SLICE:?} a side"
    );
    println!(
        "(the engine's side has a fault handler's thread beside it, the bare loop's has none)"
    );
    println!(
        "batch   bare ns/page   engine ns/page   engine/bare median (min to max)   bar            gaps bare/engine"
    );
    let mut bars = Bars::default();
    for batch in BATCHES {
        let mut all: [Vec<Slice>; 2] = Default::default();
        for _ in 0..ROUNDS {
            all[0].push(sides::bare(&span, batch, SLICE));
            all[1].push(sides::engine(machine.ram().memory(), &span, batch, SLICE));
        }
        let [bare, engine] = all.each_ref().map(|side| costs(side));
        let ratios = Ratios::of(&engine, &bare);
        println!(
            "{batch:>5}   {:>12}   {:>14}   {ratios:<31}   {:<12}   {:.1} % / {:.1} %",
            shown(median(bare)),
            shown(median(engine)),
            bars.hold(&ratios, ALLOWED),
            lost(&all[0]),
            lost(&all[1]),
        );
    }
    guest::end(machine);
    noise::report("after");
    bars.end();
}

fn costs(side: &[Slice]) -> Vec<Option<f64>> {
    side.iter().map(Slice::ns_per_page).collect()
}

/// The share of time in gaps, in percent.
fn lost(side: &[Slice]) -> f64 {
    let gaps: u64 = side.iter().map(|slice| slice.gap_ns).sum();
    let all: u64 = side.iter().map(|slice| slice.ns).sum();
    100.0 * gaps as f64 / all.max(1) as f64
}
