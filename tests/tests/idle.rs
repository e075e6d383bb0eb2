//! A guest with nothing to do leaves its host's CPUs alone.

use std::thread;
use std::time::{Duration, Instant};

use underfoot_tests::{Command, Scratch, kvm, turn};

/// What each vCPU may take of a CPU, in percent, far above what it does (see what the test prints) and far
/// below a vCPU that polls, or whose tick goes on where ring 0 is emulated.
const MOST_PERCENT: f64 = 10.0;
const CPUS: usize = 2;
const MEASURED: Duration = Duration::from_secs(3);

#[test]
#[cfg_attr(no_kvm, ignore = "this host has no /dev/kvm for us")]
fn an_idle_guest_takes_next_to_nothing_of_a_host_cpu() {
    if !kvm() {
        return;
    }
    let _turn = turn();
    let scratch = Scratch::new();
    let line = "run --workload idle --cpus 2 --warmup 0s --duration 8s --control 100% --out";
    let mut running = Command::underfoot(&scratch)
        .words(line)
        .args([scratch.join("run")])
        .start();
    running.wait_until("its vCPUs", |running| running.cpu_ns("vcpu").len() == CPUS);
    // It boots meanwhile.
    thread::sleep(Duration::from_secs(2));
    let (before, began) = (running.cpu_ns("vcpu"), Instant::now());
    thread::sleep(MEASURED);
    let (after, length) = (running.cpu_ns("vcpu"), began.elapsed());
    running.wait().assert_status(0);
    assert_eq!(after.len(), CPUS);
    for (name, after) in after {
        let ns = (after - before[&name]) as f64;
        let percent = ns / length.as_nanos() as f64 * 100.0;
        println!("{name}: {percent:.2} % of a CPU");
        assert!(percent < MOST_PERCENT, "{name}: {percent:.2} % of a CPU");
    }
}
