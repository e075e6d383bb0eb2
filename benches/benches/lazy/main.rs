//! Pages that a guest demands: how long it waits for one, as it sees it, beside a bare handler loop with the
//! same wait policy, and how many are brought, by vCPUs. A vCPU in a chase touches whatever is away; the
//! others are brought after a while.

mod bare;
mod curve;
mod demands;
mod engine;
mod rig;

use rig::{Rig, Side};
use std::time::Duration;
use underfoot_benches::noise;
use underfoot_benches::ratio::{Bars, Ratios, median, shown};
use underfoot_migrator::{BackendKind, Combination, StrategyKind, WaitKind};

/// A handler that looks for faults for so long before it sleeps hardly ever sleeps here.
const LINGER: Duration = Duration::from_micros(200);
const CPUS: [u32; 3] = [1, 2, 4];
const SLICE: Duration = Duration::from_millis(100);
/// How long pages are left to the guest.
const DELAY: Duration = Duration::from_millis(5);
const ROUNDS: usize = 15;
/// The bars: stalls of the engine over those of the bare loop, and of the fastest policy over those of `halt`.
const OVER_BARE: f64 = 1.15;
const OVER_HALT: f64 = 0.6;

fn main() {
    if !noise::begin("lazy") {
        return;
    }
    noise::report("before");
    let mut policies = Vec::new();
    for wait in WaitKind::ALL {
        let way = Combination {
            strategy: StrategyKind::Lazy,
            backend: BackendKind::Copy,
            wait,
            ..Combination::default()
        };
        match way.check() {
            Ok(()) => policies.push(wait),
            Err(reason) => println!("{wait}: left out: {reason}"),
        }
    }
    let rigs: Vec<Rig> = policies
        .iter()
        .flat_map(|wait| [(*wait, Duration::ZERO), (*wait, LINGER)])
        .flat_map(|(wait, linger)| {
            // One that lingers wants a CPU of its own.
            let cpus = CPUS
                .iter()
                .filter(move |cpus| linger.is_zero() || **cpus == 1);
            cpus.map(move |cpus| Rig::new(wait, *cpus, linger))
        })
        .collect();
    // One runs at a time: they would take each other's CPUs. The order of the sides changes from round to
    // round.
    let mut rounds: Vec<Vec<[Side; 2]>> = rigs.iter().map(|_| Vec::new()).collect();
    for round in 0..ROUNDS {
        for (rig, sides) in rigs.iter().zip(&mut rounds) {
            sides.push(rig.round(round % 2 == 1));
        }
    }
    let mut bars = Bars::default();
    show(&rigs, &rounds, &mut bars);
    compare_policies(&rigs, &rounds, &mut bars);
    rigs.into_iter().for_each(Rig::end);
    curve::show();
    noise::report("after");
    bars.end();
}

fn show(rigs: &[Rig], rounds: &[Vec<[Side; 2]>], bars: &mut Bars) {
    println!(
        "stall of a demanded page in ns, p50, {ROUNDS} interleaved slices of {SLICE:?} a side; pages demanded per second"
    );
    println!(
        "wait   handler  vCPUs  bare stall  engine stall  engine/bare             bar          bare pages/s  engine pages/s"
    );
    for (rig, sides) in rigs.iter().zip(rounds) {
        let [bare, engine] = [0, 1].map(|side| -> Vec<Option<f64>> {
            sides.iter().map(|pair| pair[side].stall_ns).collect()
        });
        let rate = |side: usize| median(sides.iter().map(|pair| Some(pair[side].pages_per_s)));
        let ratios = Ratios::of(&engine, &bare);
        println!(
            "{:<5}  {:<7}  {:>5}  {:>10}  {:>12}  {ratios:<22}  {:<11}  {:>12}  {:>14}",
            rig.wait.name(),
            handler(rig.linger),
            rig.cpus,
            shown(median(bare)),
            shown(median(engine)),
            bars.hold(&ratios, OVER_BARE),
            shown(rate(0)),
            shown(rate(1)),
        );
    }
}

const fn handler(linger: Duration) -> &'static str {
    if linger.is_zero() { "polls" } else { "lingers" }
}

/// The engine's stalls with one vCPU, beside those of `halt` with a handler that polls.
fn compare_policies(rigs: &[Rig], rounds: &[Vec<[Side; 2]>], bars: &mut Bars) {
    let single = rigs.iter().zip(rounds).filter(|(rig, _)| rig.cpus == 1);
    let stalls = |sides: &[[Side; 2]]| -> Vec<Option<f64>> {
        sides.iter().map(|pair| pair[1].stall_ns).collect()
    };
    let is_base = |rig: &Rig| rig.wait == WaitKind::Halt && rig.linger.is_zero();
    let Some((_, base)) = single.clone().find(|(rig, _)| is_base(rig)) else {
        return;
    };
    let base = stalls(base);
    let fastest = single
        .filter(|(rig, _)| !is_base(rig))
        .map(|(rig, sides)| (rig, Ratios::of(&stalls(sides), &base)))
        .filter_map(|(rig, ratios)| Some((ratios.median()?, rig, ratios)))
        .min_by(|(one, ..), (other, ..)| one.total_cmp(other));
    if let Some((_, rig, ratios)) = fastest {
        let verdict = bars.hold(&ratios, OVER_HALT);
        println!(
            "the fastest, {} with a handler that {}: {ratios} of halt with one that polls, 1 vCPU: {verdict}",
            rig.wait,
            handler(rig.linger)
        );
    }
}
