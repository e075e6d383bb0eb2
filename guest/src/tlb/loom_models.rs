//! What loom explores of shootdowns. In each model a page changes from one frame to another, and the
//! old frame is written once the shootdown is done: whoever still translates to it races with that, or
//! finds it written.

use super::{Batch, HostWords, Space, Tlb, Way, note};
use crate::{
    Cpu, fixture,
    sync::{
        atomic::{
            AtomicU8, AtomicU32, AtomicU64,
            Ordering::{AcqRel, Acquire, Relaxed, Release},
        },
        loom_models::{Shared, explore},
    },
};
use loom::{sync::Arc, thread};
use underfoot_abi::{VCPU_FLUSH_TLB, VCPU_PREEMPTED};

const PAGE: usize = 0x1000;

/// A page table of one entry, the frames it may name, and CPUs 0 and 1, both of which use the space.
struct Model {
    tlb: Tlb,
    space: Space,
    entry: AtomicU64,
    frames: [Shared; 3],
    over: AtomicU32,
}

impl Model {
    fn new() -> Arc<Self> {
        // Spaces are known by their addresses, so it is in its place before they are used.
        let model = Arc::new(Self {
            tlb: Tlb::new(),
            // SAFETY: no table is ever loaded in a model.
            space: unsafe { Space::new(0) },
            entry: AtomicU64::new(0),
            frames: [Shared::default(), Shared::default(), Shared::default()],
            over: AtomicU32::new(0),
        });
        for id in 0..2 {
            let cpu = fixture::shared_cpu(id);
            model.tlb.activate(&cpu, None, &model.space);
        }
        model
    }

    /// Reads the page, by the cached translation if there is one.
    fn read(&self, cpu: &Cpu) {
        let walk = || Some(self.entry.load(Relaxed));
        let frame = |entry: u64| self.frames[entry as usize].get();
        let found = self.tlb.soft(cpu).access(cpu, PAGE, walk, frame);
        assert_eq!(found, Some(0), "the frame was given up before");
    }

    /// Moves the page to frame `to`, and writes the frame that it had.
    fn remap(&self, cpu: &Cpu, to: u64) {
        let old = self.entry.swap(to, Relaxed);
        let batch = Batch::page(PAGE);
        self.tlb.shoot(cpu, &self.space, &batch, Way::Ipi);
        self.frames[old as usize].add();
    }

    /// Answers until `finished` CPUs have nothing more to ask.
    fn serve(&self, cpu: &Cpu, finished: u32, answer: fn(&Tlb, &Cpu)) {
        while self.over.load(Acquire) < finished {
            answer(&self.tlb, cpu);
            thread::yield_now();
        }
    }
}

/// CPU 0 remaps the page, CPU 1 reads it, answers by `answer`, and reads it again.
fn target(answer: fn(&Tlb, &Cpu)) {
    explore(3, move || {
        let model = Model::new();
        let reader = {
            let model = model.clone();
            thread::spawn(move || {
                let cpu = fixture::shared_cpu(1);
                model.read(&cpu);
                answer(&model.tlb, &cpu);
                model.read(&cpu);
                model.serve(&cpu, 1, answer);
            })
        };
        model.remap(&fixture::shared_cpu(0), 1);
        model.over.fetch_add(1, Release);
        reader.join().expect("no panic");
    });
}

#[test]
fn loom_shootdown_waits_for_the_flush() {
    target(Tlb::poll);
}

/// Acknowledges, and flushes nothing.
fn acknowledge_only(tlb: &Tlb, cpu: &Cpu) {
    if tlb.cpus[cpu.id].asked.swap(0, Acquire) != 0 {
        tlb.cpus[0].request.acknowledge(cpu);
    }
}

#[test]
#[should_panic(expected = "Causality violation")]
fn loom_answer_without_flush_is_caught() {
    target(acknowledge_only);
}

