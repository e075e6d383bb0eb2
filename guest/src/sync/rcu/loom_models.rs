//! What loom explores of the kinds of RCU: a reader of an object, and an updater that replaces it and
//! reuses it after a grace period. If the reader can still be at it then, loom says so.

use super::{
    PreemptRcu, Rcu, RcuFlavour, RcuHead, RcuStall, SrcuDomain, rig::Rig, waiters::Waiters,
};
use crate::{
    Cpu,
    fixture::{self, Fixture},
    sync::{
        atomic::{
            AtomicU32,
            Ordering::{Acquire, Relaxed, Release},
        },
        loom_models::{Shared, explore},
    },
};
use loom::{sync::Arc, thread};
use std::{ptr::NonNull, sync::OnceLock};
use underfoot_abi::{Phase, Variant};

fn silent(_: &Cpu, _: &RcuStall) {}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Reader {
    /// Reports between its sections.
    Right,
    /// Goes idle after its section.
    Idle,
    /// Starts grace periods of its own before its section.
    Starter,
    /// Reports within its section.
    Busted,
}

/// A reader of an object, and an updater that replaces it and reuses it after `wait`.
fn classic(reader: Reader, wait: bool) {
    explore(3, move || {
        let shared = Arc::new((
            Rcu::new(u64::MAX, silent),
            AtomicU32::new(0),
            [Shared::default(), Shared::default()],
        ));
        let (cpu, updater) = (fixture::shared_cpu(0), fixture::shared_cpu(1));
        shared.0.idle_exit(&cpu);
        shared.0.idle_exit(&updater);
        let thread = {
            let shared = shared.clone();
            thread::spawn(move || {
                let (rcu, current, objects) = &*shared;
                let cpu = fixture::shared_cpu(0);
                if reader == Reader::Starter {
                    rcu.want(&cpu);
                }
                if reader == Reader::Right || reader == Reader::Starter {
                    rcu.quiescent(&cpu);
                }
                let section = (reader != Reader::Busted).then(|| rcu.read_lock(&cpu));
                let index = current.load(Acquire) as usize;
                if reader == Reader::Busted {
                    rcu.quiescent(&cpu);
                }
                objects[index].get();
                drop(section);
                rcu.idle_enter(&cpu);
            })
        };
        shared.1.store(1, Release);
        if wait {
            shared.0.synchronize(&updater);
        }
        shared.2[0].add();
        thread.join().expect("no panic");
    });
}

#[test]
fn loom_rcu_grace_period_waits_for_readers() {
    classic(Reader::Right, true);
}

#[test]
fn loom_rcu_grace_period_of_another_cpu_is_no_shortcut() {
    classic(Reader::Starter, true);
}

#[test]
fn loom_rcu_idle_cpu_counts_as_quiescent() {
    classic(Reader::Idle, true);
}

#[test]
#[should_panic(expected = "Causality violation")]
fn loom_rcu_without_grace_period_is_caught() {
    classic(Reader::Idle, false);
}

#[test]
#[should_panic(expected = "Causality violation")]
fn loom_rcu_report_within_a_section_is_caught() {
    classic(Reader::Busted, true);
}

#[test]
fn loom_rcu_idle_exit_is_waited_for_again() {
    explore(3, || {
        let shared = Arc::new((
            Rcu::new(u64::MAX, silent),
            AtomicU32::new(0),
            [Shared::default(), Shared::default()],
        ));
        let updater = fixture::shared_cpu(1);
        shared.0.idle_exit(&updater);
        let thread = {
            let shared = shared.clone();
            thread::spawn(move || {
                let (rcu, current, objects) = &*shared;
                let cpu = fixture::shared_cpu(0);
                rcu.idle_exit(&cpu);
                let section = rcu.read_lock(&cpu);
                objects[current.load(Acquire) as usize].get();
                drop(section);
                rcu.idle_enter(&cpu);
            })
        };
        shared.1.store(1, Release);
        shared.0.synchronize(&updater);
        shared.2[0].add();
        thread.join().expect("no panic");
    });
}

