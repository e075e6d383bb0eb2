//! Each sound combination of strategy, backend and wait policy, a second each.

use underfoot_tests::{Command, Scratch, at_least, kvm, run};

const STRATEGIES: [&str; 2] = ["unmap-copy", "stop-world"];
const BACKENDS: [&str; 2] = ["move", "copy"];
const WAITS: [&str; 3] = ["halt", "block", "spin"];

fn each_combination(cpus: u32) {
    if !kvm() {
        return;
    }
    for strategy in STRATEGIES {
        for backend in BACKENDS {
            for wait in WAITS {
                let line = format!(
                    "--strategy {strategy} --backend {backend} --wait {wait} --cpus {cpus} \
                     --target all --rate max --duration 1s"
                );
                let scratch = Scratch::new();
                let (summary, _) = run(&scratch, &line);
                let committed = summary.migration().committed;
                assert!(committed >= at_least(2_000), "{line}: {committed}");
                for (key, asked) in [("strategy", strategy), ("backend", backend), ("wait", wait)] {
                    assert_eq!(summary.at("/config")[key], asked, "{line}");
                }
            }
        }
    }
}

#[test]
fn each_combination_on_two_vcpus() {
    each_combination(2);
}

#[test]
fn each_combination_on_four_vcpus() {
    each_combination(4);
}

#[test]
fn list_names_every_choice() {
    let scratch = Scratch::new();
    let finished = Command::underfoot(&scratch).words("list").run();
    finished.assert_status(0);
    let kinds = underfoot_abi::PageKind::TARGETS.map(underfoot_abi::PageKind::name);
    for name in STRATEGIES
        .iter()
        .chain(&BACKENDS)
        .chain(&WAITS)
        .chain(&kinds)
        .chain(&["walk", "none"])
    {
        assert!(
            finished
                .stdout
                .lines()
                .any(|line| line.split_whitespace().any(|word| word == *name)),
            "{name} is not listed:\n{}",
            finished.stdout
        );
    }
}
