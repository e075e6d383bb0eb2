//! A scheduler over loom's threads, one per CPU, whose sleepers sleep until they are woken.

use crate::{
    Cpu, fixture,
    sched::{Priority, Sched, ThreadId, ThreadLocal},
};
use loom::{
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    thread,
};
use std::sync::Mutex;

/// CPUs, and threads, of a model.
const CPUS: usize = 3;

/// One execution's scheduler.
pub(in crate::sync) struct ModelSched {
    locals: [ThreadLocal; CPUS],
    /// Wake-ups that were not slept for yet. Relaxed throughout: that an unpark brings about a
    /// return from park orders nothing else.
    woken: [AtomicU32; CPUS],
    /// Who sleeps for good, by loom's own means. Without it sleepers spin.
    asleep: Option<Mutex<[Option<thread::Thread>; CPUS]>>,
}

impl ModelSched {
    /// Runs `model`, which joins its threads, with a scheduler of its own.
    pub(in crate::sync) fn run(model: impl FnOnce(&'static Self)) {
        Self::with(None, model);
    }

    /// As [`Self::run`], for more threads than can spin: here loom lets a wake-up publish what came
    /// before it, so this is not to find missing orderings. Sleepers must not join threads.
    pub(in crate::sync) fn run_asleep(model: impl FnOnce(&'static Self)) {
        Self::with(Some(Mutex::default()), model);
    }

    fn with(
        asleep: Option<Mutex<[Option<thread::Thread>; CPUS]>>,
        model: impl FnOnce(&'static Self),
    ) {
        let sched = Box::into_raw(Box::new(Self {
            locals: [const { ThreadLocal::new() }; CPUS],
            woken: core::array::from_fn(|_| AtomicU32::new(0)),
            asleep,
        }));
        // SAFETY: made here, and freed below at the earliest.
        model(unsafe { &*sched });
        // SAFETY: the threads that had the reference have ended. 100,000 executions would leak too
        // much.
        drop(unsafe { Box::from_raw(sched) });
    }

    /// CPU `id`, on which thread `id` runs.
    pub(in crate::sync) fn cpu(&'static self, id: usize) -> Cpu {
        Cpu {
            sched: self,
            ..fixture::shared_cpu(id)
        }
    }

    /// Whether thread `id` was woken since it last slept.
    pub(in crate::sync) fn is_woken(&self, id: usize) -> bool {
        self.woken[id].load(Relaxed) != 0
    }
}

impl Sched for ModelSched {
    fn current(&self, cpu: &Cpu) -> ThreadId {
        ThreadId(cpu.id as u32)
    }
    fn local<'a>(&'a self, cpu: &'a Cpu) -> &'a ThreadLocal {
        &self.locals[cpu.id]
    }
    fn local_of(&self, thread: ThreadId) -> &ThreadLocal {
        &self.locals[thread.0 as usize]
    }
    fn park(&self, cpu: &Cpu) {
        if let Some(asleep) = &self.asleep {
            asleep.lock().expect("no panic")[cpu.id] = Some(thread::current());
        }
        while self.woken[cpu.id].swap(0, Relaxed) == 0 {
            match self.asleep {
                Some(_) => thread::park(),
                None => thread::yield_now(),
            }
        }
    }
    fn unpark(&self, _cpu: &Cpu, thread: ThreadId) {
        // Read-modify-write: loom lets a plain store come before a swap that did not see it.
        let number = thread.0 as usize;
        self.woken[number].swap(1, Relaxed);
        if let Some(asleep) = &self.asleep {
            let sleeper = asleep.lock().expect("no panic")[number].clone();
            if let Some(sleeper) = sleeper {
                sleeper.unpark();
            }
        }
    }
    fn is_alone(&self, _cpu: &Cpu) -> bool {
        true
    }
    fn yield_now(&self, _cpu: &Cpu) {
        thread::yield_now();
    }
    fn preempt(&self, _cpu: &Cpu) {}
    fn bottom_halves(&self, _cpu: &Cpu) {}
    fn boost(&self, _cpu: &Cpu, _thread: ThreadId, _priority: Option<Priority>) {}
    fn sleep_ns(&self, _cpu: &Cpu, _ns: u64) {
        thread::yield_now();
    }
    fn begin(&self, _cpu: &'static Cpu) -> ! {
        unreachable!("nobody starts threads here")
    }
}