/// CPU `id` of a guest of this variant, with threads of its own.
fn busted(id: usize, variant: Variant) -> Cpu {
    static GUESTS: [OnceLock<Fixture>; 2] = [const { OnceLock::new() }; 2];
    let guest = &GUESTS[usize::from(variant == Variant::RcuSleepBusted)];
    let make = || {
        let fixture = Fixture::with(3, variant);
        let phase = &fixture.header.phase;
        phase.store(Phase::Warmup as u32, std::sync::atomic::Ordering::Relaxed);
        fixture
    };
    guest.get_or_init(make).cpu(id)
}

/// CPU `id` in a guest of this variant.
fn cpu(id: usize, variant: Variant) -> Cpu {
    match variant {
        Variant::None => fixture::shared_cpu(id),
        variant => busted(id, variant),
    }
}

/// What happens to a reader of the preemptible kind.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It is switched out in its section, and its CPU goes on to report.
    SwitchedOut,
    /// A tick meets it in its section.
    Ticked,
    /// It is switched out, and its CPU goes idle meanwhile.
    Idle,
}

/// A reader to which `fate` happens, and an updater that waits.
fn preemptible(fate: Fate, variant: Variant) {
    explore(2, move || {
        let shared = Arc::new((
            PreemptRcu::new(u64::MAX, silent),
            AtomicU32::new(0),
            [Shared::default(), Shared::default()],
        ));
        let rig = Rig::leak();
        let updater = rig.cpu(cpu(1, variant));
        shared.0.idle_exit(&rig.cpu(cpu(0, variant)));
        shared.0.idle_exit(&updater);
        let thread = {
            let shared = shared.clone();
            thread::spawn(move || {
                let (rcu, current, objects) = &*shared;
                let cpu = rig.cpu(cpu(0, variant));
                let section = rcu.read_lock(&cpu);
                let index = current.load(Acquire) as usize;
                let switch = |index| rig.switch(RcuFlavour::Preemptible(rcu), &cpu, index);
                match fate {
                    Fate::Ticked => rcu.tick(&cpu),
                    Fate::SwitchedOut => {
                        switch(1);
                        rcu.tick(&cpu);
                        switch(0);
                    }
                    Fate::Idle => {
                        switch(1);
                        rcu.idle_enter(&cpu);
                        rcu.idle_exit(&cpu);
                        switch(0);
                    }
                }
                objects[index].get();
                drop(section);
                rcu.idle_enter(&cpu);
            })
        };
        shared.1.store(1, Release);
        shared.0.synchronize(&updater);
        shared.2[0].add();
        thread.join().expect("no panic");
    });
}

#[test]
fn loom_preemptible_rcu_waits_for_a_reader_switched_out() {
    preemptible(Fate::SwitchedOut, Variant::None);
}

#[test]
fn loom_preemptible_rcu_waits_for_a_reader_that_a_tick_met() {
    preemptible(Fate::Ticked, Variant::None);
}

#[test]
fn loom_preemptible_rcu_waits_for_a_reader_of_an_idle_cpu() {
    preemptible(Fate::Idle, Variant::None);
}

#[test]
#[should_panic(expected = "Causality violation")]
fn loom_preemptible_rcu_that_forgets_switched_out_readers_is_caught() {
    preemptible(Fate::SwitchedOut, Variant::RcuPreemptBusted);
}

/// A reader, and an updater that replaces objects `rounds` times.
fn sleepable(rounds: usize, variant: Variant) {
    explore(2, move || {
        let shared = Arc::new((
            SrcuDomain::new(u64::MAX, silent),
            AtomicU32::new(0),
            [Shared::default(), Shared::default(), Shared::default()],
        ));
        let rig = Rig::leak();
        let thread = {
            let shared = shared.clone();
            thread::spawn(move || {
                let (domain, current, objects) = &*shared;
                let cpu = rig.cpu(cpu(0, variant));
                let section = domain.read_lock(&cpu);
                objects[current.load(Relaxed) as usize].get();
                drop(section);
            })
        };
        let updater = rig.cpu(cpu(1, variant));
        for round in 0..rounds {
            shared.1.store(round as u32 + 1, Release);
            shared.0.synchronize(&updater);
            shared.2[round].add();
        }
        thread.join().expect("no panic");
    });
}

