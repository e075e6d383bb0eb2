//! What loom explores: every order of steps of a few CPUs, and every value that a weak memory may
//! give them.

pub(super) mod sched;

use super::{
    SeqCount, SeqLock, TicketLock,
    atomic::{
        AtomicU32,
        Ordering::{Relaxed, Release},
    },
    backoff::Sleepers,
    lockdep::Unclassed,
};
use crate::{Cpu, arch::PrivOps, fixture};
use loom::{cell::UnsafeCell, model::Builder, sync::Arc, thread};

/// Explores `model` with at most this many preemptions in one execution, which finds all but the
/// most contrived faults (Musuvathi and Qadeer, PLDI 2007).
pub(crate) fn explore(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(model);
}

/// A value that loom lets nobody touch while another CPU writes it.
#[derive(Default)]
pub(crate) struct Shared(UnsafeCell<u32>);

impl Shared {
    pub(crate) fn add(&self) {
        // SAFETY: loom fails the model if anybody else is at the value.
        self.0.with_mut(|value| unsafe { *value += 1 });
    }

    pub(crate) fn get(&self) -> u32 {
        // SAFETY: loom fails the model if anybody writes the value.
        self.0.with(|value| unsafe { *value })
    }
}

// SAFETY: loom checks every access.
unsafe impl Sync for Shared {}
// SAFETY: an integer.
unsafe impl Send for Shared {}

/// Two CPUs add under a lock, the second only if `enter` lets it in.
fn ticket(enter: fn(&TicketLock<Shared, false>, &Cpu) -> bool) {
    explore(3, move || {
        let lock = Arc::new(TicketLock::<Shared, false>::new(Shared::default()));
        let thread = {
            let lock = lock.clone();
            thread::spawn(move || {
                let cpu = fixture::shared_cpu(0);
                lock.lock(&cpu).add();
                lock.lock(&cpu).add();
            })
        };
        let cpu = fixture::shared_cpu(1);
        let added = u32::from(enter(&lock, &cpu));
        thread.join().expect("no panic");
        assert_eq!(lock.lock(&cpu).get(), 2 + added);
    });
}

#[test]
fn loom_ticket_lock_excludes() {
    ticket(|lock, cpu| {
        lock.lock(cpu).add();
        true
    });
}

#[test]
fn loom_ticket_lock_out_of_turn_excludes() {
    ticket(|lock, cpu| {
        lock.lock_unfair(cpu).add();
        true
    });
}

#[test]
fn loom_ticket_lock_attempt_excludes() {
    ticket(|lock, cpu| lock.try_lock(cpu).map(|guard| guard.add()).is_some());
}

/// Counts kicks.
#[derive(Default)]
struct Kicks(AtomicU32);

impl PrivOps for Kicks {
    fn irq_save(&self, _cpu: &Cpu) -> bool {
        true
    }
    fn irq_restore(&self, _cpu: &Cpu, _open: bool) {}
    fn halt(&self, _cpu: &Cpu) {}
    fn kick(&self, _cpu: &Cpu, _id: usize) {
        self.0.fetch_add(1, Relaxed);
    }
    fn flush_page(&self, _address: usize) {}
    fn flush_all(&self) {}
    unsafe fn load_page_table(&self, _root: usize) {}
    unsafe fn write_msr(&self, _msr: u32, _value: u64) {}
    fn doorbell(&self, _value: u32) {}
    fn exit(&self, status: u32) -> ! {
        panic!("left with status {status}");
    }
    fn triple_fault(&self) -> ! {
        panic!("triple-faulted");
    }
}

/// One CPU lets go of what the other waits for; `enlist` is how the other one goes to sleep. If it
/// then does not see that its wait is over, it must be kicked with `kick`.
fn sleeper(enlist: fn(&Sleepers, &Cpu), kick: fn(&Sleepers, &Cpu)) {
    explore(3, move || {
        let ops: &'static Kicks = Box::leak(Box::default());
        let shared = Arc::new((Sleepers::new(), AtomicU32::new(0)));
        let cpu = |id| Cpu {
            ops,
            ..fixture::shared_cpu(id)
        };
        let waiter = {
            let (shared, cpu) = (shared.clone(), cpu(0));
            thread::spawn(move || {
                enlist(&shared.0, &cpu);
                shared.1.load(Relaxed) != 0
            })
        };
        shared.1.store(1, Release);
        kick(&shared.0, &cpu(1));
        let over = waiter.join().expect("no panic");
        assert!(over || ops.0.load(Relaxed) == 1, "sleeps for ever");
    });
}

#[test]
fn loom_sleeper_is_kicked() {
    sleeper(Sleepers::enlist, Sleepers::kick);
    sleeper(Sleepers::enlist, |sleepers, cpu| sleepers.kick_cpu(cpu, 0));
}

#[test]
#[should_panic(expected = "sleeps for ever")]
fn loom_sleeper_that_does_not_enlist_sleeps_for_ever() {
    sleeper(|_, _| (), Sleepers::kick);
}

/// A reader and a writer of two halves; `protected` is the right form.
fn seqcount(protected: bool) {
    explore(3, move || {
        let shared = Arc::new((SeqCount::new(), AtomicU32::new(0), AtomicU32::new(0)));
        let writer = {
            let shared = shared.clone();
            thread::spawn(move || {
                for value in 1..=2 {
                    if protected {
                        shared.0.write_begin();
                    }
                    shared.1.store(value, Relaxed);
                    shared.2.store(value, Relaxed);
                    if protected {
                        shared.0.write_end();
                    }
                }
            })
        };
        let cpu = fixture::shared_cpu(0);
        for begin in [
            SeqCount::read_begin_raw(&shared.0),
            shared.0.read_begin(&cpu),
        ] {
            let halves = (shared.1.load(Relaxed), shared.2.load(Relaxed));
            if !shared.0.read_retry(begin) {
                assert_eq!(halves.0, halves.1, "half of an update");
            }
        }
        writer.join().expect("no panic");
    });
}

#[test]
fn loom_seqcount_readers_see_whole_updates() {
    seqcount(true);
}

#[test]
#[should_panic(expected = "half of an update")]
fn loom_seqcount_forgotten_is_caught() {
    seqcount(false);
}

/// Two writers and a reader of two halves.
#[test]
fn loom_seqlock_writers_exclude_each_other() {
    explore(2, || {
        let shared = Arc::new((
            SeqLock::<false, Unclassed>::new(),
            AtomicU32::new(0),
            AtomicU32::new(0),
        ));
        let write = |shared: &(SeqLock, AtomicU32, AtomicU32), cpu: &Cpu| {
            let _writer = shared.0.write(cpu);
            shared.1.store(shared.1.load(Relaxed) + 1, Relaxed);
            shared.2.store(shared.2.load(Relaxed) + 1, Relaxed);
        };
        let other = {
            let shared = shared.clone();
            thread::spawn(move || write(&shared, &fixture::shared_cpu(0)))
        };
        let cpu = fixture::shared_cpu(1);
        write(&shared, &cpu);
        let begin = shared.0.read_begin(&cpu);
        let halves = (shared.1.load(Relaxed), shared.2.load(Relaxed));
        if !shared.0.read_retry(begin) {
            assert_eq!(halves.0, halves.1, "half of an update");
            assert!(halves.0 > 0);
        }
        other.join().expect("no panic");
        assert_eq!((shared.1.load(Relaxed), shared.2.load(Relaxed)), (2, 2));
    });
}
