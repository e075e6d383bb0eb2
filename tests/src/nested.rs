//! Runs in the boxes, which have nested paging where this machine may have none.

use std::fs;
use std::io::Write;
use std::time::Duration;

use serde_json::Value;
use underfoot_abi::PageKind;

use crate::{Command, Scratch, Summary, build_static, workspace};

/// The boxes have limits of their own, which are shorter and say more.
const BOX_LIMIT: Duration = Duration::from_secs(3600);

/// What the box's kernel says where QEMU's emulation failed it: a CPU ran into the breakpoint by which
/// another one patches code (`hold-vm` spares most of that), or waits for ever for another one.
const KERNEL_FAILED: [&str; 2] = ["Oops: int3", "BUG: soft lockup"];
/// The box's status when it is stopped: its kernel waits for ever now and then (CONTRIBUTING.md).
const OUT_OF_TIME: i32 = 124;
/// Boots at most, for that.
const BOOTS: u32 = 4;
/// What the guest says that was given an interrupt while it had them masked: TCG does that, by leaving an
/// injected interrupt noted where the next reason to leave its loop delivers it again (CONTRIBUTING.md).
const MASKED_INTERRUPT: &str = "an interrupt was delivered while they were masked";
/// Runs of one command at most, for that.
const ATTEMPTS: u32 = 4;
/// How a guest may end, too, to which an interrupt was delivered twice: by no check of what it holds.
const DEAD: &str = "triple fault of the guest|did not stop when it was asked to";
/// Runs of one command at most that end so.
const OTHER_ATTEMPTS: u32 = 2;
/// What the box's shell says of a run that it repeats, for either reason.
const TWICE: &str = "the emulator delivered an interrupt twice; once more";
const DIED: &str = "its guest died; once more";

/// Runs `underfoot run` with the words of `line` at CPL 0 and at CPL 3 in the box `name` (a script
/// under `tests/box`), with more `options` for the box, and checks that its stage 2 was `stage2`,
/// that nothing was lost and that every kind of page moved.
///
/// # Panics
///
/// If the box does not run, a run in it fails, or a summary is not sound.
pub fn assert_runs_in_box(name: &str, options: &str, stage2: &str, line: &str) {
    let runs = [0, 3].map(|cpl| (format!("cpl{cpl}"), format!("--cpl {cpl} {line}")));
    let summaries = run_in_box(name, options, &runs);
    for (cpl, summary) in [0, 3].into_iter().zip(&summaries) {
        assert_moved(summary, stage2, cpl);
    }
}

/// Runs each of `workloads` with the words of `line`, among them its privilege level, in the box
/// `name`, and checks that it did something, that pages moved and that nothing was lost.
///
/// # Panics
///
/// As [`assert_runs_in_box`].
pub fn assert_workloads_run_in_box(name: &str, options: &str, workloads: &[String], line: &str) {
    let run = |workload: &String| {
        // Emulated, most of a second's operations wait for reclaim: a little scarcity is enough there.
        let told = match workload.as_str() {
            "pressure" => "--parameters demand=110,allocators=1,held=16",
            _ => "",
        };
        let words = format!("--workload {workload} {told} {line}");
        (workload.clone(), words)
    };
    let runs: Vec<_> = workloads.iter().map(run).collect();
    for (workload, summary) in workloads.iter().zip(run_in_box(name, options, &runs)) {
        summary.assert_sound();
        assert!(
            summary.migration().committed > 0,
            "{workload}: nothing moved"
        );
        let operations = summary.number("/guest/counters/moving/operations");
        assert!(operations > 0, "{workload}: no operations");
    }
}

/// Runs `underfoot run` once for each name and words of `runs`, one after the other, in one box.
///
/// # Panics
///
/// If the box does not run, or a run in it fails.
#[must_use]
pub fn run_in_box(name: &str, options: &str, runs: &[(String, String)]) -> Vec<Summary> {
    let command = |(run, line): &(String, String)| {
        let line = format!("run --out /tmp/{run} --json /out/{run}.json {line}");
        (run.clone(), line)
    };
    let commands: Vec<_> = runs.iter().map(command).collect();
    let results = results_in_box(name, options, &commands);
    results.iter().map(|text| Summary::parse(text)).collect()
}

/// Runs `underfoot torture` with the words of `line` in the box `name`; its JSON.
///
/// # Panics
///
/// If the box does not run, or the walk fails.
#[must_use]
pub fn torture_in_box(name: &str, options: &str, line: &str) -> Value {
    let line = format!("torture --out /tmp/failed --json /out/torture.json {line}");
    let results = results_in_box(name, options, &[("torture".to_owned(), line)]);
    serde_json::from_str(&results[0]).expect("JSON")
}

