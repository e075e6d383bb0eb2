//! What loom explores of a window. A CPU writes to a page by its software TLB while another moves the
//! page: the frames are such that loom fails the model where two CPUs meet in one, and no write may be
//! missing in the frame that is mapped in the end.

use super::{State, Window, give_up, wait_until_mapped};
use crate::{
    Cpu, fixture,
    mm::pte::PteFlags,
    sync::{
        atomic::{
            AtomicU32, AtomicU64,
            Ordering::{Acquire, Relaxed, Release},
        },
        loom_models::{Shared, explore},
    },
    tlb::{Batch, Space, Tlb},
};
use loom::{
    sync::{Arc, Mutex},
    thread,
};

const PAGE: usize = 0x1000;
/// Addresses of the two frames.
const OLD: usize = 0x1000;
const NEW: usize = 0x2000;

/// The page's entry, its frames, and CPUs 0 and 1, both of which use the space.
struct Model {
    tlb: Tlb,
    space: Space,
    entry: AtomicU64,
    frames: [Shared; 2],
    over: AtomicU32,
}

/// How CPU 0 moves the page, and how CPU 1 takes a fault.
#[derive(Clone, Copy)]
struct Forms {
    move_page: fn(&Model, &Cpu),
    fault: fn(&Model, &Cpu),
    /// Whether the page must be in the new frame in the end; else it may be in either.
    commits: bool,
}

const RIGHT: Forms = Forms {
    move_page: Model::move_page,
    fault: Model::fault,
    commits: true,
};

impl Model {
    fn new() -> Arc<Self> {
        let flags = PteFlags::PRESENT | PteFlags::WRITABLE;
        let model = Arc::new(Self {
            tlb: Tlb::new(),
            // SAFETY: no table is ever loaded in a model.
            space: unsafe { Space::new(0) },
            entry: AtomicU64::new(OLD as u64 | flags.bits()),
            frames: [Shared::default(), Shared::default()],
            over: AtomicU32::new(0),
        });
        for id in 0..2 {
            let cpu = fixture::shared_cpu(id);
            model.tlb.activate(&cpu, None, &model.space);
        }
        model
    }

    fn frame(&self, address: usize) -> &Shared {
        &self.frames[address / PAGE - 1]
    }

    /// Writes to the page, and faults as long as nothing is mapped.
    fn write(&self, cpu: &Cpu, fault: fn(&Self, &Cpu)) {
        // Acquire: a table walk comes before the access, on x86-64.
        let walk = || match State::of(self.entry.load(Acquire)) {
            State::Mapped(frame) => Some(frame as u64),
            State::InFlight(_) | State::Nothing => None,
        };
        let write = |frame: u64| self.frame(frame as usize).add();
        while self.tlb.soft(cpu).access(cpu, PAGE, walk, write).is_none() {
            fault(self, cpu);
        }
    }

    fn fault(&self, cpu: &Cpu) {
        let mapped = wait_until_mapped(&self.entry, || {
            self.tlb.poll(cpu);
            thread::yield_now();
        });
        assert!(mapped.is_some(), "nothing is mapped");
    }

    /// Answers, and gives the window up if it still can.
    fn impatient_fault(&self, cpu: &Cpu) {
        wait_until_mapped(&self.entry, || {
            self.tlb.poll(cpu);
            give_up(&self.entry);
            thread::yield_now();
        });
    }

    fn move_page(&self, cpu: &Cpu) {
        let window = Window::open(&self.entry).expect("a page that is mapped");
        self.shoot(cpu);
        if let Some(copying) = window.begin_copy() {
            self.copy();
            copying.finish(NEW);
        }
    }

    fn shoot(&self, cpu: &Cpu) {
        let batch = Batch::page(PAGE);
        self.tlb.shoot_while(cpu, &self.space, &batch, || ());
    }

    fn copy(&self) {
        for _ in 0..self.frame(OLD).get() {
            self.frame(NEW).add();
        }
    }

    fn serve(&self, cpu: &Cpu) {
        while self.over.load(Acquire) == 0 {
            self.tlb.poll(cpu);
            thread::yield_now();
        }
    }
}

