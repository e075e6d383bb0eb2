//! What the host does while a benchmark runs.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;
use underfoot_vmm::placement::{CpuSet, Placement};

/// A pause this long in a loop that makes none was not the loop's.
pub const GAP_NS: u64 = 1_000_000;

const ROUND_TRIPS: u32 = 20_000;

/// The CPU for the vCPU, and that for everybody else: the second and the first of
/// those that this process may use; `None` on a host with one.
#[must_use]
pub fn cpus() -> Option<[Placement; 2]> {
    let allowed = CpuSet::allowed().ok()?;
    let [first, second, ..] = allowed.cpus() else {
        return None;
    };
    Some([*second, *first].map(|cpu| Placement {
        cpus: cpu.to_string().parse().ok(),
        ..Placement::default()
    }))
}

/// Begins a benchmark: false if it was not asked for. `cargo test` builds and starts benchmarks too; only
/// `cargo bench` says so.
#[must_use]
pub fn begin(name: &str) -> bool {
    let asked = std::env::args().any(|argument| argument == "--bench");
    if !asked {
        println!("{name}: run by `cargo bench -p underfoot-benches --bench {name}`");
    }
    asked
}

/// Says how far the CPUs are apart.
pub fn report(when: &str) {
    let ns = round_trip_ns().map_or_else(|| "-".to_owned(), |ns| format!("{ns} ns"));
    println!("cache line round trip {when}: {ns}");
}

/// A cache line's round trip between the first two CPUs that this process may use, in ns; `None` on
/// a host with one. These hosts flip between near and far CPUs within seconds, and whatever crosses
/// cores then costs double.
#[must_use]
pub fn round_trip_ns() -> Option<u64> {
    let allowed = CpuSet::allowed().ok()?;
    let [first, second, ..] = allowed.cpus() else {
        return None;
    };
    let (line, ready) = (AtomicU32::new(0), AtomicU32::new(0));
    let turn = |cpu: u32, parity: u32| {
        let here: CpuSet = cpu.to_string().parse().expect("a CPU");
        let placement = Placement {
            cpus: Some(here),
            ..Placement::default()
        };
        placement.apply(0).expect("a CPU of ours");
        ready.fetch_add(1, Ordering::AcqRel);
        while ready.load(Ordering::Acquire) < 2 {
            std::hint::spin_loop();
        }
        let began = Instant::now();
        for round in 0..ROUND_TRIPS {
            while line.load(Ordering::Acquire) != 2 * round + parity {
                std::hint::spin_loop();
            }
            line.store(2 * round + parity + 1, Ordering::Release);
        }
        began.elapsed().as_nanos() as u64 / u64::from(ROUND_TRIPS)
    };
    let (first, second) = (*first, *second);
    std::thread::scope(|scope| {
        let other = scope.spawn(|| turn(second, 1));
        let mine = scope.spawn(|| turn(first, 0));
        let _ = other.join();
        mine.join().ok()
    })
}
