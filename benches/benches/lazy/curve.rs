//! How many pages are brought as vCPUs grow, with one userfaultfd and with several: several movers have ranges away,
//! in all parts of memory, and the flat guest's vCPUs read everywhere.

use crate::DELAY;
use crate::demands::Demands;
use std::sync::Arc;
use std::time::{Duration, Instant};
use underfoot_benches::attached::Attached;
use underfoot_benches::flat::{FlatMachine, Stalls};
use underfoot_benches::ratio::{Ratios, median, shown};
use underfoot_migrator::{BackendKind, MAX_BATCH, Migrator, Observer, Silent, StrategyKind, clock};

const CPUS: [u32; 3] = [1, 2, 4];
const UFFDS: [u32; 2] = [1, 4];
const MOVERS: usize = 4;
const ROUNDS: usize = 7;
const SLICE: Duration = Duration::from_millis(300);

/// What was brought in one slice.
#[derive(Clone, Copy)]
struct Brought {
    pages_per_s: f64,
    stall_ns: Option<f64>,
}

/// Measures and shows it. Nothing is held against a bar: where vCPUs and handlers share CPUs there is no telling
/// what several are worth.
pub fn show() {
    println!(
        "pages demanded per second and p50 of their stalls in ns, block, {MOVERS} movers, {ROUNDS} interleaved slices of {SLICE:?}"
    );
    println!(
        "vCPUs  pages/s, 1 uffd  {0} uffds  {0} uffds/1               stall, 1 uffd  {0} uffds  {0} uffds/1",
        UFFDS[1]
    );
    for cpus in CPUS {
        let mut sides: [Vec<Brought>; UFFDS.len()] = Default::default();
        for round in 0..ROUNDS {
            let machine = FlatMachine::boot(cpus, false);
            for nth in 0..UFFDS.len() {
                let side = (nth + round) % UFFDS.len();
                sides[side].push(slice(&machine, UFFDS[side]));
            }
        }
        let column = |of: fn(&Brought) -> Option<f64>| {
            let [one, several] = [0, 1].map(|side| sides[side].iter().map(of).collect::<Vec<_>>());
            let ratios = Ratios::of(&several, &one);
            format!(
                "{:>15}  {:>7}  {ratios:<22}",
                shown(median(one)),
                shown(median(several))
            )
        };
        println!(
            "{cpus:>5}  {}  {}",
            column(|brought| Some(brought.pages_per_s)),
            column(|brought| brought.stall_ns),
        );
    }
}

fn slice(machine: &FlatMachine, uffds: u32) -> Brought {
    let area = machine.area();
    let first = area.gfns.start;
    let builder = Migrator::builder(Arc::clone(machine.memory()))
        .page_map(Arc::new(area))
        .strategy(StrategyKind::Lazy)
        .backend(BackendKind::Copy)
        .batch(MAX_BATCH)
        .prefetch_after(DELAY)
        .uffds(uffds)
        .tsc_hz(clock::measured_hz());
    let cursors: Vec<u64> = machine.logs().iter().map(|log| log.cursor()).collect();
    let demands = Demands::new();
    let began = Instant::now();
    let silent: [Arc<dyn Observer>; MOVERS] = std::array::from_fn(|_| Arc::new(Silent) as _);
    Attached::watched(builder, demands.clone()).move_for(SLICE, &silent, |_| ());
    let took = began.elapsed();
    let demanded = demands.gfns().map(|gfn| gfn - first).collect();
    let logs = machine.logs();
    let ticks = logs
        .iter()
        .zip(cursors)
        .map(|(log, since)| Stalls::of_ticks(&log.ticks_of(&demanded, since)))
        .collect::<Vec<_>>();
    Brought {
        pages_per_s: demands.count() as f64 / took.as_secs_f64(),
        stall_ns: Stalls::merged(ticks.iter()).median(),
    }
}
