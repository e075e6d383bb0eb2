//! The workload `rcu-torture`: a self-test of RCU, as Linux's rcutorture is.
//!
//! Writers replace objects, and age the old ones by a stage with each grace period; a reader that
//! finds at the end of its section that its object is two stages old was not waited for.

use super::{
    audit::Audit,
    pipe::{Object, Pipe, TOO_OLD},
    plan::{Parameters, Seat, Workload, is_over},
    writer::dawdle,
};
use crate::random::Random;
use crate::{
    Cpu,
    arch::tsc,
    mm::{PageAllocator, ZeroValid},
    record::{self, Span, access},
    sched::Priority,
    sync::{RcuFlavour, RcuHead, RcuKind},
};
use core::{
    ptr::NonNull,
    sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
};
use underfoot_abi::{Metric, PageByte, PageKind, ReportKind, Variant};

/// Parameters, in the order of the contract.
pub(super) const KIND: usize = 0;
pub(super) const READERS: usize = 1;
pub(super) const WRITERS: usize = 2;
pub(super) const BOOST: usize = 3;
pub(super) const HOGS: usize = 4;

/// Counters, in the order of the contract.
const REMOVED: usize = 1;
const OLD: usize = 2;
const WRITES: usize = 3;
const SYNCHRONIZE: usize = 4;
const EXPEDITED: usize = 5;
const CALLS: usize = 6;
const STARVED: usize = 7;
const BURSTS: usize = 8;
const OVERDUE: usize = 9;
const BOOSTS: usize = 10;
const CALLBACKS_WAITING: usize = 11;
const BYTES_WAITING: usize = 12;

/// Readers that hold up a grace period for longer are boosted.
pub(super) const BOOST_AFTER_NS: u64 = 20_000_000;
/// How long a hog keeps a CPU at most, and how long it then leaves it alone.
const BURST_NS: u64 = 100_000_000;
/// Above readers and writers, below boosted readers.
const HOG: Priority = Priority(20);

/// The workload, shared by all threads.
pub struct Torture {
    rcu: &'static RcuFlavour<'static>,
    pipes: &'static [Pipe],
    /// One for each CPU; none without hogs.
    hogs: &'static [Hog],
    readers_each: usize,
    seed: u64,
    /// A reader has told the host of an error.
    reported: AtomicBool,
}

/// What a hog waits for while it keeps its CPU.
struct Hog {
    head: RcuHead,
    /// Its callback has run.
    done: AtomicU32,
}

// SAFETY: atomics and a head, for which zero is valid.
unsafe impl ZeroValid for Hog {}

