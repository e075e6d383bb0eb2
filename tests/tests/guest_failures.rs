//! A guest that fails ends the run with a verdict, not with silence.

use std::fs;

use underfoot_tests::{Command, Finished, Scratch, attempt, kvm, turn};

/// Runs until one stands still where it should.
const STANDSTILLS: u32 = 5;

fn failing(scratch: &Scratch, variant: &str) -> Finished {
    ending(scratch, variant, "5s", 1)
}

fn ending(scratch: &Scratch, variant: &str, duration: &str, status: i32) -> Finished {
    let _turn = turn();
    let finished = Command::underfoot(scratch)
        .words(&format!(
            "run --duration {duration} --variant {variant} --out"
        ))
        .args([scratch.join("run")])
        .run();
    finished.assert_status(status);
    scratch.assert_untouched();
    finished
}

#[test]
#[cfg_attr(no_kvm, ignore = "this host has no /dev/kvm for us")]
fn a_crash_is_reported_with_its_registers() {
    if kvm() {
        let scratch = Scratch::new();
        let finished = failing(&scratch, "busted-crash");
        finished.assert_says(&["guest", "invalid opcode", "rip", "rsp", "cr2", "CPU"]);
    }
}

#[test]
#[cfg_attr(no_kvm, ignore = "this host has no /dev/kvm for us")]
fn a_triple_fault_is_reported_with_its_registers() {
    if kvm() {
        let scratch = Scratch::new();
        let finished = failing(&scratch, "busted-triple-fault");
        finished.assert_says(&["guest", "triple fault", "rip", "rsp", "cr3", "vCPU"]);
    }
}

#[test]
#[cfg_attr(no_kvm, ignore = "this host has no /dev/kvm for us")]
fn an_rcu_stall_is_reported_on_the_console() {
    if kvm() {
        let scratch = Scratch::new();
        failing(&scratch, "busted-rcu-stall --cpus 2").assert_says(&["RCU", "stall"]);
        let console = fs::read_to_string(scratch.join("run/console.log")).expect("the console");
        // The last CPU is the one that holds it up, whoever reports it.
        let (_, blamed) = console
            .split_once("waiting for CPUs 0x2; CPU 1 ")
            .expect(&console);
        // "was at P N ms ago", or on a host that kept it from running "took no tick for N ms, last at P".
        let position = blamed
            .split_whitespace()
            .find_map(|it| it.strip_prefix("0x"));
        let position = position.and_then(|hex| u64::from_str_radix(hex, 16).ok());
        assert!(position.is_some_and(|rip| rip != 0), "{console}");
    }
}

/// Too short for the watchdog to see it while it runs: then it does not wait for the whole audit.
#[test]
#[cfg_attr(no_kvm, ignore = "this host has no /dev/kvm for us")]
fn a_vcpu_that_stands_still_in_a_short_run_is_told_too() {
    if kvm() {
        let scratch = Scratch::new();
        let finished = ending(&scratch, "busted-stuck", "4s", 3);
        finished.assert_says(&["vCPU", "got nowhere for", "did not stop"]);
    }
}

/// It stands still just before the end: the run is not as patient as with a guest that does something.
#[test]
#[cfg_attr(no_kvm, ignore = "this host has no /dev/kvm for us")]
fn a_guest_that_does_nothing_when_asked_to_stop_is_told_with_who_waits() {
    if kvm() {
        let scratch = Scratch::new();
        // It stands still after some ticks of the moving phase, which take a while on a busy host.
        let finished = ending(&scratch, "busted-stuck", "3s", 3);
        finished.assert_says(&[
            "did not stop",
            "did nothing for 5s",
            "vCPU 0 ",
            "vCPU 1 runs",
            ON_THE_HOST,
        ]);
    }
}

#[test]
#[cfg_attr(no_kvm, ignore = "this host has no /dev/kvm for us")]
fn a_vcpu_that_stands_still_is_ended_by_the_watchdog() {
    if kvm() {
        let scratch = Scratch::new();
        let finished = ending(&scratch, "busted-stuck", "20s", 3);
        finished.assert_says(&["vCPU", "got nowhere for", ON_THE_HOST]);
    }
}

