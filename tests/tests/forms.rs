//! The forms of `walk`: its readers under each kind of RCU, its objects under each kind of lock, while
//! everything moves.

use underfoot_tests::{Scratch, kvm, run};

/// What `protect` may be.
const FORMS: [&str; 5] = [
    "classic",
    "preemptible",
    "sleepable",
    "mutex-srcu",
    "sleeping-spinlock",
];

/// Runs each form with all kinds moving; nothing is lost, and each lock and section is on record.
fn each_form(cpus: usize, threads: usize) {
    if !kvm() {
        return;
    }
    for form in FORMS {
        let line = format!(
            "--target all --rate max --cpus {cpus} --duration 1s --control 20% --warmup 100ms \
             --parameters protect={form},threads={threads}"
        );
        let (summary, _) = run(&Scratch::new(), &line);
        assert_eq!(summary.at("/config/parameters/protect"), form);
        let operations = summary.number("/guest/counters/moving/operations");
        assert!(operations > 0, "{form}");
        assert!(summary.migration().committed > 0, "{form}");
        for metric in ["guest.rcu.read", "guest.lock.wait", "guest.lock.hold"] {
            let count = summary.number(&format!("/histograms/{metric}/count"));
            assert!(count > 0, "{form}: {metric}");
        }
    }
}

#[test]
#[cfg_attr(no_kvm, ignore = "this host has no /dev/kvm for us")]
fn each_form_of_walk_is_sound_on_two_vcpus() {
    each_form(2, 1);
}

/// Readers and holders are preempted too.
#[test]
#[cfg_attr(no_kvm, ignore = "this host has no /dev/kvm for us")]
fn each_form_of_walk_is_sound_with_more_threads_than_vcpus() {
    each_form(4, 2);
}