fn check(forms: Forms) {
    explore(3, move || {
        let model = Model::new();
        let writer = {
            let model = model.clone();
            thread::spawn(move || {
                let cpu = fixture::shared_cpu(1);
                model.write(&cpu, forms.fault);
                model.write(&cpu, forms.fault);
                model.serve(&cpu);
            })
        };
        (forms.move_page)(&model, &fixture::shared_cpu(0));
        model.over.store(1, Release);
        writer.join().expect("no panic");
        let State::Mapped(frame) = State::of(model.entry.load(Relaxed)) else {
            panic!("the page is not mapped in the end");
        };
        assert!(!forms.commits || frame == NEW, "the page has not moved");
        assert_eq!(model.frame(frame).get(), 2, "an update is lost");
    });
}

#[test]
fn loom_window_loses_no_write() {
    check(RIGHT);
}

/// The copy of `busted-guest-copy-mapped`.
#[test]
#[should_panic(expected = "Causality violation")]
fn loom_copy_of_a_mapped_page_is_caught() {
    check(Forms {
        move_page: |model, cpu| {
            model.copy();
            let window = Window::open(&model.entry).expect("a page that is mapped");
            model.shoot(cpu);
            window.begin_copy().expect("nobody gives it up").finish(NEW);
        },
        ..RIGHT
    });
}

/// The move of `busted-guest-no-shootdown`.
#[test]
#[should_panic(expected = "Causality violation")]
fn loom_copy_without_shootdown_is_caught() {
    check(Forms {
        move_page: |model, _| {
            let window = Window::open(&model.entry).expect("a page that is mapped");
            let copying = window.begin_copy().expect("nobody gives it up");
            model.copy();
            copying.finish(NEW);
        },
        ..RIGHT
    });
}

/// A handler that only spins, as in the thread, never answers the shootdown that its page waits for.
#[test]
#[should_panic(expected = "exceeded maximum number of branches")]
fn loom_handler_that_does_not_answer_hangs() {
    check(Forms {
        fault: |model, _| {
            wait_until_mapped(&model.entry, thread::yield_now);
        },
        ..RIGHT
    });
}

/// A handler that may give the window up, as that on the mover's own CPU, whatever the mover does.
#[test]
fn loom_window_that_is_given_up_loses_no_write() {
    check(Forms {
        fault: Model::impatient_fault,
        commits: false,
        ..RIGHT
    });
}

/// A window that is given up while its page is copied: both go on, each in its own frame.
#[test]
#[should_panic(expected = "Causality violation")]
fn loom_window_given_up_during_the_copy_is_caught() {
    check(Forms {
        move_page: |model, cpu| {
            let window = Window::open(&model.entry).expect("a page that is mapped");
            model.shoot(cpu);
            // The state is not changed, so that the window can still be given up.
            model.copy();
            if let Some(copying) = window.begin_copy() {
                copying.finish(NEW);
            }
        },
        fault: Model::impatient_fault,
        commits: false,
    });
}

/// CPU 1 touches the page with a lock held, and CPU 2 waits for that lock with interrupts masked: it
/// answers the shootdown only once it has had it. CPU 0 moves the page, and does `waiting` while it waits
/// for that answer.
fn masked_waiter(waiting: fn(&AtomicU64)) {
    explore(3, move || {
        let entry = Arc::new(AtomicU64::new(OLD as u64 | PteFlags::PRESENT.bits()));
        let lock = Arc::new(Mutex::new(()));
        let answered = Arc::new(AtomicU32::new(0));
        let holder = {
            let (entry, lock) = (entry.clone(), lock.clone());
            thread::spawn(move || {
                let _held = lock.lock().expect("no panic");
                wait_until_mapped(&entry, thread::yield_now);
            })
        };
        let waiter = {
            let answered = answered.clone();
            thread::spawn(move || {
                drop(lock.lock().expect("no panic"));
                answered.store(1, Release);
            })
        };
        let window = Window::open(&entry).expect("a page that is mapped");
        while answered.load(Acquire) == 0 {
            waiting(&entry);
            thread::yield_now();
        }
        if let Some(copying) = window.begin_copy() {
            copying.finish(NEW);
        }
        holder.join().expect("no panic");
        waiter.join().expect("no panic");
        let state = State::of(entry.load(Relaxed));
        assert!(matches!(state, State::Mapped(_)), "{state:?}");
    });
}

#[test]
fn loom_window_is_given_up_for_a_masked_waiter() {
    masked_waiter(|entry| {
        give_up(entry);
    });
}

/// A mover that waits for ever waits for CPU 2, which waits for CPU 1, which waits for the mover.
#[test]
#[should_panic(expected = "exceeded maximum number of branches")]
fn loom_patient_mover_and_masked_waiter_hang() {
    masked_waiter(|_| ());
}
