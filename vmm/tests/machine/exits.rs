//! How a guest ends, and what is said of it.

use crate::common::{
    COUNTER, Code, LOW_COUNTER, TEXT, config, elf, exit, have_kvm, machine, patience, word,
};
use underfoot_vmm::wait::WaitKind;
use underfoot_vmm::{Console, ExitReason, Machine, MachineError, MemorySize, Wake};

#[test]
#[cfg_attr(no_kvm, ignore = "this host has no /dev/kvm for us")]
fn a_status_is_reported_as_written() {
    if !have_kvm() {
        return;
    }
    for status in [0, 7, 0xdead_beef] {
        let mut machine = machine(&Code::default().exit(status), 1);
        machine.start();
        let report = exit(&mut machine);
        assert_eq!(report.reason, ExitReason::Finished { status });
        assert_eq!((report.vcpu, report.is_sound()), (0, status == 0));
    }
}

#[test]
#[cfg_attr(no_kvm, ignore = "this host has no /dev/kvm for us")]
fn serial_output_comes_whole_and_in_order() {
    if !have_kvm() {
        return;
    }
    let (console, capture) = Console::capture();
    let image = elf(&Code::default().print("underfoot: hello\n").exit(0));
    let mut machine = Machine::new(underfoot_vmm::MachineConfig {
        console,
        ..config(&image, 1)
    })
    .unwrap();
    machine.start();
    assert!(exit(&mut machine).is_sound());
    assert_eq!(capture.text(), "underfoot: hello\n");
    assert_eq!((machine.serial_lost(), machine.unclaimed_io()), (0, 0));
}

#[test]
#[cfg_attr(no_kvm, ignore = "this host has no /dev/kvm for us")]
fn the_doorbell_rings() {
    if !have_kvm() {
        return;
    }
    let mut machine = machine(&Code::default().doorbell().halt(), 1);
    machine.start();
    assert_eq!(machine.wait(patience()).unwrap(), Wake::Doorbell);
    assert_eq!(
        machine.wait(std::time::Instant::now()).unwrap(),
        Wake::Deadline
    );
}

#[test]
#[cfg_attr(no_kvm, ignore = "this host has no /dev/kvm for us")]
fn a_triple_fault_is_told_with_registers() {
    if !have_kvm() {
        return;
    }
    let mut machine = machine(&Code::default().triple_fault(), 1);
    machine.start();
    let report = exit(&mut machine);
    assert_eq!(report.reason, ExitReason::TripleFault);
    assert!(
        report
            .to_string()
            .starts_with("vCPU 0: triple fault of the guest at rip"),
        "{report}"
    );
    assert!(report.registers.is_some());
}

#[test]
#[cfg_attr(no_kvm, ignore = "this host has no /dev/kvm for us")]
fn an_access_to_nowhere_is_told_with_its_address() {
    if !have_kvm() {
        return;
    }
    let mut machine = machine(&Code::default().load32(0xd000_0000), 1);
    machine.start();
    let report = exit(&mut machine);
    assert_eq!(
        report.reason,
        ExitReason::Mmio {
            gpa: 0xd000_0000,
            len: 4,
            write: false
        }
    );
    let registers = report.registers.unwrap();
    assert!((u64::from(TEXT)..u64::from(TEXT) + 16).contains(&registers.general.rip));
}

#[test]
#[cfg_attr(no_kvm, ignore = "this host has no /dev/kvm for us")]
fn every_processor_starts() {
    if !have_kvm() {
        return;
    }
    for cpus in [2, 4, 8] {
        let code = Code::default()
            .start_others()
            .wait_for(LOW_COUNTER.into(), cpus - 1)
            .exit(0);
        let mut machine = machine(&code, cpus);
        machine.start();
        assert!(exit(&mut machine).is_sound());
        machine.stop(std::time::Duration::ZERO);
        assert_eq!(word(&machine, LOW_COUNTER.into()), cpus - 1);
    }
}

#[test]
#[cfg_attr(no_kvm, ignore = "this host has no /dev/kvm for us")]
fn every_wait_policy_runs_a_guest() {
    if !have_kvm() {
        return;
    }
    for wait in WaitKind::ALL {
        let image = elf(&Code::default().count(COUNTER, 10).exit(0));
        let config = underfoot_vmm::MachineConfig {
            wait,
            ..config(&image, 2)
        };
        match Machine::new(config) {
            Ok(mut machine) => {
                machine.start();
                assert!(exit(&mut machine).is_sound(), "{wait}");
                assert_eq!(word(&machine, COUNTER), 10);
            }
            Err(MachineError::WaitPolicy { policy }) => {
                assert!(policy == wait && wait != WaitKind::Halt);
            }
            Err(other) => panic!("{other}"),
        }
    }
}

#[test]
#[cfg_attr(no_kvm, ignore = "this host has no /dev/kvm for us")]
fn bad_machines_are_refused() {
    let image = elf(&Code::default().exit(0));
    let absent = underfoot_vmm::MachineConfig {
        kvm: "/nonexistent/kvm".into(),
        ..config(&image, 1)
    };
    let error = Machine::new(absent).err().unwrap();
    assert!(matches!(error, MachineError::OpenKvm { .. }));
    assert!(
        error
            .to_string()
            .starts_with("/nonexistent/kvm cannot be opened")
    );
    if !have_kvm() {
        return;
    }
    for cpus in [0, 65, 10_000] {
        let error = Machine::new(config(&image, cpus)).err().unwrap();
        assert!(
            matches!(error, MachineError::Cpus { max: 1..=64, .. }),
            "{error}"
        );
    }
    let placement = underfoot_vmm::placement::Placement {
        cpus: Some("1023".parse().unwrap()),
        ..underfoot_vmm::placement::Placement::default()
    };
    let nowhere = underfoot_vmm::MachineConfig {
        placement,
        ..config(&image, 1)
    };
    assert!(matches!(
        Machine::new(nowhere).err(),
        Some(MachineError::Placement(_))
    ));
    let garbage = underfoot_vmm::MachineConfig {
        boot: underfoot_vmm::Boot {
            image: b"\x7fELF",
            cmdline: "",
        },
        ..config(&image, 1)
    };
    assert!(matches!(
        Machine::new(garbage).err(),
        Some(MachineError::Boot(_))
    ));
}

#[test]
#[cfg_attr(no_kvm, ignore = "this host has no /dev/kvm for us")]
fn memory_above_four_gib_is_there() {
    if !have_kvm() {
        return;
    }
    let image = elf(&Code::default().exit(0));
    let memory = MemorySize::new(4 << 30, 4 << 30).unwrap();
    let config = underfoot_vmm::MachineConfig {
        memory,
        ..config(&image, 1)
    };
    let mut machine = Machine::new(config).unwrap();
    machine.start();
    assert!(exit(&mut machine).is_sound());
    let ranges: Vec<_> = machine
        .ram()
        .ranges()
        .iter()
        .map(|r| (r.gpa >> 30, r.len >> 30))
        .collect();
    assert_eq!(ranges, [(0, 3), (4, 1)]);
}
