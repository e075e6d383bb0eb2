//! What threads ask of the scheduler.

use super::{Back, Scheduler, falls_asleep, is_awake};
use crate::Cpu;
use crate::arch::tsc;
use crate::sched::thread::{Life, Main};
use crate::sched::{Priority, Sched, ThreadId, ThreadLocal};
use core::sync::atomic::Ordering::Relaxed;
use underfoot_abi::Wait;

impl Sched for Scheduler {
    fn current(&self, cpu: &Cpu) -> ThreadId {
        ThreadId(self.runs_on(cpu.id))
    }

    fn local<'a>(&'a self, cpu: &'a Cpu) -> &'a ThreadLocal {
        self.local_of(self.current(cpu))
    }

    fn local_of(&self, thread: ThreadId) -> &ThreadLocal {
        &self.threads[thread.0 as usize].local
    }

    fn park(&self, cpu: &Cpu) {
        let me = self.current(cpu).0;
        let thread = &self.threads[me as usize];
        if thread.token.take() {
            return;
        }
        let context = cpu.context();
        let open = cpu.ops.irq_save(cpu);
        // Before the token says so: after that others may say that it is awake.
        falls_asleep(cpu, context);
        if thread.token.sleep() {
            self.schedule(cpu, Back::Nowhere);
        }
        // Still parked if nobody else could run.
        thread.token.awake();
        is_awake(cpu, me, cpu.id);
        cpu.ops.irq_restore(cpu, open);
    }

    fn unpark(&self, cpu: &Cpu, thread: ThreadId) {
        let woken = &self.threads[thread.0 as usize];
        // Masked: who is taken from its sleep must not wait on no queue while others run here.
        let open = cpu.ops.irq_save(cpu);
        if woken.token.notify() {
            self.enqueue(cpu, thread.0);
        }
        cpu.ops.irq_restore(cpu, open);
    }

    fn is_alone(&self, cpu: &Cpu) -> bool {
        !self.is_wanted(cpu.id, Priority::IDLE.0 + 1)
    }

    fn yield_now(&self, cpu: &Cpu) {
        if self.is_wanted(cpu.id, self.level(cpu.id)) {
            let open = cpu.ops.irq_save(cpu);
            self.schedule(cpu, Back::Behind);
            cpu.ops.irq_restore(cpu, open);
        } else {
            core::hint::spin_loop();
        }
    }

    fn preempt(&self, cpu: &Cpu) {
        let context = cpu.context();
        // Masked, or in an interrupt: their end looks at the flag again.
        if context.masked() || context.in_interrupt() || !cpu.hold.is_preemptible() {
            return;
        }
        let open = cpu.ops.irq_save(cpu);
        self.make_way(cpu);
        cpu.ops.irq_restore(cpu, open);
    }

    fn bottom_halves(&self, cpu: &Cpu) {
        let context = cpu.context();
        if context.masked() || context.in_interrupt() || cpu.hold.holds_bottom_halves() {
            return;
        }
        let open = cpu.ops.irq_save(cpu);
        self.run_bottom_halves(cpu);
        cpu.ops.irq_restore(cpu, open);
    }

    fn boost(&self, cpu: &Cpu, thread: ThreadId, priority: Option<Priority>) {
        let boosted = &self.threads[thread.0 as usize];
        let on = boosted.cpu.load(Relaxed) as usize;
        let open = cpu.ops.irq_save(cpu);
        self.with_queue(cpu, on, |queue| {
            let waits = queue.remove(&self.threads, thread.0);
            let level = priority.map_or(0, |priority| priority.0);
            boosted.boosted.store(level, Relaxed);
            if waits {
                queue.push(&self.threads, thread.0, true);
            }
        });
        // It may be more urgent now than who runs, or run and be less urgent than who waits.
        self.urge(cpu, on);
        cpu.ops.irq_restore(cpu, open);
    }

    fn sleep_ns(&self, cpu: &Cpu, ns: u64) {
        let ticks = (u128::from(ns) << 32) / u128::from(cpu.ns_per_tick_q32.max(1));
        let deadline = tsc().saturating_add(ticks as u64);
        let me = self.current(cpu).0;
        let thread = &self.threads[me as usize];
        let sleepers = &self.places[cpu.id].sleepers;
        let before = cpu.context().wait();
        if before.0 == Wait::None {
            cpu.waits_for(Wait::Time, 0);
        }
        let open = cpu.ops.irq_save(cpu);
        thread.deadline_tsc.store(deadline, Relaxed);
        thread
            .next_sleeper
            .store(sleepers.swap(me, Relaxed), Relaxed);
        cpu.ops.irq_restore(cpu, open);
        // At least once: who sleeps gives way, be it for nothing.
        loop {
            self.park(cpu);
            if tsc() >= deadline {
                break;
            }
        }
        let open = cpu.ops.irq_save(cpu);
        self.forget_sleeper(cpu, me);
        cpu.ops.irq_restore(cpu, open);
        cpu.waits_for(before.0, before.1);
    }

    fn begin(&self, cpu: &'static Cpu) -> ! {
        self.finish_switch(cpu);
        let thread = &self.threads[self.current(cpu).0 as usize];
        let main = thread.main.load(Relaxed) as usize;
        // SAFETY: `prepare` stored a `Main` there.
        let main: Main = unsafe { core::mem::transmute::<usize, Main>(main) };
        cpu.ops.irq_restore(cpu, true);
        main(cpu, thread.argument.load(Relaxed) as usize);
        cpu.ops.irq_save(cpu);
        thread.life.store(Life::Leaving as u32, Relaxed);
        loop {
            self.schedule(cpu, Back::Nowhere);
        }
    }
}
