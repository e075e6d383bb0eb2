//! Boots a PVH image, lets it work for a second, stops it and says how it went.
//!
//! `cargo run -p underfoot-vmm --example boot -- IMAGE [CPUS [0|3|auto [WAIT]]]`

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use underfoot_abi::{Cpl, GuestState, Phase, Variant, WorkloadId};
use underfoot_vmm::placement::Placement;
use underfoot_vmm::stats::{Stats, StatsError};
use underfoot_vmm::{
    Backing, Boot, Console, HeaderInit, HostInfo, Machine, MachineConfig, MemorySize, MoverInit,
    Wake, capability,
};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let argument = |index: usize, default: &'static str| {
        arguments
            .get(index)
            .map_or(default, String::as_str)
            .to_owned()
    };
    let image = std::fs::read(arguments.first().ok_or("name an image")?)?;
    let cpl = match argument(2, "auto").as_str() {
        "0" => Cpl::Zero,
        "3" => Cpl::Three,
        _ => Cpl::Auto,
    };
    println!("{:?}", HostInfo::detect(Path::new("/"))?);
    let made = Instant::now();
    let mut machine = Machine::new(MachineConfig {
        kvm: PathBuf::from("/dev/kvm"),
        memory: MemorySize::new(64 << 20, capability::available_memory(Path::new("/"))?)?,
        backing: Backing::Small,
        slot_size: None,
        cpus: argument(1, "2").parse()?,
        boot: Boot {
            image: &image,
            cmdline: "",
        },
        header: HeaderInit {
            seed: 1,
            tsc_khz: 0,
            cpl,
            workload: WorkloadId::Walk,
            variant: Variant::None,
            stall_threshold_ns: 2000,
            probe_period_ns: 1_000_000,
            parameters: [0; underfoot_abi::MAX_PARAMETERS],
            mover: MoverInit::HOST,
        },
        console: Console::terminal(),
        wait: argument(3, "halt").parse()?,
        placement: Placement::default(),
        signals: true,
    })?;
    println!(
        "made in {:?}, tsc {} kHz {:?}",
        made.elapsed(),
        machine.tsc_khz(),
        machine.tsc()
    );
    machine.start();
    let deadline = Instant::now() + Duration::from_secs(10);
    while machine.shared().state() == Some(GuestState::Booting) {
        match machine.wait(deadline)? {
            Wake::Doorbell => {}
            other => {
                println!("while booting: {other:?}");
                break;
            }
        }
    }
    println!(
        "state {:?} after {:?}",
        machine.shared().state(),
        made.elapsed()
    );
    machine.watch_progress(Duration::from_millis(2))?;
    machine.shared().set_phase(Phase::Control);
    let wake = machine.wait(Instant::now() + Duration::from_secs(1))?;
    println!("after a second: {wake:?}");
    report(&machine)?;
    let outcome = machine.stop(Duration::from_secs(5));
    println!("in order: {}", outcome.in_order);
    for exit in &outcome.exits {
        println!("{exit}");
    }
    let header = machine.shared().header();
    println!(
        "audit: {:?} checked, {:?} errors",
        header.audit_checked, header.audit_errors
    );
    println!("message: {}", machine.shared().message());
    Ok(())
}

fn report(machine: &Machine) -> Result<(), StatsError> {
    for index in 0..machine.shared().cpus() {
        let area = machine.shared().vcpu(index);
        println!(
            "vCPU {index}: {:?} operations, {:?} ticks, {:?} errors, {} entries",
            area.progress,
            area.ticks,
            area.errors,
            machine.vcpus().entries(index),
        );
    }
    for (index, progress) in machine
        .progress()
        .iter()
        .flat_map(|watch| watch.vcpus())
        .enumerate()
    {
        println!("vCPU {index}: {progress:?}");
    }
    let mut sum = Stats::default();
    for file in machine.vcpu_stats() {
        sum.add(&file.snapshot()?);
    }
    let shown = sum
        .iter()
        .filter(|(name, ..)| name.starts_with("pf_") || *name == "exits");
    shown.for_each(|(name, _, values)| print!("{name} {values:?} "));
    println!();
    Ok(())
}
