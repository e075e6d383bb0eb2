//! Stopping vCPUs and letting them go on; ending a machine.

use crate::common::{
    COUNTER, Code, LOW_COUNTER, config, elf, exit, have_kvm, machine, patience, until, word,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;
use underfoot_migrator::Vcpus;
use underfoot_vmm::{Machine, MachineConfig, Wake};

/// Every vCPU but the first counts here for ever, in real mode.
const OTHERS: u32 = LOW_COUNTER as u32 + 4;

/// A guest whose vCPUs all count for ever.
fn counting(cpus: u32) -> Machine {
    let code = Code::default()
        .start_others()
        .wait_for(LOW_COUNTER.into(), cpus - 1)
        .count_for_ever(COUNTER);
    let mut machine = machine(&code, cpus);
    machine.start();
    until("the start of every vCPU", || {
        word(&machine, COUNTER) > 0 && (cpus == 1 || word(&machine, OTHERS) > 0)
    });
    machine
}

fn words(machine: &Machine) -> (u32, u32) {
    (word(machine, COUNTER), word(machine, OTHERS))
}

#[test]
#[cfg_attr(no_kvm, ignore = "this host has no /dev/kvm for us")]
fn nothing_runs_while_paused_and_everything_afterwards() {
    if !have_kvm() {
        return;
    }
    for cpus in [1, 2, 6] {
        let machine = counting(cpus);
        for _ in 0..50 {
            let paused = machine.vcpus().pause();
            let before = words(&machine);
            for _ in 0..100 {
                std::thread::yield_now();
            }
            assert_eq!(words(&machine), before);
            drop(paused);
            until("progress", || word(&machine, COUNTER) != before.0);
        }
    }
}

#[test]
#[cfg_attr(no_kvm, ignore = "this host has no /dev/kvm for us")]
fn pauses_and_holds_add_up() {
    if !have_kvm() {
        return;
    }
    let machine = counting(2);
    let vcpus = machine.vcpus();
    let first = vcpus.hold(0);
    let second = vcpus.hold(0);
    let all = vcpus.pause();
    drop(first);
    drop(all);
    let before = words(&machine);
    until("progress of the other", || {
        word(&machine, OTHERS) != before.1
    });
    assert_eq!(word(&machine, COUNTER), before.0);
    drop(second);
    until("progress of both", || word(&machine, COUNTER) != before.0);
}

#[test]
#[cfg_attr(no_kvm, ignore = "this host has no /dev/kvm for us")]
fn the_count_is_exact_however_often_the_guest_is_stopped() {
    if !have_kvm() {
        return;
    }
    const TIMES: u32 = 20_000;
    let mut machine = machine(&Code::default().count(COUNTER, TIMES).exit(0), 4);
    let vcpus = Arc::clone(machine.vcpus());
    let over = Arc::new(AtomicBool::new(false));
    let pauses = Arc::new(AtomicU32::new(0));
    let pausers: Vec<_> = (0..2)
        .map(|_| {
            let (vcpus, over, pauses) =
                (Arc::clone(&vcpus), Arc::clone(&over), Arc::clone(&pauses));
            std::thread::spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    let set: &dyn Vcpus = &*vcpus;
                    set.pause().unwrap();
                    pauses.fetch_add(1, Ordering::Relaxed);
                    set.resume();
                    drop(vcpus.hold(0));
                }
            })
        })
        .collect();
    machine.start();
    let report = exit(&mut machine);
    over.store(true, Ordering::Relaxed);
    pausers
        .into_iter()
        .for_each(|thread| thread.join().unwrap());
    let outcome = machine.stop(Duration::ZERO);
    assert!(report.is_sound() && outcome.exits.is_empty());
    assert_eq!(word(&machine, COUNTER), TIMES);
    assert!(pauses.load(Ordering::Relaxed) > 0);
    assert!(vcpus.entries(0) > 0);
}

#[test]
#[cfg_attr(no_kvm, ignore = "this host has no /dev/kvm for us")]
fn a_guest_that_has_not_started_can_be_paused_and_stopped() {
    if !have_kvm() {
        return;
    }
    let mut machine = machine(&Code::default().count_for_ever(COUNTER), 3);
    drop(machine.vcpus().pause());
    assert_eq!(machine.vcpus().entries(0), 0);
    let outcome = machine.stop(Duration::from_secs(1));
    assert!(!outcome.in_order && outcome.exits.is_empty());
    assert_eq!(word(&machine, COUNTER), 0);
    // A vCPU that is gone counts as stopped, and a second stop finds nothing to do.
    drop(machine.vcpus().pause());
    machine.stop(Duration::ZERO);
}

#[test]
#[cfg_attr(no_kvm, ignore = "this host has no /dev/kvm for us")]
fn every_thread_ends_with_the_machine() {
    if !have_kvm() {
        return;
    }
    let alive = |ids: &[i32]| {
        let path = |id: &i32| std::path::PathBuf::from(format!("/proc/self/task/{id}"));
        ids.iter().filter(|id| path(id).exists()).count()
    };
    let spinning = counting(4);
    let halted = {
        let mut machine = machine(&Code::default().halt(), 2);
        machine.start();
        machine
    };
    for machine in [spinning, halted] {
        let ids = machine.vcpus().thread_ids();
        let kept = Arc::clone(machine.vcpus());
        assert_eq!(alive(&ids), ids.len());
        drop(machine);
        until("the end of the threads", || alive(&ids) == 0);
        drop(kept);
    }
}

#[test]
#[cfg_attr(no_kvm, ignore = "this host has no /dev/kvm for us")]
fn signals_wake_the_owner_and_are_let_through_again_afterwards() {
    if !have_kvm() {
        return;
    }
    let blocked = || vmm_sys_util::signal::get_blocked_signals().unwrap();
    assert!(!blocked().contains(&libc::SIGTERM));
    let image = elf(&Code::default().halt());
    let mut machine = Machine::new(MachineConfig {
        signals: true,
        ..config(&image, 1)
    })
    .unwrap();
    machine.start();
    for signal in [libc::SIGTERM, libc::SIGINT] {
        assert!(blocked().contains(&signal));
        // SAFETY: raise sends a signal to this thread, which has it blocked.
        assert_eq!(unsafe { libc::raise(signal) }, 0);
        assert_eq!(machine.wait(patience()).unwrap(), Wake::Signal(signal));
    }
    // One that nobody has taken must not end the process when the machine goes.
    // SAFETY: as above.
    assert_eq!(unsafe { libc::raise(libc::SIGTERM) }, 0);
    drop(machine);
    assert!(!blocked().contains(&libc::SIGTERM));
}
