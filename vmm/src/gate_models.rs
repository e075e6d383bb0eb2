//! The park protocol under loom: every interleaving of a vCPU and those who stop it.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p underfoot-vmm --release --lib gate_models`

use crate::gate::{Gate, Pass};
use loom::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;

/// KVM_RUN and the kick: entering looks at `immediate_exit` and sleeps in one step, as the kernel
/// does with signals; a kick outside of KVM_RUN finds nobody and is lost.
struct Kvm {
    immediate_exit: AtomicBool,
    running: Mutex<bool>,
    kicked: Condvar,
}

impl Kvm {
    fn run(&self) {
        let mut running = self.running.lock().unwrap();
        if self.immediate_exit.load(Ordering::SeqCst) {
            return;
        }
        *running = true;
        while *running {
            running = self.kicked.wait(running).unwrap();
        }
    }

    fn poke(&self) {
        self.immediate_exit.store(true, Ordering::SeqCst);
        *self.running.lock().unwrap() = false;
        self.kicked.notify_all();
    }
}

struct Model {
    gate: Gate,
    kvm: Kvm,
    in_guest: AtomicBool,
    entries: AtomicU32,
}

impl Model {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            gate: Gate::held(),
            kvm: Kvm {
                immediate_exit: AtomicBool::new(false),
                running: Mutex::new(false),
                kicked: Condvar::new(),
            },
            in_guest: AtomicBool::new(false),
            entries: AtomicU32::new(0),
        })
    }

    /// A guest that never leaves KVM_RUN by itself: whoever is lost sleeps for ever, which loom
    /// reports as a deadlock.
    fn vcpu(this: &Arc<Self>) -> thread::JoinHandle<()> {
        let model = Arc::clone(this);
        thread::spawn(move || {
            let clear = || model.kvm.immediate_exit.store(false, Ordering::SeqCst);
            while model.gate.pass(clear) == Pass::Enter {
                model.in_guest.store(true, Ordering::SeqCst);
                model.entries.fetch_add(1, Ordering::SeqCst);
                model.kvm.run();
                model.in_guest.store(false, Ordering::SeqCst);
            }
            model.gate.leave();
        })
    }

    fn hold(&self) {
        self.gate.hold(|| self.kvm.poke());
        self.gate.wait_outside();
    }

    fn stop(&self) {
        self.gate.stop(|| self.kvm.poke());
    }
}

#[test]
fn a_held_vcpu_is_outside_and_no_request_is_lost() {
    loom::model(|| {
        let model = Model::new();
        let vcpu = Model::vcpu(&model);
        model.gate.release();
        model.hold();
        assert!(!model.in_guest.load(Ordering::SeqCst));
        model.gate.release();
        model.stop();
        vcpu.join().unwrap();
        assert!(!model.in_guest.load(Ordering::SeqCst));
    });
}

#[test]
fn two_who_hold_at_once_both_find_it_outside() {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(2);
    builder.check(|| {
        let model = Model::new();
        let vcpu = Model::vcpu(&model);
        let other = {
            let model = Arc::clone(&model);
            thread::spawn(move || {
                model.hold();
                assert!(!model.in_guest.load(Ordering::SeqCst));
                model.gate.release();
            })
        };
        model.gate.release();
        model.hold();
        assert!(!model.in_guest.load(Ordering::SeqCst));
        model.gate.release();
        other.join().unwrap();
        model.stop();
        vcpu.join().unwrap();
    });
}

#[test]
fn a_vcpu_that_never_started_can_be_stopped() {
    loom::model(|| {
        let model = Model::new();
        let vcpu = Model::vcpu(&model);
        model.stop();
        model.gate.wait_outside();
        vcpu.join().unwrap();
        assert_eq!(model.entries.load(Ordering::SeqCst), 0);
    });
}
