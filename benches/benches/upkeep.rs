//! What a guest costs that has nothing to do, or nothing but its work: its tick's share of its own time, and
//! an idle guest's share of a host CPU. Nothing moves.

use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::{Duration, Instant};
use underfoot_abi::{BUCKETS, Metric, RecordedPhase, WorkloadId, bucket_low};
use underfoot_benches::guest::{self, Guest};
use underfoot_benches::noise::{self, GAP_NS};
use underfoot_benches::ratio::{Bars, Ratios};
use underfoot_vmm::Machine;

const ROUNDS: usize = 20;
const SLICE: Duration = Duration::from_millis(500);
/// An idle CPU has stopped its tick by then.
const SETTLE: Duration = Duration::from_secs(2);
const DOWN: Duration = Duration::from_secs(60);
/// How often the guest's tick comes: on a busy host it comes late, and is dear all the same.
const TICK_HZ: f64 = 250.0;
/// The bars: of the guest's time, and of a host CPU.
const OVER_TIME: f64 = 0.03;
const OVER_CPU: f64 = 0.02;

fn main() {
    if !noise::begin("upkeep") {
        return;
    }
    noise::report("before");
    let mut bars = Bars::default();
    let tick = ticks();
    println!(
        "tick: at {TICK_HZ} Hz {} of a vCPU's time: {}",
        tick.precise(),
        bars.hold(&tick, OVER_TIME)
    );
    let idle = idle();
    println!(
        "idle: both vCPUs {} of a host CPU: {}",
        idle.precise(),
        bars.hold(&idle, OVER_CPU)
    );
    noise::report("after");
    bars.end();
}

/// The share of its time that ticks take from the one vCPU of a guest, as its thread sees them, in each slice.
fn ticks() -> Ratios {
    let placement = noise::cpus().map(|[vcpu, _]| vcpu).unwrap_or_default();
    let machine = Guest {
        workload: WorkloadId::Chase,
        parameters: &[("threads", 1), ("ticks", 1)],
        placement,
        ..Guest::default()
    }
    .boot();
    let mut before = buckets(&machine);
    let slices = (0..ROUNDS).map(|_| {
        thread::sleep(SLICE);
        let after = buckets(&machine);
        let new: Vec<u64> = after
            .iter()
            .zip(&before)
            .map(|(after, before)| after - before)
            .collect();
        before = after;
        mean_ns(&new) * TICK_HZ / 1e9
    });
    let ratios = slices.collect();
    guest::end(machine);
    ratios
}

fn buckets(machine: &Machine) -> [u64; BUCKETS] {
    let histograms = &machine.shared().vcpu(0).histograms[RecordedPhase::Moving as usize];
    histograms[Metric::Tick as usize]
        .buckets
        .each_ref()
        .map(|count| count.load(Relaxed))
}

/// The mean, without what was the host's: NaN of none, which no ratio is made of.
fn mean_ns(buckets: &[u64]) -> f64 {
    let counted = || {
        let buckets = buckets.iter().enumerate();
        let buckets = buckets.map(|(index, count)| (bucket_low(index), *count));
        buckets.filter(|(ns, _)| *ns < GAP_NS)
    };
    let ns: u64 = counted().map(|(ns, count)| ns * count).sum();
    let count: u64 = counted().map(|(_, count)| count).sum();
    ns as f64 / count as f64
}

/// The share of a host CPU that both vCPUs of an idle guest take together, in each slice.
fn idle() -> Ratios {
    let mut machine = Guest {
        workload: WorkloadId::Idle,
        cpus: 2,
        ..Guest::default()
    }
    .boot();
    thread::sleep(SETTLE);
    let slices = (0..ROUNDS).map(|_| {
        let (began, before) = (Instant::now(), cpu_ns(&machine));
        thread::sleep(SLICE);
        (cpu_ns(&machine) - before) as f64 / began.elapsed().as_nanos() as f64
    });
    let ratios = slices.collect();
    // It has nothing to audit.
    let outcome = machine.stop(DOWN);
    assert!(
        outcome.in_order,
        "the guest did not end in order: {outcome:?}"
    );
    ratios
}

/// The CPU time that the vCPUs' threads have had (Documentation/scheduler/sched-stats.rst).
fn cpu_ns(machine: &Machine) -> u64 {
    let of = |id: i32| {
        let stat = std::fs::read_to_string(format!("/proc/self/task/{id}/schedstat"));
        let stat = stat.expect("a kernel with schedstat");
        let time = stat
            .split(' ')
            .next()
            .and_then(|time| time.parse::<u64>().ok());
        time.expect("time on a CPU comes first")
    };
    machine.vcpus().thread_ids().into_iter().map(of).sum()
}
