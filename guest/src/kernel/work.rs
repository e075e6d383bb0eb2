//! What each CPU does once the kernel is up: the workload, then the audit, then nothing.

use super::state::{self, Kernel};
use super::{fail, ipi, mover, page_event, threads};
use core::fmt::Write;
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::{Relaxed, Release};
use underfoot_abi::{GuestState, Header, Phase, Variant};
use underfoot_guest::Cpu;
use underfoot_guest::arch::tsc;
use underfoot_guest::sched::{MAX_THREADS, Priority, ThreadId};
use underfoot_guest::sync::lockdep;
use underfoot_guest::tlb::{Batch, Way};

/// Operations between two TLB shootdowns by one CPU.
const SHOOTDOWN_EVERY: u64 = 16_384;
/// Operations of the boot CPU in a self-test.
const SELF_TEST_OPERATIONS: u64 = 50_000;
/// Ticks of a CPU after which a variant that dies does so, once pages move.
const DEADLY_TICKS: u64 = 25;
/// Ticks that find the CPU which is to get stuck without a lock, before it does so all the same.
const STUCK_TICKS: u64 = 50;
/// Those so far.
static FREE_TICKS: AtomicU64 = AtomicU64::new(0);

/// Works until the host says stop, audits on the boot CPU, and ends.
pub fn run(kernel: &'static Kernel, cpu: &'static Cpu) -> ! {
    if cpu.id != 0 {
        // Threads of the workload run here, or the idle thread.
        loop {
            cpu.sched.park(cpu);
        }
    }
    let header = kernel.shared.header;
    let cpus = header.cpus_up.load(Relaxed) as usize;
    let free = kernel.pages.free_pages(cpu);
    let count = kernel.workload.threads(cpus);
    let mut threads = [None; MAX_THREADS];
    for (number, thread) in threads.iter_mut().enumerate().take(count) {
        let seat = kernel.workload.seat(number, cpus);
        let made = threads::prepare(kernel, cpu, seat.cpu, seat.priority, work, number);
        *thread = Some(made.unwrap_or_else(|| {
            fail::out_of_memory(format_args!(
                "the workload's threads: {number} of {count} have their stacks"
            ))
        }));
    }
    let background = kernel.workload.memory().map(|memory| {
        let (last, priority) = (cpus - 1, Priority::RECLAIM);
        let made = threads::prepare(kernel, cpu, last, priority, make_room, 0);
        (memory, fail::wanted(made, "the reclaimer's thread"))
    });
    let mover = mover::prepare(kernel, cpu);
    let all = threads.into_iter().flatten().chain(mover);
    open(kernel, cpu, all.clone().chain(background.map(|(_, it)| it)));
    fail::print(format_args!(
        "underfoot guest: {} on {cpus} CPUs at CPL {}, {free} pages free",
        if kernel.shared.standalone {
            "self-test"
        } else {
            "up"
        },
        header.cpl_in_force.load(Relaxed),
    ));
    for thread in all {
        threads::join(kernel, cpu, thread);
    }
    if let Some((memory, thread)) = background {
        memory.stop_background(cpu);
        threads::join(kernel, cpu, thread);
    }
    finish(kernel, cpu)
}

/// Lets all threads run, none of which did before all were made, and says that the guest is up: the host
/// measures from then on.
fn open(kernel: &Kernel, cpu: &Cpu, threads: impl Iterator<Item = ThreadId>) {
    let header = kernel.shared.header;
    if kernel.shared.standalone {
        header.phase.store(Phase::Control as u32, Relaxed);
    }
    // Those that were started here would delay those that were not, and the word to the host.
    cpu.preempt_disable();
    for thread in threads {
        threads::start(cpu, thread);
    }
    // Release: the page map and the number of CPUs are final, and every thread of the workload can run.
    header.state.store(GuestState::Running as u32, Release);
    if !kernel.shared.standalone {
        cpu.ops.doorbell(GuestState::Running as u32);
    }
    cpu.preempt_enable();
}

/// The background reclaimer.
fn make_room(cpu: &'static Cpu, _: usize) {
    let kernel = state::kernel().expect("threads start once the kernel is whole");
    if let Some(memory) = kernel.workload.memory() {
        memory.run_background(cpu);
    }
}

fn work(cpu: &'static Cpu, number: usize) {
    let kernel = state::kernel().expect("threads start once the kernel is whole");
    // The first thread to get here says when: the others find it said.
    let _ = kernel
        .shared
        .header
        .first_operation_tsc
        .compare_exchange(0, tsc(), Relaxed, Relaxed);
    kernel.workload.run(cpu, number);
}

