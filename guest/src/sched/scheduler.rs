//! The scheduler: a run queue per CPU, priorities, preemption on the tick and on wake-up.

mod calls;
#[cfg(all(test, not(loom)))]
mod tests;

use super::crossing::Crossing;
use super::run_queue::RunQueue;
use super::thread::{Life, Main, NOBODY, Thread};
use super::{MAX_THREADS, Priority, Sched, ThreadId, ThreadLocal};
use crate::Cpu;
use crate::arch::{new_stack, switch, tsc};
use crate::record;
use crate::sync::TicketLock;
use core::ops::Range;
use core::ptr::null_mut;
use core::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};
use core::sync::atomic::{AtomicPtr, AtomicU32};
use underfoot_abi::{Context, MAX_CPUS, Metric, ThreadWords, Wait};

/// What the kernel does as threads change.
#[derive(Clone, Copy)]
pub struct Hooks {
    /// A thread is about to lose its CPU; interrupts are masked.
    pub switch: fn(&Cpu, &ThreadLocal, ThreadId),
    /// Runs the bottom halves whose bits are given; interrupts are open.
    pub bottom_halves: fn(&Cpu, u32),
}

crate::lock_class!(RunQueueLock = "run_queue");

/// What each CPU has of its own.
struct Place {
    cpu: AtomicPtr<Cpu>,
    queue: TicketLock<RunQueue, false, RunQueueLock>,
    /// [`RunQueue::ready`], and the running thread's number less the CPU's.
    crossing: Crossing,
    /// Changes of threads so far; only the CPU itself.
    switches: AtomicU32,
    /// Who ran before, for the first steps of the thread that follows it.
    previous: AtomicU32,
    /// The first of those that sleep until a time.
    sleepers: AtomicU32,
}

/// Where the running thread goes when it makes way.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Back {
    /// It sleeps, or has ended.
    Nowhere,
    /// Before those of its priority: it was interrupted.
    Before,
    /// Behind them: it has had its turn.
    Behind,
}

/// All threads, and each CPU's run queue. Threads 0 to [`MAX_CPUS`] are those that boot CPUs.
pub struct Scheduler {
    threads: [Thread; MAX_THREADS],
    places: [Place; MAX_CPUS],
    hooks: Hooks,
}

impl Scheduler {
    /// Knows no CPU yet.
    #[must_use]
    pub const fn new(hooks: Hooks) -> Self {
        Self {
            threads: [const { Thread::new() }; MAX_THREADS],
            places: [const {
                Place {
                    cpu: AtomicPtr::new(null_mut()),
                    queue: TicketLock::new(RunQueue::new()),
                    crossing: Crossing::new(),
                    switches: AtomicU32::new(0),
                    previous: AtomicU32::new(0),
                    sleepers: AtomicU32::new(NOBODY),
                }
            }; MAX_CPUS],
            hooks,
        }
    }

    /// What runs on this CPU becomes a thread, with the CPU's number. Until then it must not sleep.
    pub fn adopt(&self, cpu: &'static Cpu, priority: Priority) {
        let thread = &self.threads[cpu.id];
        thread.cpu.store(cpu.id as u32, Relaxed);
        thread.base.store(priority.0, Relaxed);
        thread.life.store(Life::Alive as u32, Relaxed);
        cpu.area.thread.store(cpu.id as u32, Relaxed);
        // Release: who finds the CPU here may start threads on it.
        self.places[cpu.id]
            .cpu
            .store(core::ptr::from_ref(cpu).cast_mut(), Release);
    }

    /// Makes a thread of CPU `on`, which was adopted. It does not run before [`Self::start`]. `None` if there
    /// are too many threads.
    ///
    /// # Panics
    /// If CPU `on` was not adopted.
    ///
    /// # Safety
    /// `stack` must be mapped, aligned to 16 bytes, large enough for `main` and for interrupts, and
    /// nobody else's until [`Self::join`] returns it.
    pub unsafe fn prepare(
        &self,
        on: usize,
        priority: Priority,
        stack: Range<usize>,
        main: Main,
        argument: usize,
    ) -> Option<ThreadId> {
        let place = &self.places[on];
        // Pairs with the release in `adopt`.
        let home = place.cpu.load(Acquire);
        assert!(!home.is_null(), "CPU {on} runs no threads");
        let number = self.claim()?;
        let thread = &self.threads[number as usize];
        thread.cpu.store(on as u32, Relaxed);
        thread.base.store(priority.0, Relaxed);
        thread.context.store(Context::MASKED, Relaxed);
        thread.stack.store(stack.start as u64, Relaxed);
        thread.main.store(main as usize as u64, Relaxed);
        thread.argument.store(argument as u64, Relaxed);
        // SAFETY: the stack is the new thread's by the caller's promise, and no CPU knows the
        // thread before it is queued.
        unsafe {
            *thread.stack_pointer.get() =
                new_stack(stack.end, first_step, home.expose_provenance());
        }
        Some(ThreadId(number))
    }