#[test]
fn loom_two_initiators_answer_each_other() {
    explore(2, || {
        let model = Model::new();
        let both = |model: &Model, id: usize| {
            let cpu = fixture::shared_cpu(id);
            model.read(&cpu);
            model.remap(&cpu, 1 + id as u64);
            model.over.fetch_add(1, Release);
            model.serve(&cpu, 2, Tlb::poll);
            model.read(&cpu);
        };
        let other = {
            let model = model.clone();
            thread::spawn(move || both(&model, 1))
        };
        both(&model, 0);
        other.join().expect("no panic");
    });
}

/// CPU 1 keeps the space lazily while CPU 0 remaps the page, and comes back by `resume`.
fn lazy(resume: fn(&Model, &Cpu)) {
    explore(3, move || {
        let model = Model::new();
        let keeper = {
            let model = model.clone();
            thread::spawn(move || {
                let cpu = fixture::shared_cpu(1);
                model.read(&cpu);
                model.tlb.be_lazy(&cpu);
                resume(&model, &cpu);
                model.read(&cpu);
                model.serve(&cpu, 1, Tlb::poll);
            })
        };
        model.remap(&fixture::shared_cpu(0), 1);
        model.over.fetch_add(1, Release);
        keeper.join().expect("no panic");
    });
}

#[test]
fn loom_lazy_cpu_catches_up_before_use() {
    lazy(|model, cpu| model.tlb.activate(cpu, None, &model.space));
}

#[test]
#[should_panic(expected = "Causality violation")]
fn loom_lazy_cpu_that_does_not_catch_up_is_caught() {
    lazy(|_, _| ());
}

/// A vCPU that is preempted between two reads, its host, and another vCPU that remaps the page.
/// `leave` leaves the note, `run` is what the host does to the word before it runs the vCPU again.
fn paravirtual(leave: fn(&AtomicU8) -> bool, run: fn(&AtomicU8) -> u8) {
    explore(3, move || {
        let shared = Arc::new((
            AtomicU8::new(0),
            AtomicU32::new(0), // the entry
            [Shared::default(), Shared::default()],
            [AtomicU32::new(0), AtomicU32::new(0)], // interrupt sent, all over
        ));
        let vcpu = {
            let shared = shared.clone();
            thread::spawn(move || {
                let (word, entry, frames, [interrupt, over]) = &*shared;
                let mut cached = entry.load(Relaxed);
                frames[cached as usize].get();
                // The vCPU loses its processor, and gets it again.
                word.store(VCPU_PREEMPTED, Release);
                if run(word) & VCPU_FLUSH_TLB != 0 {
                    cached = entry.load(Relaxed);
                }
                assert_eq!(frames[cached as usize].get(), 0, "given up before");
                while over.load(Acquire) == 0 {
                    if interrupt.load(Acquire) == 1 {
                        interrupt.store(2, Release);
                    }
                    thread::yield_now();
                }
            })
        };
        let (word, entry, frames, [interrupt, over]) = &*shared;
        entry.store(1, Relaxed);
        if !leave(word) {
            interrupt.store(1, Release);
            while interrupt.load(Acquire) != 2 {
                thread::yield_now();
            }
        }
        frames[0].add();
        over.store(1, Release);
        vcpu.join().expect("no panic");
    });
}

fn leave(word: &AtomicU8) -> bool {
    note::leave(word, || ())
}

fn exchange(word: &AtomicU8) -> u8 {
    word.swap(0, AcqRel)
}

#[test]
fn loom_paravirtual_flush_comes_before_the_vcpu_runs() {
    paravirtual(leave, exchange);
}

#[test]
#[should_panic(expected = "Causality violation")]
fn loom_host_that_does_not_exchange_loses_the_note() {
    paravirtual(leave, |word| {
        let found = word.load(Acquire);
        word.store(0, Release);
        found
    });
}

#[test]
#[should_panic(expected = "Causality violation")]
fn loom_note_without_compare_exchange_is_left_for_a_vcpu_that_runs() {
    let store = |word: &AtomicU8| {
        let preempted = word.load(Acquire) & VCPU_PREEMPTED != 0;
        if preempted {
            word.store(VCPU_PREEMPTED | VCPU_FLUSH_TLB, Release);
        }
        preempted
    };
    paravirtual(store, exchange);
}

