//! What a run does is told while it goes on.

use serde_json::Value;
use underfoot_tests::{Command, Scratch, kvm, turn};

#[test]
#[cfg_attr(no_kvm, ignore = "this host has no /dev/kvm for us")]
fn intervals_follow_each_other_and_add_up() {
    if !kvm() {
        return;
    }
    let _turn = turn();
    let scratch = Scratch::new();
    let json = scratch.join("run.json");
    let finished = Command::underfoot(&scratch)
        .words("run --interval 200ms --duration 1500ms --warmup 50ms --cpus 2 --json")
        .args([json.clone()])
        .run();
    finished.assert_status(0);
    let lines = finished.stdout.lines().filter(|line| line.starts_with('{'));
    let lines: Vec<Value> = lines
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let run = finished.summary(&json);
    for phase in ["control", "moving"] {
        let mine: Vec<_> = lines.iter().filter(|line| line["phase"] == phase).collect();
        assert!(mine.len() >= 2, "{phase}: {lines:?}");
        assert_eq!(mine[0]["from_ns"], 0);
        assert!(
            mine.windows(2)
                .all(|pair| pair[0]["to_ns"] == pair[1]["from_ns"])
        );
        let sum = |key: &str| {
            mine.iter()
                .map(|line| line[key].as_u64().expect("a number"))
                .sum::<u64>()
        };
        // What is done after the last line, before all have stopped, is in the results alone.
        let committed = run.migration().committed;
        assert_eq!(sum("pages") > 0, phase == "moving", "{mine:?}");
        assert!(sum("pages") <= committed, "{} of {committed}", sum("pages"));
        assert!(sum("operations") > 0, "{phase}");
        let section = if phase == "moving" {
            "histograms"
        } else {
            "control"
        };
        for name in ["window", "guest.access"] {
            let told = mine
                .iter()
                .map(|line| line[name]["count"].as_u64().expect("a count"))
                .sum::<u64>();
            let all = run
                .histograms(section)
                .get(name)
                .map_or(0, |histogram| histogram.count);
            assert!(told <= all, "{phase}, {name}: {told} of {all}");
        }
    }
}

#[test]
fn lines_and_results_do_not_share_standard_output() {
    let scratch = Scratch::new();
    for (flags, says) in [
        ("--interval 1s --json -", "name a file"),
        ("--interval 99ms", "100ms"),
        ("--interval soon", "--interval"),
    ] {
        let finished = Command::underfoot(&scratch).words("run").words(flags).run();
        finished.assert_status(2);
        finished.assert_says(&[says]);
        scratch.assert_untouched();
    }
}