    /// Lets a thread run that [`Self::prepare`] made; once for each.
    pub fn start(&self, cpu: &Cpu, thread: ThreadId) {
        self.enqueue(cpu, thread.0);
    }

    /// Waits until a thread has ended, and gives its number back. Returns its stack's lowest address.
    pub fn join(&self, cpu: &Cpu, thread: ThreadId) -> usize {
        let ended = &self.threads[thread.0 as usize];
        ended.joiner.store(self.current(cpu).0 + 1, SeqCst);
        let before = cpu.context().wait();
        cpu.waits_for(Wait::Thread, thread.0);
        // Pairs with `finish_switch`: its stack is free. SeqCst: this sees its end, or it the joiner.
        while ended.life.load(SeqCst) != Life::Gone as u32 {
            self.park(cpu);
        }
        cpu.waits_for(before.0, before.1);
        ended.joiner.store(0, Relaxed);
        let stack = ended.stack.load(Relaxed) as usize;
        ended.life.store(Life::Free as u32, Release);
        stack
    }

    /// Whether anybody else can run on CPU `on` at level `least` or above.
    fn is_wanted(&self, on: usize, least: u8) -> bool {
        self.places[on].crossing.is_wanted(least)
    }

    /// The number of the thread that runs on CPU `on`.
    fn runs_on(&self, on: usize) -> u32 {
        self.places[on].crossing.current().wrapping_add(on as u32)
    }

    /// The level of the thread that runs on CPU `on`.
    fn level(&self, on: usize) -> u8 {
        self.threads[self.runs_on(on) as usize].priority().0
    }

    /// How often this CPU has changed threads, modulo 2^32.
    #[must_use]
    pub fn switches(&self, cpu: &Cpu) -> u32 {
        self.places[cpu.id].switches.load(Relaxed)
    }

    /// When the first of those threads of this CPU is due that sleep until a time, as a TSC value.
    /// Interrupts masked.
    #[must_use]
    pub fn next_deadline(&self, cpu: &Cpu) -> Option<u64> {
        let mut first = None;
        let mut number = self.places[cpu.id].sleepers.load(Relaxed);
        while number != NOBODY {
            let thread = &self.threads[number as usize];
            let deadline = thread.deadline_tsc.load(Relaxed);
            first = Some(first.map_or(deadline, |first: u64| first.min(deadline)));
            number = thread.next_sleeper.load(Relaxed);
        }
        first
    }

    /// In the tick, interrupts masked: wakes who slept long enough, and ends turns.
    pub fn tick(&self, cpu: &Cpu) {
        self.wake_due(cpu);
        if self.is_wanted(cpu.id, self.level(cpu.id)) {
            cpu.hold.reschedule.store(true, Relaxed);
        }
    }

    /// In any other interrupt: looks whether somebody more urgent was woken.
    pub fn interrupt(&self, cpu: &Cpu) {
        if self.is_wanted(cpu.id, self.level(cpu.id) + 1) {
            cpu.hold.reschedule.store(true, Relaxed);
        }
    }

    /// At the end of an interrupt that came while the context word was `interrupted`, masked:
    /// runs bottom halves and changes threads, if either is due and possible.
    pub fn interrupt_exit(&self, cpu: &Cpu, interrupted: Context) {
        if interrupted.masked() || interrupted.in_interrupt() {
            return;
        }
        if cpu.hold.has_due() {
            self.run_bottom_halves(cpu);
        }
        if cpu.hold.reschedule.load(Relaxed) && cpu.hold.is_preemptible() {
            let word = &cpu.area.context;
            word.store(interrupted.0 | Context::MASKED, Relaxed);
            self.make_way(cpu);
        }
    }