/// What the kernel says of threads and faults is told with what the guest says: this vCPU hangs by itself.
const ON_THE_HOST: &str =
    "vCPU 1's thread runs; 0 sleep in faults of guest memory, 0 of them unread by the engine";

/// What a guest that hangs is waiting for, and who holds that: spinlocks are held by vCPUs, locks that sleep by threads.
/// Where the CPU that gets stuck holds nothing that others want, another run does.
#[test]
#[cfg_attr(no_kvm, ignore = "this host has no /dev/kvm for us")]
fn a_guest_that_stands_still_is_told_with_who_holds_what_is_waited_for() {
    if !kvm() {
        return;
    }
    for (more, parts) in [
        (
            "busted-stuck --workload lock --parameters locks=1,threads=1,section-ns=100000",
            [
                "vCPU 0 waits for the spinlock 0x",
                ", which vCPU 1 holds, in thread ",
                "vCPU 1 runs, in thread ",
                ", holds the spinlock 0x",
            ],
        ),
        (
            "busted-stuck --workload fault --parameters path=mmap-lock,mappers=2",
            [
                "thread 0 of vCPU 0 sleeps and waits for the end of thread ",
                " sleeps and waits for the read-write semaphore 0x",
                ", which thread ",
                " of vCPU 1 holds",
            ],
        ),
        (
            "busted-plain-lock --workload mmap1",
            [
                " waits for the spinlock 0x",
                ", which vCPU 0 holds, in thread ",
                ", holds the spinlock 0x",
                "in a bottom half",
            ],
        ),
    ] {
        let mut said = Vec::new();
        let is_told = (0..STANDSTILLS).any(|_| {
            let _turn = turn();
            let line = format!("--cpus 2 --control 0% --duration 8s --variant {more}");
            let (_, finished) = attempt(&Scratch::new(), &line);
            let told = parts.iter().all(|part| finished.stderr.contains(part));
            said.push(finished.stderr);
            told
        });
        assert!(is_told, "{more}: {said:#?}");
    }
}

/// Threads exist before the first of them runs: who has no memory for all measures nothing with some.
#[test]
#[cfg_attr(no_kvm, ignore = "this host has no /dev/kvm for us")]
fn memory_that_does_not_hold_all_stacks_ends_the_guest_before_anything_is_measured() {
    if kvm() {
        let scratch = Scratch::new();
        let _turn = turn();
        let finished = Command::underfoot(&scratch)
            .words("run --workload mix --cpus 16 --memory 16MiB --duration 2s --out")
            .args([scratch.join("run")])
            .run();
        finished.assert_status(1);
        finished.assert_says(&[
            "--memory 16MiB",
            "too little for the workload's threads",
            "have their stacks",
        ]);
        assert!(!scratch.join("run/run.json").exists());
    }
}

/// Refused before anything runs, with the value, the bound and the least memory that would do: and in so much it runs.
#[test]
#[cfg_attr(no_kvm, ignore = "this host has no /dev/kvm for us")]
fn parameters_that_memory_cannot_hold_are_refused_with_what_would_do() {
    if !kvm() {
        return;
    }
    for (line, told) in [
        (
            "--workload mmap1 --parameters reserve=20000",
            "reserve=20000",
        ),
        (
            "--workload exit --parameters reserve=20000",
            "reserve=20000",
        ),
        (
            "--workload fault --parameters reserve=11000",
            "reserve=11000",
        ),
        (
            "--workload pressure --parameters reserve=20000",
            "reserve=20000",
        ),
        (
            "--workload dma --cpus 16 --parameters depth=64,bytes=16384",
            "depth=64",
        ),
        (
            "--workload lock --cpus 48 --memory 32MiB --parameters threads=4",
            "threads=4",
        ),
    ] {
        let scratch = Scratch::new();
        let _turn = turn();
        let words = format!("run --duration 1s --control 0% --warmup 0s {line} --out");
        let run = |memory: &str| {
            Command::underfoot(&scratch)
                .words(&format!(
                    "{words} {} {memory}",
                    scratch.join("run").display()
                ))
                .run()
        };
        let finished = run("");
        finished.assert_status(2);
        finished.assert_says(&[
            "is too little for workload",
            told,
            "free pages of the",
            "or a lower",
        ]);
        assert!(!scratch.join("run").exists(), "{line}");
        let least = finished.stderr.split("give it ").nth(1);
        let least = least.and_then(|rest| rest.split(" or more").next());
        let least = least.unwrap_or_else(|| panic!("{}", finished.stderr));
        if line.contains("--memory") {
            continue;
        }
        run(least).assert_status(0);
    }
}

