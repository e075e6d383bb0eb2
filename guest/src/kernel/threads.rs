//! The kernel's threads: the scheduler, idle threads, stacks.

use super::boot::TICK_HZ;
use super::grace::FLAVOURS;
use super::ipi::TLB;
use super::state::{self, Kernel};
use super::{fail, mover};
use core::ops::Range;
use underfoot_abi::{PAGE_SIZE, PageByte, PageKind, Wait};
use underfoot_guest::Cpu;
use underfoot_guest::arch::tsc;
use underfoot_guest::sched::{Hooks, MAX_THREADS, Main, Priority, Sched, Scheduler, ThreadId};

/// The bottom half that runs RCU's callbacks.
pub const CALLBACKS: u32 = 0;

/// Stacks are 2^3 pages: as large as those that CPUs boot on.
const STACK_ORDER: usize = 3;
/// Those of idle threads hold a few nested interrupts.
const IDLE_STACK_ORDER: usize = 2;
/// Between two ticks of a CPU that works.
const TICK_NS: u32 = 1_000_000_000 / TICK_HZ;
/// An idle CPU stops its tick after so long: stopping it costs two exits.
const PATIENCE_NS: u64 = 10_000_000;

/// The guest's scheduler.
pub static SCHEDULER: Scheduler = Scheduler::new(Hooks {
    switch: |cpu, local, thread| {
        for rcu in &FLAVOURS {
            rcu.note_switch(cpu, local, thread);
        }
        // Whoever comes next may need no space; if it does, its first access says so.
        TLB.be_lazy(cpu);
    },
    bottom_halves,
});

const _: () = assert!(MAX_THREADS > 4 * underfoot_abi::MAX_CPUS);

/// What runs on this CPU becomes its main thread; an idle thread stands behind it.
pub fn start_on(kernel: &'static Kernel, cpu: &'static Cpu) {
    SCHEDULER.adopt(cpu, Priority::NORMAL);
    let (on, order) = (cpu.id, IDLE_STACK_ORDER);
    let idle_thread = prepare_with(kernel, cpu, on, Priority::IDLE, order, idle, 0);
    start(cpu, fail::wanted(idle_thread, "an idle thread"));
}

/// Makes a thread of CPU `on`, stack and all, that waits for [`start`]; `None` if there is no memory or no
/// number left.
pub fn prepare(
    kernel: &Kernel,
    cpu: &Cpu,
    on: usize,
    priority: Priority,
    main: Main,
    argument: usize,
) -> Option<ThreadId> {
    prepare_with(kernel, cpu, on, priority, STACK_ORDER, main, argument)
}

/// Lets a thread run that [`prepare`] made.
pub fn start(cpu: &Cpu, thread: ThreadId) {
    SCHEDULER.start(cpu, thread);
}

fn prepare_with(
    kernel: &Kernel,
    cpu: &Cpu,
    on: usize,
    priority: Priority,
    order: usize,
    main: Main,
    argument: usize,
) -> Option<ThreadId> {
    let bytes = PAGE_SIZE << order;
    let byte = PageByte::new(PageKind::Stack, false);
    let start = kernel.pages.allocate(cpu, order, byte)?;
    mover::note_stack(Some(on), start..start + bytes);
    // SAFETY: just allocated, mapped as all RAM is, a multiple of pages, and freed only by `join`.
    let thread = unsafe { SCHEDULER.prepare(on, priority, start..start + bytes, main, argument) };
    if thread.is_none() {
        // SAFETY: nobody else knows it.
        unsafe { kernel.pages.free(cpu, start, order) };
    }
    thread
}

/// Waits for a thread that [`start`] let run to end, and frees what it had.
pub fn join(kernel: &Kernel, cpu: &Cpu, thread: ThreadId) {
    let stack = SCHEDULER.join(cpu, thread);
    mover::note_stack(None, stack_around(stack));
    // SAFETY: allocated by `prepare` for this thread, which has left it for good.
    unsafe { kernel.pages.free(cpu, stack, STACK_ORDER) };
}

/// The stack that `address` lies in, one of those that [`prepare`] makes.
pub fn stack_around(address: usize) -> Range<usize> {
    // Blocks of pages are aligned to their size.
    let bytes = PAGE_SIZE << STACK_ORDER;
    let start = address & !(bytes - 1);
    start..start + bytes
}

/// What a CPU does when nothing can run: it halts, an extended quiescent state for RCU; after a
/// while without its tick.
fn idle(cpu: &'static Cpu, _: usize) {
    let kernel = state::kernel().expect("threads start once the kernel is whole");
    cpu.waits_for(Wait::Interrupt, 0);
    let mut busy_tsc = tsc();
    let mut switches = SCHEDULER.switches(cpu);
    loop {
        // Somebody ran: here again is a change of threads, too.
        if core::mem::replace(&mut switches, SCHEDULER.switches(cpu)) != switches {
            busy_tsc = tsc();
        }
        let open = cpu.ops.irq_save(cpu);
        if SCHEDULER.is_alone(cpu) {
            FLAVOURS.iter().for_each(|rcu| rcu.idle_enter(cpu));
            let patient = cpu.ns(tsc().saturating_sub(busy_tsc)) < PATIENCE_NS;
            let nap = if patient { None } else { nap_ns(cpu) };
            if let Some(ns) = nap {
                kernel.apic.set_tick_ns(ns);
            }
            cpu.ops.halt(cpu);
            if nap.is_some() {
                kernel.apic.set_tick_ns(TICK_NS);
                cpu.tick_phase.restart(tsc());
            }
            FLAVOURS.iter().for_each(|rcu| rcu.idle_exit(cpu));
        }
        cpu.ops.irq_restore(cpu, open);
        SCHEDULER.yield_now(cpu);
    }
}

/// How long this CPU may go without a tick: until the first of its threads is due, for ever (0) if
/// none sleeps until a time. `None` while it needs each one: for callbacks, or a thread due soon.
fn nap_ns(cpu: &Cpu) -> Option<u32> {
    if FLAVOURS.iter().any(|rcu| rcu.needs_cpu(cpu)) {
        return None;
    }
    let Some(deadline) = SCHEDULER.next_deadline(cpu) else {
        return Some(0);
    };
    let ns = cpu.ns(deadline.saturating_sub(tsc()));
    let ns = u32::try_from(ns).unwrap_or(u32::MAX);
    (ns > 2 * TICK_NS).then_some(ns)
}

fn bottom_halves(cpu: &Cpu, raised: u32) {
    if raised & (1 << CALLBACKS) != 0 {
        for rcu in &FLAVOURS {
            // What is left has its turn at the next tick.
            rcu.process(cpu);
        }
    }
}