    /// Interrupts masked; opens them meanwhile.
    fn run_bottom_halves(&self, cpu: &Cpu) {
        let before = cpu.context();
        let word = &cpu.area.context;
        let inside = Context::INTERRUPT | Context::BOTTOM_HALF | Context::MASKED;
        word.store(before.0 | inside, Relaxed);
        cpu.hold.run_bottom_halves(|raised| {
            cpu.ops.irq_restore(cpu, true);
            (self.hooks.bottom_halves)(cpu, raised);
            cpu.ops.irq_save(cpu);
        });
        word.store(before.0, Relaxed);
    }

    /// The running thread, which is none of the idle ones, leaves its CPU until [`Self::resume`]: whatever it is in the
    /// midst of, its token untouched. Interrupts masked.
    pub fn suspend(&self, cpu: &Cpu) {
        falls_asleep(cpu, cpu.context().with_wait(Wait::Page, 0));
        self.schedule(cpu, Back::Nowhere);
    }

    /// A thread of this CPU that was suspended runs as soon as nobody more urgent does: it had not given up its turn.
    /// Interrupts masked.
    pub fn resume(&self, cpu: &Cpu, thread: ThreadId) {
        let resumed = &self.threads[thread.0 as usize];
        is_awake(cpu, thread.0, cpu.id);
        resumed.woken_tsc.store(tsc(), Relaxed);
        self.with_queue(cpu, cpu.id, |queue| {
            queue.push(&self.threads, thread.0, true);
        });
        if resumed.priority().0 >= self.level(cpu.id) {
            cpu.hold.reschedule.store(true, Relaxed);
        }
    }

    /// The running thread's turn is over, or somebody more urgent is here. Interrupts masked.
    fn make_way(&self, cpu: &Cpu) {
        let back = if self.is_wanted(cpu.id, self.level(cpu.id) + 1) {
            Back::Before
        } else {
            Back::Behind
        };
        self.schedule(cpu, back);
    }

    /// Runs the most urgent thread. Interrupts masked.
    fn schedule(&self, cpu: &Cpu, back: Back) {
        cpu.hold.reschedule.store(false, Relaxed);
        let me = self.current(cpu).0;
        let next = self.with_queue(cpu, cpu.id, |queue| {
            if back != Back::Nowhere {
                queue.push(&self.threads, me, back == Back::Before);
            }
            queue.pop(&self.threads)
        });
        // Before there is an idle thread a sleep ends early.
        if let Some(next) = next
            && next != me
        {
            self.change(cpu, me, next);
        }
    }

    fn change(&self, cpu: &Cpu, me: u32, next: u32) {
        let place = &self.places[cpu.id];
        let switches = place.switches.load(Relaxed);
        place.switches.store(switches.wrapping_add(1), Relaxed);
        let (old, new) = (&self.threads[me as usize], &self.threads[next as usize]);
        (self.hooks.switch)(cpu, &old.local, ThreadId(me));
        let woken = new.woken_tsc.swap(0, Relaxed);
        if let (1.., Some(phase)) = (woken, record::phase(cpu)) {
            let waited = cpu.ns(tsc().saturating_sub(woken));
            record::record(cpu, phase, Metric::Sched, waited);
        }
        old.context.store(cpu.area.context.load(Relaxed), Relaxed);
        cpu.area.context.store(new.context.load(Relaxed), Relaxed);
        place.previous.store(me, Relaxed);
        // Who was queued just now is seen here, or sees whom it has to interrupt.
        place.crossing.set_current(next.wrapping_sub(cpu.id as u32));
        cpu.area.thread.store(next, Relaxed);
        if self.is_wanted(cpu.id, new.priority().0 + 1) {
            cpu.hold.reschedule.store(true, Relaxed);
        }
        // SAFETY: the pointer was saved by `change` or made by `new_stack`, and is used once: a
        // thread is in one queue, of the CPU that it belongs to. Interrupts are masked.
        unsafe { switch(old.stack_pointer.get(), *new.stack_pointer.get()) };
        self.finish_switch(cpu);
    }