/// Runs `underfoot` once for each result's name and words of `commands`, in one box; what each wrote
/// to `/out/NAME.json`.
fn results_in_box(name: &str, options: &str, commands: &[(String, String)]) -> Vec<String> {
    let scratch = Scratch::new();
    let packed = scratch.join("packed");
    fs::create_dir(&packed).expect("a directory");
    let built = build_static();
    for (from, name) in [(built.underfoot, "underfoot"), (built.hold_vm, "hold-vm")] {
        fs::copy(from, packed.join(name)).expect("a copy of the program");
    }
    let results = scratch.join("results");
    let command = |(name, line): &(String, String)| attempts(name, line);
    let script = workspace().join("tests/box").join(name);
    let boot = || {
        Command::new(&script, &scratch)
            .words(options)
            .words("-o")
            .args([&results, &packed])
            .args([commands.iter().map(command).collect::<String>()])
            .limit(BOX_LIMIT)
            .run()
    };
    let mut finished = boot();
    let mut repeats = Repeats::default();
    for _ in 1..BOOTS {
        let said = |words: &&str| finished.stdout.contains(*words);
        let stuck = finished.status.code() == Some(OUT_OF_TIME);
        if !stuck && !KERNEL_FAILED.iter().any(said) {
            break;
        }
        eprintln!("the emulator failed the box's kernel; once more");
        repeats.add(&finished.stdout);
        repeats.boots += 1;
        finished = boot();
    }
    repeats.add(&finished.stdout);
    repeats.tell(name, commands.len());
    println!("{}", finished.stdout);
    finished.assert_status(0);
    let result = |(name, _): &(String, String)| {
        let path = results.join(format!("{name}.json"));
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    };
    commands.iter().map(result).collect()
}

/// How often the emulator's failures had something done once more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Repeats {
    /// Boots of the box.
    boots: usize,
    /// Runs whose guest was given an interrupt twice.
    twice: usize,
    /// Runs whose guest died.
    died: usize,
}

impl Repeats {
    /// Counts what a box said of its runs.
    fn add(&mut self, said: &str) {
        let count = |what: &str| {
            said.lines()
                .filter(|line| line.trim_end().ends_with(what))
                .count()
        };
        self.twice += count(TWICE);
        self.died += count(DIED);
    }

    /// Says how often, also of a test that passes: nobody may think that it went well at once.
    fn tell(self, name: &str, runs: usize) {
        let Self { boots, twice, died } = self;
        let line = format!(
            "{name} box, {runs} runs: repeated {twice} for an interrupt delivered twice, {died} for a guest that died; \
             booted again {boots} times\n"
        );
        // Not by `eprint`, which the test harness keeps to itself.
        let _ = std::io::stderr().write_all(line.as_bytes());
    }
}

/// For the box's shell: runs `underfoot` with the words of `line`, again where TCG failed the guest, and
/// leaves with its status where that is not 0. What is repeated is said.
fn attempts(name: &str, line: &str) -> String {
    format!(
        "for attempt in $(seq {ATTEMPTS}); do \
           /underfoot {line} >/tmp/told 2>/tmp/said; status=$?; cat /tmp/told /tmp/said; \
           [ $status = 0 ] && break; \
           if grep -q '{MASKED_INTERRUPT}' /tmp/said; then \
             echo '{name}: {TWICE}'; \
           elif [ $attempt -lt {OTHER_ATTEMPTS} ] && grep -Eq '{DEAD}' /tmp/said && \
             grep -q ' 0 errors$' /tmp/told; then echo '{name}: {DIED}'; \
           else exit $status; fi; \
           rm -rf /tmp/{name}; \
         done; \
         [ $status = 0 ] || exit $status; "
    )
}

fn assert_moved(summary: &Summary, stage2: &str, cpl: u64) {
    summary.assert_sound();
    assert_eq!(summary.at("/host/stage2"), stage2, "CPL {cpl}");
    assert_eq!(summary.number("/config/cpl"), cpl);
    let by_kind = summary.by_kind();
    for kind in PageKind::TARGETS.map(PageKind::name) {
        assert!(
            by_kind[kind].committed > 0,
            "CPL {cpl}: no {kind} page moved"
        );
        assert!(
            summary.verified(kind) > 0,
            "CPL {cpl}: no {kind} frame seen"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_shell_repeats_is_counted() {
        let script = attempts("walk", "run");
        assert!(script.contains(TWICE) && script.contains(DIED));
        let mut repeats = Repeats::default();
        repeats.add(&format!(
            "walk: {TWICE}\r\nintegrity 7 checks, 0 errors\nwalk: {DIED}\n"
        ));
        repeats.add(&format!("exit: {TWICE}\n"));
        let (boots, twice, died) = (0, 2, 1);
        assert_eq!(repeats, Repeats { boots, twice, died });
    }
}
