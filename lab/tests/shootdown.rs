//! TLB shootdowns of the real guest on KVM, in every way, and while a vCPU is held.

use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};
use underfoot::image::GUEST_IMAGE;
use underfoot_abi::{Cpl, GuestState, Phase, RecordedPhase, Variant, WorkloadId};
use underfoot_vmm::placement::Placement;
use underfoot_vmm::wait::WaitKind;
use underfoot_vmm::{
    Backing, Boot, Console, HeaderInit, Machine, MachineConfig, MemorySize, MoverInit, Wake,
};

const IPI: u64 = 0;
const PV: u64 = 1;
const HYPERCALL: u64 = 2;

/// A guest of two CPUs that does nothing but shoot, from the first, and read, on both.
fn storm(way: u64, variant: Variant) -> Option<Machine> {
    let told = [("way", way), ("initiators", 1)];
    guest(WorkloadId::Shootdown, &told, variant)
}

/// A guest of two CPUs whose workload is told this, and the defaults.
fn guest(workload: WorkloadId, told: &[(&str, u64)], variant: Variant) -> Option<Machine> {
    if !PathBuf::from("/dev/kvm").exists() {
        let required = std::env::var("UNDERFOOT_REQUIRE_KVM").is_ok_and(|value| value == "1");
        assert!(!required, "there is no /dev/kvm");
        eprintln!("skipped: there is no /dev/kvm");
        return None;
    }
    let mut parameters = workload.defaults();
    for (name, value) in told {
        let index = workload.parameters().iter().position(|p| p.name == *name);
        parameters[index.expect("a parameter of the workload")] = *value;
    }
    let mut machine = Machine::new(MachineConfig {
        kvm: PathBuf::from("/dev/kvm"),
        memory: MemorySize::new(64 << 20, 64 << 20).expect("a size"),
        backing: Backing::Small,
        slot_size: None,
        cpus: 2,
        boot: Boot {
            image: GUEST_IMAGE,
            cmdline: "",
        },
        header: HeaderInit {
            seed: 1,
            tsc_khz: 0,
            cpl: Cpl::Auto,
            workload,
            variant,
            stall_threshold_ns: 2_000,
            probe_period_ns: 0,
            parameters,
            mover: MoverInit::HOST,
        },
        console: Console::discard(),
        wait: WaitKind::Halt,
        placement: Placement::default(),
        signals: false,
    })
    .unwrap_or_else(|error| panic!("{error}: {error:?}"));
    machine.start();
    while machine.shared().state() == Some(GuestState::Booting) {
        let woken = machine.wait(patience()).expect("a wake-up");
        assert!(matches!(woken, Wake::Doorbell), "{woken:?}");
    }
    let phase = machine.shared().header().phase;
    phase.store(Phase::Control as u32, Relaxed);
    Some(machine)
}

/// A deadline that only a test that fails reaches.
fn patience() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

fn until(what: &str, done: impl Fn() -> bool) {
    let deadline = patience();
    while !done() {
        assert!(Instant::now() < deadline, "{what} did not happen");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A counter of the workload `shootdown`, by its name.
fn count(machine: &Machine, name: &str) -> u64 {
    count_of(WorkloadId::Shootdown, machine, name)
}

fn count_of(workload: WorkloadId, machine: &Machine, name: &str) -> u64 {
    let counters = workload.counters();
    let index = counters.iter().position(|counter| counter.name == name);
    let index = index.expect("a counter of the workload");
    let of = |cpu| &machine.shared().vcpu(cpu).counters[RecordedPhase::Control as usize][index];
    (0..2).map(|cpu| of(cpu).load(Relaxed)).sum()
}

fn errors(machine: &Machine) -> u64 {
    let of = |cpu| machine.shared().vcpu(cpu).errors.load(Relaxed);
    (0..2).map(of).sum()
}

/// Some hundred shootdowns and reads, which find nothing.
fn works(machine: &Machine) {
    let before = [count(machine, "operations"), count(machine, "reads")];
    until("a hundred shootdowns", || {
        count(machine, "operations") > before[0] + 100
            && count(machine, "reads") > before[1] + 5_000
    });
    assert_eq!(errors(machine), 0);
}

#[test]
fn every_way_shoots_and_no_reader_is_late() {
    for way in [IPI, PV, HYPERCALL] {
        let Some(machine) = storm(way, Variant::None) else {
            return;
        };
        works(&machine);
        until("an answer", || count(&machine, "asked") > 0);
        if way == HYPERCALL {
            let by_hypercall =
                count(&machine, "hypercalls") + count(&machine, "hypercalls-refused");
            assert!(by_hypercall > 0);
            eprintln!(
                "hypercalls {}, refused {}",
                count(&machine, "hypercalls"),
                count(&machine, "hypercalls-refused")
            );
        } else {
            assert_eq!(count(&machine, "hypercalls"), 0);
        }
    }
}

#[test]
fn a_vcpu_that_the_vmm_holds_is_left_a_note_and_flushes_before_it_runs() {
    let Some(machine) = storm(PV, Variant::None) else {
        return;
    };
    works(&machine);
    // A vCPU that is held while it keeps the space lazily is left alone: then once more.
    let deadline = patience();
    let mut noted = 0;
    while noted < 5 {
        assert!(Instant::now() < deadline, "{noted} holds with a note");
        let before = count(&machine, "notes-held");
        let held = machine.vcpus().hold(1);
        // One that was held with a request for it pending answers only when it runs again.
        let operations = count(&machine, "operations");
        let enough = Instant::now() + Duration::from_millis(200);
        while count(&machine, "operations") < operations + 20 && Instant::now() < enough {
            std::thread::sleep(Duration::from_millis(1));
        }
        drop(held);
        noted += u32::from(count(&machine, "notes-held") > before);
        let progress = || machine.shared().vcpu(1).progress.load(Relaxed);
        let then = progress();
        until("reads of the vCPU that was held", || progress() > then + 1);
    }
    works(&machine);
}

/// The same of an address space, by what unmaps its pages: a vCPU that is held in the midst of an access is
/// waited for, any other one is not.
#[test]
fn a_vcpu_that_the_vmm_holds_forgets_what_was_unmapped() {
    // The default is `rcu`.
    let told = [("shootdown", 1 + PV), ("pages", 4)];
    let Some(machine) = guest(WorkloadId::Mmap1, &told, Variant::None) else {
        return;
    };
    let count = |name| count_of(WorkloadId::Mmap1, &machine, name);
    let deadline = patience();
    let mut noted = 0;
    while noted < 3 {
        assert!(Instant::now() < deadline, "{noted} holds with a note");
        let before = count("spared-notes");
        let held = machine.vcpus().hold(1);
        let enough = Instant::now() + Duration::from_millis(50);
        while count("spared-notes") == before && Instant::now() < enough {
            std::thread::sleep(Duration::from_millis(1));
        }
        drop(held);
        noted += u32::from(count("spared-notes") > before);
        let progress = || machine.shared().vcpu(1).progress.load(Relaxed);
        let then = progress();
        until("accesses of the vCPU that was held", || progress() > then);
    }
    let changes = count("changes");
    until("ten changes", || count("changes") > changes + 10);
    assert_eq!(errors(&machine), 0);
}

#[test]
fn a_cpu_that_is_left_out_is_caught() {
    let Some(machine) = storm(IPI, Variant::SkipCpu) else {
        return;
    };
    until("a finding", || errors(&machine) > 0);
    assert_eq!(machine.shared().vcpu(0).errors.load(Relaxed), 0);
}