    /// The first thing that a thread does on a CPU again.
    fn finish_switch(&self, cpu: &Cpu) {
        let before = self.places[cpu.id].previous.load(Relaxed);
        let thread = &self.threads[before as usize];
        if thread.life.load(Relaxed) == Life::Leaving as u32 {
            // Pairs with the acquire in `join`. SeqCst: the joiner is seen here, or sees this.
            thread.life.store(Life::Gone as u32, SeqCst);
            if let Some(joiner) = thread.joiner.load(SeqCst).checked_sub(1) {
                self.unpark(cpu, ThreadId(joiner));
            }
        }
    }

    fn claim(&self) -> Option<u32> {
        let free = |thread: &Thread| {
            thread
                .life
                .compare_exchange(Life::Free as u32, Life::Alive as u32, AcqRel, Relaxed)
                .is_ok()
        };
        let number = MAX_CPUS + self.threads[MAX_CPUS..].iter().position(free)?;
        let thread = &self.threads[number];
        thread.token.reset();
        thread.boosted.store(0, Relaxed);
        thread.deadline_tsc.store(0, Relaxed);
        Some(number as u32)
    }

    /// Puts a thread that sleeps nowhere on the queue of its CPU, and sees to it that it runs.
    fn enqueue(&self, cpu: &Cpu, number: u32) {
        let thread = &self.threads[number as usize];
        let on = thread.cpu.load(Relaxed) as usize;
        is_awake(cpu, number, on);
        thread.woken_tsc.store(tsc(), Relaxed);
        let open = cpu.ops.irq_save(cpu);
        self.with_queue(cpu, on, |queue| queue.push(&self.threads, number, false));
        self.urge(cpu, on);
        cpu.ops.irq_restore(cpu, open);
    }

    /// Interrupts CPU `on` if somebody can run there who is more urgent than what it does.
    fn urge(&self, cpu: &Cpu, on: usize) {
        self.places[on].crossing.cross();
        if !self.is_wanted(on, self.level(on) + 1) {
            return;
        }
        if on == cpu.id {
            cpu.hold.reschedule.store(true, Relaxed);
        } else {
            cpu.ops.kick(cpu, on);
        }
    }

    /// Interrupts masked.
    fn with_queue<T>(&self, cpu: &Cpu, on: usize, work: impl FnOnce(&mut RunQueue) -> T) -> T {
        let place = &self.places[on];
        let mut queue = place.queue.lock_unfair(cpu);
        let value = work(&mut queue);
        place.crossing.set_ready(queue.ready());
        value
    }

    fn wake_due(&self, cpu: &Cpu) {
        let now = tsc();
        let mut number = self.places[cpu.id].sleepers.load(Relaxed);
        while number != NOBODY {
            let thread = &self.threads[number as usize];
            if thread.deadline_tsc.load(Relaxed) <= now {
                self.unpark(cpu, ThreadId(number));
            }
            number = thread.next_sleeper.load(Relaxed);
        }
    }

    /// Takes a thread out of those that sleep until a time. Interrupts masked.
    fn forget_sleeper(&self, cpu: &Cpu, number: u32) {
        let mut link = &self.places[cpu.id].sleepers;
        while link.load(Relaxed) != number {
            link = &self.threads[link.load(Relaxed) as usize].next_sleeper;
        }
        let next = self.threads[number as usize].next_sleeper.load(Relaxed);
        link.store(next, Relaxed);
    }
}

/// Tells the host that the running thread is about to sleep, in this context.
fn falls_asleep(cpu: &Cpu, context: Context) {
    let words = cpu.thread_words();
    words.context.store(context.0, Relaxed);
    words
        .place
        .store(cpu.id as u32 | ThreadWords::ASLEEP, Relaxed);
}

/// Tells the host that a thread of CPU `on` sleeps no more.
fn is_awake(cpu: &Cpu, number: u32, on: usize) {
    let words = &cpu.header.threads[number as usize];
    words.place.store(on as u32, Relaxed);
}

/// A new thread's first function, on its own stack; `cpu` is the address of its CPU.
unsafe extern "sysv64" fn first_step(cpu: usize) -> ! {
    // SAFETY: `prepare` passes the address of a CPU that was adopted, which lives for ever.
    let cpu: &'static Cpu = unsafe { &*core::ptr::with_exposed_provenance(cpu) };
    cpu.sched.begin(cpu)
}