/// A vCPU that its host stops in the midst of an access, by `access`, of several steps.
fn stopped_amid(access: fn(&Model, &Cpu, &dyn Fn(u64) -> u64) -> Option<u64>) {
    explore(3, move || {
        let model = Model::new();
        let held = Arc::new(AtomicU8::new(0));
        let vcpu = {
            let (model, held) = (model.clone(), held.clone());
            thread::spawn(move || {
                let cpu = fixture::shared_cpu(1);
                let found = access(&model, &cpu, &|entry| {
                    held.store(VCPU_PREEMPTED, Release);
                    exchange(&held);
                    u64::from(model.frames[entry as usize].get())
                });
                assert_eq!(found, Some(0), "given up before");
                model.serve(&cpu, 1, Tlb::poll);
            })
        };
        let cpu = fixture::shared_cpu(0);
        let old = model.entry.swap(1, Relaxed);
        let running = AtomicU8::new(0);
        let words = |_| {
            Some(HostWords {
                held: &held,
                preempted: &running,
            })
        };
        let batch = Batch::page(PAGE);
        model
            .tlb
            .shoot_with(&cpu, &model.space, &batch, Way::Pv, words);
        model.frames[old as usize].add();
        model.over.fetch_add(1, Release);
        vcpu.join().expect("no panic");
    });
}

#[test]
fn loom_vcpu_stopped_amid_an_access_is_asked() {
    stopped_amid(|model, cpu, frame| {
        let walk = || Some(model.entry.load(Relaxed));
        let soft = model.tlb.soft(cpu);
        soft.access_in_steps(cpu, PAGE, walk, |entry| Some(frame(entry)))
    });
}

/// The access that is done again after a flush is no good where its steps cannot be taken back.
#[test]
#[should_panic(expected = "Causality violation")]
fn loom_note_is_not_enough_amid_an_access() {
    stopped_amid(|model, cpu, frame| {
        let walk = || Some(model.entry.load(Relaxed));
        model.tlb.soft(cpu).access(cpu, PAGE, walk, frame)
    });
}

/// Both CPUs unmap the page, which each has read, and neither may use it afterwards, though one of them
/// finds that there is nothing to unmap any more. `beside` says whether that one shoots all the same.
fn unmapped_twice(beside: fn(&Space) -> bool) {
    explore(2, move || {
        let model = Model::new();
        let both = move |model: &Model, id: usize| {
            const NONE: u64 = 2;
            let cpu = fixture::shared_cpu(id);
            let walk = || Some(model.entry.load(Relaxed)).filter(|entry| *entry != NONE);
            let read = || {
                let soft = model.tlb.soft(&cpu);
                soft.access_in_steps(&cpu, PAGE, walk, Some)
            };
            read();
            model.space.begin_gather();
            // The page table's lock is in this exchange.
            let mut batch = Batch::new();
            if model.entry.swap(NONE, AcqRel) != NONE {
                batch.add(PAGE, 1);
            }
            if beside(&model.space) {
                batch = Batch::all();
            }
            model.tlb.shoot(&cpu, &model.space, &batch, Way::Ipi);
            model.space.end_gather();
            assert_eq!(read(), None, "used after it was unmapped");
            model.over.fetch_add(1, Release);
            model.serve(&cpu, 2, Tlb::poll);
        };
        let other = {
            let model = model.clone();
            thread::spawn(move || both(&model, 1))
        };
        both(&model, 0);
        other.join().expect("no panic");
    });
}

#[test]
fn loom_who_finds_a_page_gone_shoots_it_too() {
    unmapped_twice(Space::gathers_beside);
}

#[test]
#[should_panic(expected = "used after it was unmapped")]
fn loom_who_trusts_an_empty_entry_is_caught() {
    unmapped_twice(|_| false);
}
