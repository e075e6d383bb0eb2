//! A device copies guest memory while its pages move.

use underfoot_tests::{Scratch, kvm, run};

/// Each copy arrives whole, under each way of waiting and each of the parameters' ends.
#[test]
#[cfg_attr(no_kvm, ignore = "this host has no /dev/kvm for us")]
fn every_byte_arrives_however_vcpus_wait_and_registrations_change() {
    if !kvm() {
        return;
    }
    for (way, parameters) in [
        ("--wait halt", "depth=8,bytes=4096,renew=20"),
        ("--wait block --batch 32", "depth=1,bytes=8,renew=1,cache=1"),
        ("--wait spin", "depth=64,bytes=16384,renew=0,cache=4096"),
        ("--mover guest", "depth=8,bytes=512"),
    ] {
        let line = format!("--workload dma --cpus 2 --duration 2s --parameters {parameters} {way}");
        let (summary, _) = run(&Scratch::new(), &line);
        let device = |what: &str| summary.number(&format!("/dma/{what}"));
        let copies = summary.number("/guest/counters/moving/copies");
        assert!(copies > 0 && device("done") >= copies, "{line}");
        assert!(device("bytes") > 0 && device("misses") > 0, "{line}");
        assert_eq!((device("refused"), device("negative")), (0, 0), "{line}");
        let renews = !parameters.contains("renew=0") && !parameters.contains("512");
        assert!(!renews || device("renewed") > 0, "{line}");
        assert!(summary.migration().committed > 0, "{line}");
    }
}
