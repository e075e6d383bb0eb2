//! One mover with windows of 512 pages, while a guest runs, beside MADV_COLLAPSE.

use crate::collapse::Collapse;
use std::time::Duration;
use underfoot_benches::guest::{self, Guest};
use underfoot_benches::ratio::{Bars, Ratios, median, shown};
use underfoot_benches::sides;
use underfoot_benches::slice::Slice;
use underfoot_benches::span::Span;

const PAGES: std::ops::Range<u64> = 6144..10_240;
const BATCH: u32 = 512;
const SLICE: Duration = Duration::from_millis(60);
const ROUNDS: usize = 15;
/// The bars: over a bare loop, and over the kernel's own way to move memory on one node. Half of the latter
/// is what we aim at.
const OVER_BARE: f64 = 1.1;
const OVER_COLLAPSE: f64 = 1.0;

pub fn run(bars: &mut Bars) {
    let machine = Guest::default().boot();
    let span = Span::of(&machine, PAGES);
    let mut collapse = Collapse::new();
    let mut costs: [Vec<Option<f64>>; 3] = Default::default();
    for _ in 0..ROUNDS {
        let slices = [
            sides::bare(&span, BATCH, SLICE),
            sides::engine(machine.ram().memory(), &span, BATCH, SLICE),
        ];
        for (side, slice) in costs.iter_mut().zip(&slices) {
            side.push(Slice::ns_per_page(slice));
        }
        costs[2].push(collapse.ns_per_page(SLICE));
    }
    guest::end(machine);
    let [bare, engine, collapse] = costs;
    println!(
        "\nns per 4 KiB page in windows of {BATCH}, guest running on 1 vCPU, {ROUNDS} interleaved slices of {SLICE:?} a side"
    );
    println!("bare  engine  collapse   ratio median (min to max)                bar");
    println!(
        "{:>4}  {:>6}  {:>8}",
        shown(median(bare.iter().copied())),
        shown(median(engine.iter().copied())),
        shown(median(collapse.iter().copied()))
    );
    for (name, below, bar) in [
        ("bare", bare, OVER_BARE),
        ("collapse", collapse, OVER_COLLAPSE),
    ] {
        let ratios = Ratios::of(&engine, &below);
        println!(
            "  engine/{name:<8}         {ratios:<41}{}",
            bars.hold(&ratios, bar)
        );
    }
}
