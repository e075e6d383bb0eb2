//! CPUs with more than one thread each, for tests and models: threads change where the test says so.

use super::RcuFlavour;
#[cfg(not(loom))]
use super::{PreemptRcu, Rcu, RcuStall, SrcuDomain};
use crate::{
    Cpu,
    sched::{Priority, Sched, ThreadId, ThreadLocal},
};
use std::sync::{
    OnceLock,
    atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed},
};

/// CPUs at most.
const CPUS: usize = 4;
/// Threads of each CPU: numbers `id`, `id + CPUS`, …
const THREADS: usize = 4;

/// Ticks that a thread which yields is away at most.
const TURNS: usize = 16;

/// A scheduler whose threads are names: the test does what each of them does.
pub struct Rig {
    locals: [ThreadLocal; CPUS * THREADS],
    current: [AtomicU32; CPUS],
    /// Priorities given by `boost`; 0 for none.
    pub boosts: [AtomicU8; CPUS * THREADS],
    /// Threads that were woken, a bit each.
    pub unparked: AtomicU64,
    /// What hears of the switches that `yield_now` and its like make.
    rcu: OnceLock<RcuFlavour<'static>>,
}

impl Rig {
    /// One of its own, for ever.
    pub fn leak() -> &'static Self {
        Box::leak(Box::new(Self {
            locals: [const { ThreadLocal::new() }; CPUS * THREADS],
            current: std::array::from_fn(|id| AtomicU32::new(id as u32)),
            boosts: [const { AtomicU8::new(0) }; CPUS * THREADS],
            unparked: AtomicU64::new(0),
            rcu: OnceLock::new(),
        }))
    }

    /// The same CPU under this scheduler.
    pub fn cpu(&'static self, cpu: Cpu) -> Cpu {
        Cpu { sched: self, ..cpu }
    }

    /// From now on a thread that yields or sleeps is switched out for another one, for a while.
    #[cfg_attr(loom, expect(dead_code, reason = "models switch by hand"))]
    pub fn hear(&self, rcu: RcuFlavour<'static>) {
        assert!(self.rcu.set(rcu).is_ok(), "once");
    }

    /// Switches the CPU to its thread number `index`.
    pub fn switch(&self, rcu: RcuFlavour<'_>, cpu: &Cpu, index: usize) {
        let open = cpu.ops.irq_save(cpu);
        rcu.note_switch(cpu, self.local(cpu), self.current(cpu));
        self.current[cpu.id].store((cpu.id + index * CPUS) as u32, Relaxed);
        cpu.ops.irq_restore(cpu, open);
    }

    /// Lets thread 1 of the CPU run for a while, or until a whole grace period is over that began
    /// after somebody heard of the last one, if some machine hears of it.
    fn step_aside(&self, cpu: &Cpu) {
        let Some(rcu) = self.rcu.get() else {
            return relax();
        };
        self.switch(*rcu, cpu, 1);
        let before = rcu.completed();
        // CPU 0 is the one that waits for the others.
        let turns = if cpu.id == 0 { 1 } else { TURNS };
        for _ in 0..turns {
            if rcu.completed() > before + 2 {
                break;
            }
            rcu.tick(cpu, cpu.context());
            relax();
        }
        self.switch(*rcu, cpu, 0);
    }
}

impl Sched for Rig {
    fn current(&self, cpu: &Cpu) -> ThreadId {
        ThreadId(self.current[cpu.id].load(Relaxed))
    }
    fn local<'a>(&'a self, cpu: &'a Cpu) -> &'a ThreadLocal {
        self.local_of(self.current(cpu))
    }
    fn local_of(&self, thread: ThreadId) -> &ThreadLocal {
        &self.locals[thread.0 as usize]
    }
    fn park(&self, cpu: &Cpu) {
        self.step_aside(cpu);
    }
    fn unpark(&self, _cpu: &Cpu, thread: ThreadId) {
        self.unparked.fetch_or(1 << thread.0, Relaxed);
    }
    fn is_alone(&self, _cpu: &Cpu) -> bool {
        true
    }
    fn yield_now(&self, cpu: &Cpu) {
        self.step_aside(cpu);
    }
    fn preempt(&self, cpu: &Cpu) {
        cpu.hold.reschedule.store(false, Relaxed);
    }
    fn bottom_halves(&self, _cpu: &Cpu) {}
    fn boost(&self, _cpu: &Cpu, thread: ThreadId, priority: Option<Priority>) {
        self.boosts[thread.0 as usize].store(priority.map_or(0, |p| p.0), Relaxed);
    }
    fn sleep_ns(&self, cpu: &Cpu, _ns: u64) {
        self.step_aside(cpu);
    }
    fn begin(&self, _cpu: &'static Cpu) -> ! {
        unreachable!("nobody starts threads here")
    }
}

/// A machine of each kind, by its number.
#[cfg(not(loom))]
pub fn machines(
    stall_timeout_ns: u64,
    report: fn(&Cpu, &RcuStall),
) -> &'static [RcuFlavour<'static>; 3] {
    let classic = Rcu::new(stall_timeout_ns, report);
    let preemptible = PreemptRcu::new(stall_timeout_ns, report);
    let sleepable = SrcuDomain::new(stall_timeout_ns, report);
    Box::leak(Box::new([
        RcuFlavour::Classic(Box::leak(Box::new(classic))),
        RcuFlavour::Preemptible(Box::leak(Box::new(preemptible))),
        RcuFlavour::Sleepable(Box::leak(Box::new(sleepable))),
    ]))
}

/// The others' turn.
fn relax() {
    #[cfg(loom)]
    loom::thread::yield_now();
    #[cfg(not(loom))]
    std::thread::yield_now();
}