/// What happens after each of a thread's operations: now and then a shootdown; the end of a
/// self-test.
pub fn between(cpu: &Cpu, operations: u64) {
    let kernel = state::kernel().expect("threads start once the kernel is whole");
    let header = kernel.shared.header;
    if operations.is_multiple_of(SHOOTDOWN_EVERY) {
        let header = Batch::page(kernel.shared.range.0);
        ipi::shoot(cpu, ipi::TLB.kernel(), &header, Way::Ipi);
    }
    if kernel.shared.standalone && cpu.id == 0 && operations == SELF_TEST_OPERATIONS {
        header.phase.store(Phase::Stop as u32, Relaxed);
    }
}

/// In the tick: the variants that end the guest, once its pages move.
pub fn tick(header: &Header, cpu: &Cpu) {
    if header.variant == Variant::None as u32
        || header.phase.load(Relaxed) != Phase::Moving as u32
        || cpu.area.ticks.load(Relaxed) < DEADLY_TICKS
    {
        return;
    }
    if header.variant == Variant::Crash as u32 {
        // SAFETY: not safe at all: an invalid instruction, on purpose.
        unsafe { core::arch::asm!("ud2") };
    }
    if header.variant == Variant::Stuck as u32
        && cpu.id + 1 == header.cpus as usize
        && (holds_a_lock(cpu) || FREE_TICKS.fetch_add(1, Relaxed) >= STUCK_TICKS)
    {
        cpu.ops.irq_save(cpu);
        loop {
            core::hint::spin_loop();
        }
    }
    if header.variant == Variant::TripleFault as u32 {
        cpu.ops.triple_fault();
    }
}

/// Whether what the tick interrupted holds a lock.
fn holds_a_lock(cpu: &Cpu) -> bool {
    !cpu.area.holds.is_empty() || !cpu.thread_words().holds.is_empty()
}

/// Says which locks the lock-order checker has watched.
fn print_classes(cpu: &Cpu) {
    let mut line = fail::Line::new();
    lockdep::classes(cpu, |name| {
        // The writer cannot fail.
        let _ = write!(line, " {name}");
    });
    let names = core::str::from_utf8(line.as_bytes()).unwrap_or_default();
    fail::print(format_args!("lockdep: watched{names}"));
}

/// The boot CPU, all others being done: the audit, and the end.
fn finish(kernel: &Kernel, cpu: &Cpu) -> ! {
    let header = kernel.shared.header;
    let up = &kernel.shared.areas[..header.cpus_up.load(Relaxed) as usize];
    let sum = |count: fn(&underfoot_abi::VcpuArea) -> &AtomicU64| -> u64 {
        up.iter().map(|area| count(area).load(Relaxed)).sum()
    };
    mover::audit(kernel.shared);
    // SAFETY: the workload's threads have ended, and nobody else reads.
    let mut audit = unsafe { kernel.workload.audit(cpu) };
    audit.errors += u64::from(audit.updates != sum(|area| &area.updates));
    header.audit_checked.store(audit.checked, Relaxed);
    header.audit_errors.store(audit.errors, Relaxed);
    header.audit_updates.store(audit.updates, Relaxed);
    page_event::settle(cpu, kernel.shared, up.len());
    if lockdep::is_enabled() {
        print_classes(cpu);
    }
    // Release: the audit's words are final.
    header.state.store(GuestState::Done as u32, Release);
    if !kernel.shared.standalone {
        fail::exit(0);
    }
    let (errors, ticks, ipis) = (sum(|a| &a.errors), sum(|a| &a.ticks), sum(|a| &a.ipis));
    let grace_periods = header.grace_periods.load(Relaxed);
    fail::print(format_args!(
        "operations {}, checked {}, updates {}, errors {errors}, ticks {ticks}, IPIs {ipis}, \
         grace periods {grace_periods}",
        sum(|a| &a.progress),
        sum(|a| &a.checked),
        audit.updates,
    ));
    for area in up {
        let [address, found] = [0, 1].map(|word| area.first_error[word].load(Relaxed));
        if address != 0 {
            let kind = kernel.pages.kind(address as usize).kind().name();
            fail::print(format_args!(
                "first error at {address:#x} ({kind}): found {found:#x}"
            ));
        }
    }
    let works = |area: &underfoot_abi::VcpuArea| {
        area.progress.load(Relaxed) > 0 && area.ticks.load(Relaxed) > 0
    };
    let alive = up.iter().all(works) && grace_periods > 0 && (up.len() == 1 || ipis > 0);
    // Stalls of RCU don't count: how fast the TSC runs is a guess here.
    let sound = errors == 0 && audit.errors == 0 && alive;
    fail::print(format_args!(
        "self-test {}",
        if sound { "passed" } else { "FAILED" }
    ));
    fail::exit(u32::from(!sound))
}
