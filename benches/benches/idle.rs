//! What an engine costs that is attached and moves nothing: the guest's throughput beside that without one.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::{Duration, Instant};
use underfoot_abi::{PAGE_SIZE, WorkloadId};
use underfoot_benches::attached::Attached;
use underfoot_benches::guest::{self, Guest};
use underfoot_benches::noise;
use underfoot_benches::ratio::{Bars, Ratios, median, shown};
use underfoot_migrator::{Gfn, Migrator, PageRange, Stop, clock};
use underfoot_vmm::{Machine, PageMapView};

const SLICE: Duration = Duration::from_millis(150);
/// Between attaching, or detaching, and measuring.
const SETTLE: Duration = Duration::from_millis(20);
const ROUNDS: usize = 50;
/// The bar: throughput without an engine over that with one.
const OVER_ENGINE: f64 = 1.005;

/// What is beside the guest.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Beside {
    Nothing,
    /// Memory watched, a fault handler and a mover there.
    Engine,
    /// And a watchdog that looks.
    Watchdog,
}

/// In one round and the next: a drift of the host is for and against each of them. `Nothing` comes twice in
/// each, and what the two differ by is noise.
const ORDERS: [[Beside; 4]; 2] = [
    [
        Beside::Nothing,
        Beside::Engine,
        Beside::Watchdog,
        Beside::Nothing,
    ],
    [
        Beside::Watchdog,
        Beside::Nothing,
        Beside::Nothing,
        Beside::Engine,
    ],
];

fn main() {
    if !noise::begin("idle") {
        return;
    }
    noise::report("before");
    let placement = noise::cpus().map(|[vcpu, _]| vcpu).unwrap_or_default();
    let machine = Guest {
        workload: WorkloadId::Walk,
        placement,
        ..Guest::default()
    }
    .boot();
    // By what is beside it; of nothing both slices of a round.
    let mut rates: [Vec<Option<f64>>; 4] = Default::default();
    for round in 0..ROUNDS {
        let mut nothing = [0, 3].into_iter();
        for beside in ORDERS[round % 2] {
            let place = match beside {
                Beside::Nothing => nothing.next().expect("twice a round"),
                Beside::Engine => 1,
                Beside::Watchdog => 2,
            };
            rates[place].push(Some(rate(&machine, beside)));
        }
    }
    guest::end(machine);
    let [nothing, engine, watchdog, again] = rates;
    println!(
        "operations per second of one vCPU, {ROUNDS} rounds of interleaved slices of {SLICE:?}"
    );
    println!("beside it            operations/s  without/with, median (min to max)   bar");
    let base: Vec<Option<f64>> = nothing
        .iter()
        .zip(&again)
        .map(|(one, other)| Some((one.as_ref()? + other.as_ref()?) / 2.0))
        .collect();
    let mut bars = Bars::default();
    for (name, without, with, bar) in [
        ("nothing, once more", &nothing, &again, None),
        ("engine", &base, &engine, Some(OVER_ENGINE)),
        ("engine and watchdog", &base, &watchdog, None),
    ] {
        let ratios = Ratios::of(without, with);
        let verdict = bar.map_or_else(String::new, |bar| bars.hold(&ratios, bar));
        println!(
            "{name:<19}  {:>12}  {:<34}  {verdict}",
            shown(median(with.iter().copied())),
            ratios.precise(),
        );
    }
    noise::report("after");
    bars.end();
}

/// Operations per second of the guest with `beside` beside it.
fn rate(machine: &Machine, beside: Beside) -> f64 {
    if beside == Beside::Nothing {
        thread::sleep(SETTLE);
        return operations_per_s(machine);
    }
    let shared = machine.shared();
    let region = PageRange::new(
        Gfn(shared.gpa() / PAGE_SIZE as u64),
        (shared.size() / PAGE_SIZE) as u32,
    );
    let engine = Attached::new(
        Migrator::builder(Arc::clone(machine.ram().memory()))
            .page_map(Arc::new(PageMapView::new(shared.clone())))
            .exclude(region)
            .tsc_hz(clock::measured_hz()),
    );
    let _mover = engine.migrator().mover().expect("a mover");
    let stop = Stop::new().expect("an event");
    thread::scope(|scope| {
        if beside == Beside::Watchdog {
            let mut watchdog = engine.migrator().watchdog();
            let stop = &stop;
            scope.spawn(move || watchdog.run(stop));
        }
        thread::sleep(SETTLE);
        let rate = operations_per_s(machine);
        stop.request().expect("an event");
        rate
    })
}

fn operations_per_s(machine: &Machine) -> f64 {
    let done = || machine.shared().vcpu(0).progress.load(Relaxed);
    let (began, before) = (Instant::now(), done());
    thread::sleep(SLICE);
    let (after, took) = (done(), began.elapsed());
    (after - before) as f64 / took.as_secs_f64()
}
