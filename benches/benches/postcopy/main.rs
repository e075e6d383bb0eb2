//! Pages that a guest demands, beside QEMU's postcopy: the same guest in both, which reads pages in an order without
//! pattern; how long it waits for one, as it sees it. QEMU's pages come from another process over a Unix socket, as
//! between two hosts; ours move within one.

mod ours;
mod qemu;
mod qmp;

use std::io;
use underfoot_benches::flat::Stalls;
use underfoot_benches::noise;
use underfoot_benches::ratio::{Bars, Ratios, median};

const ROUNDS: usize = 7;
/// The bar: our stall, the fastest way, over QEMU's, the faster of both. We aim at four times better.
const OVER_QEMU: f64 = 0.25;
const HEADINGS: &str = "                                       count      p50      p90      p99    p99.9      max  of QEMU's fastest";

fn main() {
    if !noise::begin("postcopy") {
        return;
    }
    let Some(version) = qemu::version() else {
        return println!(
            "postcopy: skipped: no qemu-system-x86_64 (Debian package qemu-system-x86)"
        );
    };
    if let Err(error) = kvm_ioctls::Kvm::new() {
        return println!("postcopy: skipped: /dev/kvm: {error}");
    }
    println!("{version}");
    noise::report("before");
    let sides = match Sides::measure() {
        Ok(sides) => sides,
        Err(error) => return println!("postcopy: skipped: QEMU cannot do it here: {error}"),
    };
    let mut bars = Bars::default();
    sides.show(&mut bars);
    noise::report("after");
    bars.end();
}

/// Stalls by way and round.
#[derive(Default)]
struct Sides {
    qemu: [Vec<Stalls>; qemu::WAYS.len()],
    ours: [Vec<Stalls>; ours::WAYS.len()],
}

impl Sides {
    fn measure() -> io::Result<Self> {
        let mut sides = Self::default();
        for _ in 0..ROUNDS {
            for (way, stalls) in qemu::WAYS.iter().zip(&mut sides.qemu) {
                stalls.push(qemu::round(way)?);
            }
            for (way, stalls) in ours::WAYS.iter().zip(&mut sides.ours) {
                stalls.push(ours::round(*way));
            }
        }
        Ok(sides)
    }

    fn show(&self, bars: &mut Bars) {
        println!(
            "stall of a demanded page in µs, one vCPU, {ROUNDS} interleaved rounds; ratios of p50, round by round"
        );
        println!("{HEADINGS}");
        for (way, all) in qemu::WAYS.iter().zip(&self.qemu) {
            let stalls = Stalls::merged(all.iter());
            println!("{:<36} {stalls}", format!("QEMU, {}", way.name));
        }
        let base = fastest(&self.qemu);
        for (way, all) in ours::WAYS.iter().zip(&self.ours) {
            let ratios = Ratios::of(&medians(all), &base);
            let stalls = Stalls::merged(all.iter());
            println!("{:<36} {stalls}  {ratios}", format!("lazy, {}", way.name));
        }
        let ratios = Ratios::of(&fastest(&self.ours), &base);
        let verdict = bars.hold(&ratios, OVER_QEMU);
        println!("the fastest of each: {ratios}: {verdict}");
    }
}

fn medians(rounds: &[Stalls]) -> Vec<Option<f64>> {
    rounds.iter().map(Stalls::median).collect()
}

/// The medians of the way whose median over all rounds is least.
fn fastest(ways: &[Vec<Stalls>]) -> Vec<Option<f64>> {
    let over_all = |way: &&Vec<Stalls>| median(medians(way)).unwrap_or(f64::INFINITY);
    let least = ways
        .iter()
        .min_by(|one, other| over_all(one).total_cmp(&over_all(other)));
    least.map(|way| medians(way)).unwrap_or_default()
}
