//! What the kernel does when KVM says that a page is away, and that it is there again.
//!
//! Nothing here is kept from moving. What this code, its stack and its table touch may be away too: interrupts are
//! masked in here, and then KVM does not tell (CPL 0), or the trap layer goes back to the access, on which KVM halts
//! the CPU (CPL 3). The words by which KVM tells are touched by KVM and by the trap layer, which sleep in the host
//! until the page of these is there.

use super::shared::Shared;
use super::state::Kernel;
use super::threads::SCHEDULER;
use core::ptr::with_exposed_provenance;
use core::sync::atomic::{
    AtomicU32, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};
use underfoot_abi::{Context, MAX_CPUS, PageEvents, Variant, Wait};
use underfoot_firmware::{CpuHeader, DROPPED_TOKENS, VECTOR_READY, header_page};
use underfoot_guest::arch::{Kvm, tsc};
use underfoot_guest::page_event::{BROADCAST, Ready, Waiters};
use underfoot_guest::sched::{Sched, ThreadId};
use underfoot_guest::{Cpu, record};

/// Long beside a window. What is told later is not waited for.
const PATIENCE_NS: u64 = 1_000_000_000;

static WAITERS: [Waiters; MAX_CPUS] = [const { Waiters::new() }; MAX_CPUS];
/// Tokens taken from [`CpuHeader::dropped_tokens`] so far, by CPU.
static TAKEN: [AtomicU32; MAX_CPUS] = [const { AtomicU32::new(0) }; MAX_CPUS];

/// Has KVM tell this CPU of pages that are away, if the host wants that. There is an idle thread to run meanwhile.
pub fn start(kernel: &Kernel, cpu: &Cpu) {
    if kernel.shared.header.page_events == 0 {
        return;
    }
    let words = &header(cpu.id).page_event;
    assert!(
        Kvm::detect(cpu.ops).tell_of_pages(cpu, words, VECTOR_READY),
        "this KVM tells of no pages that are away"
    );
}

/// KVM says that the page of `token` is away, which the interrupted code needs. On its stack, interrupts masked.
pub fn not_present(cpu: &Cpu, token: u32) {
    let interrupted = cpu.context();
    cpu.set_masked(true);
    let (events, waiters) = (&cpu.area.page_events, &WAITERS[cpu.id]);
    take_dropped(cpu);
    count(&events.not_present);
    if may_sleep(cpu, interrupted) {
        sleep(cpu, events, waiters, token);
    } else {
        // Whoever cannot sleep goes back to the access: KVM, which does not tell twice, halts the vCPU there until
        // the page is ready or an interrupt comes.
        waiters.stays(token);
        count(&events.halted);
        record::page_wait(cpu, Context::HALTED);
    }
    SCHEDULER.interrupt_exit(cpu, interrupted);
    cpu.area.context.store(interrupted.0, Relaxed);
}

/// Whether the interrupted thread may give up its CPU: wherever it can be preempted, and in a timed access, which
/// only for its own sake cannot be.
fn may_sleep(cpu: &Cpu, interrupted: Context) -> bool {
    let is_idle = interrupted.wait().0 == Wait::Interrupt;
    let hold = &cpu.hold;
    let is_free =
        hold.is_preemptible() || hold.is_preemptible_but_for_one() && record::is_in_access(cpu);
    is_free && !is_idle && !interrupted.in_interrupt()
}

fn sleep(cpu: &Cpu, events: &PageEvents, waiters: &Waiters, token: u32) {
    let preempt = cpu.hold.set_aside();
    let access = record::suspend_access(cpu);
    // What came with it is let in, for it may be the page itself; but no other thread, which would run for longer.
    cpu.preempt_disable();
    cpu.ops.irq_restore(cpu, true);
    cpu.ops.irq_save(cpu);
    cpu.hold.set_aside();
    if waiters.sleeps(token, SCHEDULER.current(cpu)) {
        count(&events.switched);
        record::page_wait(cpu, Context::SWITCHED);
        SCHEDULER.suspend(cpu);
    } else {
        count(&events.early);
        record::page_wait(cpu, Context::EARLY);
    }
    record::resume_access(cpu, access);
    cpu.hold.put_back(preempt);
}

/// KVM's interrupt: a page is there again. Interrupts masked.
pub fn ready(cpu: &Cpu) {
    let words = &header(cpu.id).page_event;
    let (events, waiters) = (&cpu.area.page_events, &WAITERS[cpu.id]);
    take_dropped(cpu);
    match words.token.load(Relaxed) {
        0 => return count(&events.spurious),
        BROADCAST => {
            count(&events.broadcasts);
            waiters.ready_all(|thread| wake(cpu, thread));
        }
        token => {
            count(&events.ready);
            match waiters.ready(token) {
                Ready::Sleeper(thread) => wake(cpu, thread),
                Ready::Nobody => {}
                Ready::Early if cpu.header.variant == Variant::LostWake as u32 => {}
                Ready::Early => waiters.note_early(token),
            }
        }
    }
    words.token.store(0, Relaxed);
    Kvm::take_next_page(cpu);
}

fn wake(cpu: &Cpu, thread: ThreadId) {
    count(&cpu.area.page_events.woken);
    SCHEDULER.resume(cpu, thread);
}

/// Takes note of the pages of which KVM told while nobody could be told. Interrupts masked.
fn take_dropped(cpu: &Cpu) {
    let (header, taken) = (header(cpu.id), &TAKEN[cpu.id]);
    let events = &cpu.area.page_events;
    loop {
        let number = taken.load(Relaxed);
        // Each look anew: taking note may meet another page.
        if number == header.dropped.load(Acquire) {
            return;
        }
        let token = header.dropped_tokens[number as usize % DROPPED_TOKENS].load(Relaxed);
        WAITERS[cpu.id].stays(token);
        count(&events.not_present);
        count(&events.masked);
        taken.store(number.wrapping_add(1), Release);
    }
}

/// Waits until KVM has said of every page that it is there, once nothing moves any more: the counts are final then.
pub fn settle(cpu: &Cpu, shared: &Shared, cpus: usize) {
    let began = tsc();
    let is_settled = |id: usize| {
        let (header, events) = (header(id), &shared.areas[id].page_events);
        header.dropped.load(Acquire) == TAKEN[id].load(Acquire)
            && events.not_present.load(Acquire) == events.ready.load(Acquire)
            && WAITERS[id].is_empty()
    };
    while !(0..cpus).all(is_settled) && cpu.ns(tsc().saturating_sub(began)) < PATIENCE_NS {
        cpu.sched.sleep_ns(cpu, 0);
    }
}

/// Only this CPU counts, with interrupts masked.
fn count(word: &AtomicU64) {
    word.store(word.load(Relaxed) + 1, Release);
}

fn header(id: usize) -> &'static CpuHeader {
    assert!(id < MAX_CPUS);
    // SAFETY: the image holds as many headers; they are all atomics, and stay.
    unsafe { &*with_exposed_provenance(header_page(id)) }
}