#[test]
fn loom_sleepable_rcu_waits_for_readers() {
    sleepable(1, Variant::None);
}

/// The second grace period is what a reader meets that took its index before the first.
#[test]
fn loom_sleepable_rcu_waits_for_readers_of_either_index() {
    sleepable(2, Variant::None);
}

#[test]
#[should_panic(expected = "Causality violation")]
fn loom_sleepable_rcu_that_waits_for_nobody_is_caught() {
    sleepable(1, Variant::RcuSleepBusted);
}

/// Adds one to the [`Shared`] whose address is `value`, and queues itself on, once.
///
/// # Safety
/// There is such a value, in a leaked pair of it and the machine.
unsafe fn add_and_queue(cpu: &Cpu, head: NonNull<RcuHead>, value: usize) {
    // SAFETY: the caller's promise.
    let (rcu, object) = unsafe { &*core::ptr::with_exposed_provenance::<Drained>(value) };
    object.add();
    if object.get() == 1 {
        // SAFETY: it runs, so that the head is in no list.
        unsafe { rcu.call(cpu, head, add_and_queue, value) };
    }
}

type Drained = (Rcu, Shared);

/// A CPU's bottom half runs a callback, which queues itself once more, while another CPU drains all
/// lists with `drain` and looks at what they did.
fn drained(drain: unsafe fn(&Rcu, &Cpu)) {
    explore(2, move || {
        let drained = Arc::new((Rcu::new(u64::MAX, silent), Shared::default()));
        let home = Box::<RcuHead>::default();
        let head = NonNull::from(&*home);
        let cpu = fixture::shared_cpu(0);
        let value = core::ptr::from_ref::<Drained>(&drained).expose_provenance();
        // SAFETY: both live until this model's execution ends.
        unsafe { drained.0.call(&cpu, head, add_and_queue, value) };
        let thread = {
            let drained = drained.clone();
            thread::spawn(move || {
                drained.0.process(&fixture::shared_cpu(0));
            })
        };
        // SAFETY: nobody reads.
        unsafe { drain(&drained.0, &fixture::shared_cpu(1)) };
        assert_eq!(drained.1.get(), 2);
        thread.join().expect("no panic");
    });
}

#[test]
fn loom_drain_waits_for_a_callback_that_runs() {
    // SAFETY: the caller's promise is the same.
    drained(|rcu, cpu| unsafe { rcu.drain(cpu) });
}

#[test]
#[should_panic(expected = "Causality violation")]
fn loom_drain_that_looks_at_the_lists_alone_is_caught() {
    // SAFETY: the caller's promise is the same.
    drained(|rcu, cpu| unsafe { rcu.callbacks.drain_lists(cpu) });
}

/// A thread waits for what another CPU stores; `enlist` is how it goes to sleep. If it then does not
/// see that its wait is over, it must be woken.
fn waiter(enlist: fn(&Waiters, &Cpu)) {
    explore(3, move || {
        let shared = Arc::new((Waiters::new(), AtomicU32::new(0)));
        let rig = Rig::leak();
        let thread = {
            let shared = shared.clone();
            thread::spawn(move || {
                enlist(&shared.0, &rig.cpu(fixture::shared_cpu(0)));
                shared.1.load(Relaxed) != 0
            })
        };
        shared.1.store(1, Release);
        shared.0.wake(&rig.cpu(fixture::shared_cpu(1)));
        let over = thread.join().expect("no panic");
        let woken = rig.unparked.load(std::sync::atomic::Ordering::Relaxed) == 1;
        assert!(over || woken, "sleeps for ever");
    });
}

#[test]
fn loom_waiter_is_woken() {
    waiter(Waiters::enlist);
}

#[test]
#[should_panic(expected = "sleeps for ever")]
fn loom_waiter_that_does_not_enlist_sleeps_for_ever() {
    waiter(|_, _| ());
}
