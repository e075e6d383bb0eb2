//! What KVM and the clocks say of a guest.

use crate::common::{COUNTER, Code, exit, have_kvm, machine, patience, word};
use std::time::{Duration, Instant};
use underfoot_vmm::Wake;
use underfoot_vmm::stats::{StatKind, StatsFile};

#[test]
#[cfg_attr(no_kvm, ignore = "this host has no /dev/kvm for us")]
fn kvm_counts_the_faults_of_a_guest() {
    if !have_kvm() {
        return;
    }
    const PAGES: u32 = 64;
    let code = (0..PAGES).fold(Code::default(), |code, page| {
        code.store32(COUNTER + page * 4096, page)
    });
    let mut machine = machine(&code.exit(0), 2);
    let read = |files: &[StatsFile]| {
        let mut sum = files[0].snapshot().unwrap();
        files[1..]
            .iter()
            .for_each(|file| sum.add(&file.snapshot().unwrap()));
        sum
    };
    let before = read(machine.vcpu_stats());
    machine.start();
    assert!(exit(&mut machine).is_sound());
    machine.stop(Duration::ZERO);
    let grown = read(machine.vcpu_stats()).since(&before);
    assert!(grown.get("exits").unwrap() > 0);
    assert_eq!(grown.get("no_such_statistic"), None);
    let vm = machine.vm_stats().snapshot().unwrap();
    assert!(
        vm.iter()
            .any(|(name, kind, _)| name == "pages_4k" && kind == StatKind::Instant)
    );
    for page in 0..PAGES {
        assert_eq!(word(&machine, COUNTER + page * 4096), page);
    }
}

#[test]
#[cfg_attr(no_kvm, ignore = "this host has no /dev/kvm for us")]
fn the_clock_relation_is_measured() {
    if !have_kvm() {
        return;
    }
    let machine = machine(&Code::default().exit(0), 2);
    assert!(machine.tsc_khz() > 0);
    assert_eq!(machine.tsc().len(), 2);
    for relation in machine.tsc() {
        let (least, most) = relation.measured.unwrap();
        assert!(least <= most, "{relation:?}");
        if relation.offset == Some(0) {
            assert!(relation.is_same(), "{relation:?}");
        }
    }
}

#[test]
#[cfg_attr(no_kvm, ignore = "this host has no /dev/kvm for us")]
fn a_vcpu_that_stands_still_is_seen_to() {
    if !have_kvm() {
        return;
    }
    let mut machine = machine(&Code::default().halt(), 2);
    assert!(machine.progress().is_none());
    machine.watch_progress(Duration::from_millis(1)).unwrap();
    machine.start();
    let samples = |machine: &underfoot_vmm::Machine| {
        machine
            .progress()
            .unwrap()
            .vcpus()
            .map(|vcpu| vcpu.samples)
            .min()
            .unwrap()
    };
    while samples(&machine) < 20 {
        assert!(Instant::now() < patience());
        let soon = Instant::now() + Duration::from_millis(5);
        assert_eq!(machine.wait(soon).unwrap(), Wake::Deadline);
    }
    for vcpu in machine.progress().unwrap().vcpus() {
        assert!(vcpu.open_gap_ns > 0);
        assert_eq!((vcpu.longest_gap_ns, vcpu.longest_raw_gap_ns), (0, 0));
    }
}