impl Torture {
    /// Takes its pages; `flavours` are the kernel's machines, by [`RcuKind`]. `None` if there are not
    /// enough pages.
    #[must_use]
    pub fn build(
        cpu: &Cpu,
        pages: &'static PageAllocator,
        flavours: &'static [RcuFlavour<'static>; 3],
        parameters: &Parameters,
    ) -> Option<Self> {
        let byte = PageByte::new(PageKind::Slab, false);
        let rcu = &flavours[parameters[KIND] as usize % flavours.len()];
        rcu.set_boost((parameters[BOOST] != 0).then_some(BOOST_AFTER_NS));
        let writers = (parameters[WRITERS] as usize).max(1);
        let pipes = pages.zeroed_slice::<Pipe>(cpu, writers, byte)?;
        pipes.iter().for_each(Pipe::fill);
        let hogs = match parameters[HOGS] {
            0 => &[],
            _ => pages.zeroed_slice(cpu, cpu.header.cpus as usize, byte)?,
        };
        Some(Self {
            rcu,
            pipes,
            hogs,
            readers_each: (parameters[READERS] as usize).max(1),
            seed: cpu.header.seed,
            reported: AtomicBool::new(false),
        })
    }

    /// One section, in which some object is held for a while.
    pub(super) fn read(&self, cpu: &Cpu, random: &mut Random) {
        let span = Span::start(cpu);
        let pipe = &self.pipes[random.below(self.pipes.len())];
        let section = self.rcu.read_lock(cpu);
        let object = pipe.current();
        let generation = access(cpu, object.address(), || object.generation());
        self.linger(cpu, random);
        // Before the section ends.
        let found = access(cpu, object.address(), || object.age_since(generation));
        drop(section);
        record::checked(cpu, 1);
        match found {
            Ok(0) => {}
            Ok(age) if age < TOO_OLD => record::count(cpu, REMOVED, 1),
            Ok(age) => self.too_old(cpu, object, generation, u64::from(age)),
            Err(word) => self.too_old(cpu, object, generation, word),
        }
        span.finish(cpu, Metric::Operation);
        record::operation(cpu);
    }

    /// Stays in the section, as long as its kind allows: mostly briefly.
    fn linger(&self, cpu: &Cpu, random: &mut Random) {
        match (random.below(16), self.rcu.kind()) {
            (0, _) => (0..random.below(64)).for_each(|_| dawdle()),
            (1, _) => {
                let _nested = self.rcu.read_lock(cpu);
                dawdle();
            }
            (2, RcuKind::Sleepable) => cpu.sched.sleep_ns(cpu, 1),
            (2..6, RcuKind::Preemptible | RcuKind::Sleepable) => cpu.sched.yield_now(cpu),
            _ => {}
        }
    }

    #[cold]
    fn too_old(&self, cpu: &Cpu, object: &Object, generation: u64, found: u64) {
        record::count(cpu, OLD, 1);
        record::error(cpu, object.address(), found);
        if self.reported.swap(true, Relaxed) {
            return;
        }
        let (kind, completed) = (self.rcu.kind().name(), self.rcu.completed());
        record::report(
            cpu,
            ReportKind::RcuTorture,
            [object.address() as u64, found, generation, completed],
            format_args!(
                "{kind}: a reader's object, number {generation}, was {found:#x} stages old at the end of its \
                     section (or held that as its check word), grace period {completed} being over"
            ),
        );
    }

    /// Replaces the object of `pipe`, and ages the old one in the way whose turn it is.
    pub(super) fn write(&self, cpu: &Cpu, pipe: &'static Pipe, turn: usize) {
        let Some(old) = pipe.replace() else {
            record::count(cpu, STARVED, 1);
            cpu.sched.sleep_ns(cpu, 1);
            return self.process(cpu);
        };
        record::updated(cpu);
        record::count(cpu, WRITES, 1);
        let counter = match turn % 3 {
            // The variant whose grace periods never end must not be waited for.
            _ if cpu.header.variant == Variant::RcuStall as u32 => CALLS,
            0 => SYNCHRONIZE,
            1 => EXPEDITED,
            _ => CALLS,
        };
        record::count(cpu, counter, 1);
        if counter == CALLS {
            Pipe::call(cpu, self.rcu, old);
        } else {
            Pipe::keep(old);
            if counter == SYNCHRONIZE {
                self.rcu.synchronize(cpu);
            } else {
                self.rcu.synchronize_expedited(cpu);
            }
            pipe.grow_older();
        }
        self.process(cpu);
    }

    /// Samples the backlog, and works on it: the bottom half need not come in time.
    fn process(&self, cpu: &Cpu) {
        let backlog = self.rcu.backlog(cpu.id);
        record::peak(cpu, CALLBACKS_WAITING, backlog.callbacks);
        record::peak(cpu, BYTES_WAITING, backlog.bytes);
        self.rcu.process(cpu);
    }

    /// Keeps the CPU from readers until a grace period is over or the burst is, and then leaves it
    /// alone for a while (rcutorture's `rcu_torture_boost`).
    fn burst(&self, cpu: &Cpu, hog: &'static Hog) {
        let boosts = self.rcu.boosts(cpu.id);
        let began = tsc();
        hog.done.store(0, Relaxed);
        let value = core::ptr::from_ref(&hog.done).expose_provenance();
        // SAFETY: the head lives for ever, and is queued again only once its callback has run.
        unsafe {
            self.rcu
                .call(cpu, NonNull::from(&hog.head), finish, value, 0)
        };
        let done = || hog.done.load(Relaxed) != 0;
        while !done() && cpu.ns(tsc().saturating_sub(began)) < BURST_NS && !is_over(cpu) {
            core::hint::spin_loop();
        }
        record::count(cpu, BURSTS, 1);
        record::count(cpu, OVERDUE, u64::from(!done()));
        record::count(cpu, BOOSTS, self.rcu.boosts(cpu.id) - boosts);
        cpu.sched.sleep_ns(cpu, BURST_NS);
        while !done() && !is_over(cpu) {
            cpu.sched.sleep_ns(cpu, 1);
        }
    }

    /// What thread `number` is.
    fn role(&self, number: usize) -> Role {
        let (writers, hogs) = (self.pipes.len(), self.hogs.len());
        match number {
            _ if number < writers => Role::Writer(number),
            _ if number < writers + hogs => Role::Hog(number - writers),
            _ => Role::Reader(number - writers - hogs),
        }
    }

    /// The pipe of writer `number`.
    #[cfg(test)]
    pub(super) fn pipe(&self, number: usize) -> &'static Pipe {
        &self.pipes[number]
    }
}

/// What a thread does, and which one of those it is.
enum Role {
    Writer(usize),
    Hog(usize),
    Reader(usize),
}

/// The hog's grace period is over.
///
/// # Safety
/// `done` is the exposed address of an [`AtomicU32`] that lives for ever.
unsafe fn finish(_: &Cpu, _: NonNull<RcuHead>, done: usize) {
    // SAFETY: the caller's promise.
    let done = unsafe { &*core::ptr::with_exposed_provenance::<AtomicU32>(done) };
    done.store(1, Relaxed);
}

/// Writers, then hogs, then readers.
impl Workload for Torture {
    fn threads(&self, cpus: usize) -> usize {
        self.pipes.len() + self.hogs.len() + self.readers_each * cpus
    }

    fn seat(&self, number: usize, cpus: usize) -> Seat {
        let (index, priority) = match self.role(number) {
            Role::Writer(index) | Role::Reader(index) => (index, Priority::NORMAL),
            Role::Hog(index) => (index, HOG),
        };
        Seat {
            cpu: index % cpus,
            priority,
        }
    }

    fn run(&self, cpu: &'static Cpu, number: usize) {
        let mut random = Random::new(self.seed, number as u64);
        let role = self.role(number);
        let mut turn = number;
        while !is_over(cpu) {
            match role {
                Role::Writer(index) => self.write(cpu, &self.pipes[index], turn),
                Role::Hog(index) => self.burst(cpu, &self.hogs[index]),
                Role::Reader(_) => self.read(cpu, &mut random),
            }
            turn += 1;
        }
    }

    unsafe fn audit(&self, cpu: &Cpu) -> Audit {
        let before = cpu.area.errors.load(Relaxed);
        // SAFETY: the caller's promise.
        unsafe { self.rcu.drain(cpu) };
        let found = self.pipes.iter().map(|pipe| pipe.audit(cpu)).sum();
        Audit {
            checked: size_of_val(self.pipes) as u64 / size_of::<Object>() as u64,
            errors: cpu.area.errors.load(Relaxed) - before,
            updates: found,
        }
    }
}

#[cfg(test)]
mod tests;
