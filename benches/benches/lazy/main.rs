//! Pages that a guest demands: how long it waits for one, as it sees it, beside a bare handler loop with the
//! same wait policy, and how many are brought, by vCPUs. A vCPU in a chase touches whatever is away; the
//! others are brought after a while.

mod bare;
mod demands;
mod engine;
mod rig;

use rig::{Rig, Side};
use std::time::Duration;
use underfoot_benches::noise;
use underfoot_benches::ratio::{Bars, Ratios, median, shown};
use underfoot_migrator::{BackendKind, Combination, StrategyKind, WaitKind};

const CPUS: [u32; 3] = [1, 2, 4];
const SLICE: Duration = Duration::from_millis(120);
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
        .flat_map(|wait| CPUS.map(|cpus| Rig::new(*wait, cpus)))
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
    noise::report("after");
    bars.end();
}

fn show(rigs: &[Rig], rounds: &[Vec<[Side; 2]>], bars: &mut Bars) {
    println!(
        "stall of a demanded page in ns, p50, {ROUNDS} interleaved slices of {SLICE:?} a side; pages demanded per second"
    );
    println!(
        "wait   vCPUs  bare stall  engine stall  engine/bare             bar          bare pages/s  engine pages/s"
    );
    for (rig, sides) in rigs.iter().zip(rounds) {
        let [bare, engine] = [0, 1].map(|side| -> Vec<Option<f64>> {
            sides.iter().map(|pair| pair[side].stall_ns).collect()
        });
        let rate = |side: usize| median(sides.iter().map(|pair| Some(pair[side].pages_per_s)));
        let ratios = Ratios::of(&engine, &bare);
        println!(
            "{:<5}  {:>5}  {:>10}  {:>12}  {ratios:<22}  {:<11}  {:>12}  {:>14}",
            rig.wait.name(),
            rig.cpus,
            shown(median(bare)),
            shown(median(engine)),
            bars.hold(&ratios, OVER_BARE),
            shown(rate(0)),
            shown(rate(1)),
        );
    }
}

/// The engine's stalls by policy, with one vCPU.
fn compare_policies(rigs: &[Rig], rounds: &[Vec<[Side; 2]>], bars: &mut Bars) {
    let stalls = |wait: WaitKind| -> Vec<Option<f64>> {
        let place = rigs
            .iter()
            .position(|rig| rig.wait == wait && rig.cpus == 1);
        let sides = place.map(|place| &rounds[place]);
        sides
            .into_iter()
            .flatten()
            .map(|pair| pair[1].stall_ns)
            .collect()
    };
    let halt = stalls(WaitKind::Halt);
    let fastest = rigs
        .iter()
        .map(|rig| (rig.wait, Ratios::of(&stalls(rig.wait), &halt)))
        .filter(|(wait, _)| *wait != WaitKind::Halt)
        .min_by(|(_, one), (_, other)| one.median().partial_cmp(&other.median()).expect("numbers"));
    if let Some((wait, ratios)) = fastest {
        let verdict = bars.hold(&ratios, OVER_HALT);
        println!("the fastest, {wait}: {ratios} of halt with 1 vCPU: {verdict}");
    }
}
