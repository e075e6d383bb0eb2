//! One thread per CPU: the one that booted it.

use core::sync::atomic::Ordering::Relaxed;
use underfoot_abi::MAX_CPUS;
use underfoot_guest::Cpu;
use underfoot_guest::sched::{Priority, Sched, ThreadId, ThreadLocal};

/// Nothing to choose from.
pub struct OneEach;

/// The guest's scheduler.
pub static SCHEDULER: OneEach = OneEach;

static LOCALS: [ThreadLocal; MAX_CPUS] = [const { ThreadLocal::new() }; MAX_CPUS];

impl Sched for OneEach {
    fn current(&self, cpu: &Cpu) -> ThreadId {
        ThreadId(cpu.id as u32)
    }
    fn local<'a>(&'a self, cpu: &'a Cpu) -> &'a ThreadLocal {
        &LOCALS[cpu.id]
    }
    fn local_of(&self, thread: ThreadId) -> &ThreadLocal {
        &LOCALS[thread.0 as usize]
    }
    fn park(&self, _cpu: &Cpu) {
        core::hint::spin_loop();
    }
    fn unpark(&self, _cpu: &Cpu, _thread: ThreadId) {}
    fn yield_now(&self, _cpu: &Cpu) {
        core::hint::spin_loop();
    }
    fn preempt(&self, cpu: &Cpu) {
        cpu.hold.reschedule.store(false, Relaxed);
    }
    fn bottom_halves(&self, _cpu: &Cpu) {}
    fn boost(&self, _cpu: &Cpu, _thread: ThreadId, _priority: Option<Priority>) {}
    fn sleep_ns(&self, _cpu: &Cpu, _ns: u64) {
        core::hint::spin_loop();
    }
}