/// Spaces that want more memory than there is: each life is as long as its memory lasts.
#[test]
#[cfg_attr(no_kvm, ignore = "this host has no /dev/kvm for us")]
fn exits_without_memory_are_reported_and_the_run_ends() {
    if kvm() {
        let _turn = turn();
        let line = "--workload exit --memory 16MiB --cpus 4 --duration 3s --parameters \
                    reserve=1500,threads=4,regions=32,pages=1,tables=whole";
        let (summary, finished) = attempt(&Scratch::new(), line);
        finished.assert_status(0);
        assert!(
            summary.number("/guest/reports_made") > 0,
            "{}",
            finished.stdout
        );
        assert!(
            finished.stdout.contains("out-of-memory"),
            "{}",
            finished.stdout
        );
    }
}

/// Spaces so much larger than memory that none is ever whole: it is told what lacked, and what helps.
#[test]
#[cfg_attr(no_kvm, ignore = "this host has no /dev/kvm for us")]
fn a_workload_that_memory_is_too_little_for_says_so() {
    if kvm() {
        let _turn = turn();
        let line = "--workload exit --memory 32MiB --cpus 16 --duration 1s --warmup 0s --strategy none \
                    --parameters threads=4,regions=32,pages=1024";
        let (summary, finished) = attempt(&Scratch::new(), line);
        finished.assert_status(1);
        finished.assert_says(&[
            "--memory 32MiB",
            "finished nothing",
            "give the guest more",
            "regions=32",
        ]);
        assert_eq!(summary.number("/integrity/errors"), 0);
    }
}

/// Allocators that hold more than there is, and a reserve that nobody may take: nothing is left to take
/// away from address spaces.
const TOO_MUCH: &str = "--workload pressure --memory 16MiB --duration 3s --parameters \
                        reserve=1500,allocators=16,held=256";

/// It goes on: what is scarce for some is given back by others.
#[test]
#[cfg_attr(no_kvm, ignore = "this host has no /dev/kvm for us")]
fn a_guest_out_of_memory_says_so_and_goes_on() {
    if !kvm() {
        return;
    }
    let _turn = turn();
    let (summary, finished) = attempt(&Scratch::new(), TOO_MUCH);
    finished.assert_status(0);
    summary.assert_sound();
    assert_eq!(summary.at("/guest/reports/0/kind"), "out-of-memory");
    let failed = ["control", "moving"].map(|phase| {
        let counters = format!("/guest/counters/{phase}");
        assert!(summary.number(&format!("{counters}/operations")) > 0);
        summary.number(&format!("{counters}/failed"))
    });
    let failed: u64 = failed.iter().sum();
    assert!(failed > 0);
    // Once a want, and once a second.
    let told = summary.number("/guest/reports_by_kind/out-of-memory");
    assert!(told <= 5 && told < failed, "{told} of {failed}");
    let text = summary.at("/guest/reports/0/text").to_string();
    for part in [
        ".rs:",
        " by thread ",
        "(min 1500, low ",
        "direct reclaims freed",
        "mapped by spaces",
    ] {
        assert!(text.contains(part), "{text}");
    }
}
