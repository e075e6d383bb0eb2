//! A guest that fails ends the run with a verdict, not with silence.

use std::fs;

use underfoot_tests::{Command, Finished, Scratch, kvm, turn};

fn failing(scratch: &Scratch, variant: &str) -> Finished {
    let _turn = turn();
    let finished = Command::underfoot(scratch)
        .words(&format!("run --duration 5s --variant {variant} --out"))
        .args([scratch.join("run")])
        .run();
    finished.assert_status(1);
    scratch.assert_untouched();
    finished
}

#[test]
fn a_crash_is_reported_with_its_registers() {
    if kvm() {
        let scratch = Scratch::new();
        let finished = failing(&scratch, "busted-crash");
        finished.assert_says(&["guest", "invalid opcode", "rip", "rsp", "cr2", "CPU"]);
    }
}

#[test]
fn a_triple_fault_is_reported_with_its_registers() {
    if kvm() {
        let scratch = Scratch::new();
        let finished = failing(&scratch, "busted-triple-fault");
        finished.assert_says(&["guest", "triple fault", "rip", "rsp", "cr3", "vCPU"]);
    }
}

#[test]
fn an_rcu_stall_is_reported_on_the_console() {
    if kvm() {
        let scratch = Scratch::new();
        failing(&scratch, "busted-rcu-stall").assert_says(&["RCU", "stall"]);
        let console = fs::read_to_string(scratch.join("run/console.log")).expect("the console");
        assert!(console.contains("stall"), "{console}");
    }
}
